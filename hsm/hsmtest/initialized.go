package hsmtest

import (
	"os"
	"path/filepath"
	"testing"

	p11 "github.com/miekg/pkcs11"
)

// Initialized makes a SoftHSM token with a label and a user PIN, and has this test and its programs find it by SOFTHSM2_CONF.
func Initialized(t *testing.T, label, pin string) {
	t.Helper()
	dir := Dir(t)
	conf := filepath.Join(dir, "softhsm2.conf")
	must(t, os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600))
	t.Setenv("SOFTHSM2_CONF", conf)
	lib := p11.New(Module)
	must(t, lib.Initialize())
	defer lib.Destroy()
	defer lib.Finalize()
	slots, err := lib.GetSlotList(false)
	must(t, err)
	must(t, lib.InitToken(slots[0], "so-pin-1", label))
	slots, err = lib.GetSlotList(true)
	must(t, err)
	sh, err := lib.OpenSession(slots[0], p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	must(t, err)
	must(t, lib.Login(sh, p11.CKU_SO, "so-pin-1"))
	must(t, lib.InitPIN(sh, pin))
}
