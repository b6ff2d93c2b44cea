package admin

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/boot/disks/diskstest"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/tpmtest"
)

// A measured event is one that firmware writes into its log, and extends a register by.
type measured struct {
	pcr  int
	typ  uint32
	data string
}

func (m measured) digest() [32]byte { return sha256.Sum256([]byte(m.data)) }

// eventLog is a log in the form of the TCG's profile (crypto-agile, little-endian).
func eventLog(all []measured) []byte {
	le := binary.LittleEndian
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0)
	b := le.AppendUint32(le.AppendUint32(nil, 0), 3)
	b = append(b, make([]byte, 20)...)
	b = append(le.AppendUint32(b, uint32(len(spec))), spec...)
	for _, m := range all {
		digest := m.digest()
		b = le.AppendUint32(le.AppendUint32(le.AppendUint32(b, uint32(m.pcr)), m.typ), 1)
		b = append(le.AppendUint16(b, 0x0b), digest[:]...)
		b = append(le.AppendUint32(b, uint32(len(m.data))), m.data...)
	}
	return b
}

// TestSystemEvents: the console shows what the firmware's log says, and whether the TPM bears it out.
func TestSystemEvents(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "domain")
	if err := desk.Init(folder, "example"); err != nil {
		t.Fatal(err)
	}
	d, err := desk.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	all := []measured{{0, 8, "version 1"}, {4, 0x80000003, "\\EFI\\BOOT\\BOOTX64.EFI\x1b[2J of a long path that has no end in sight"}, {8, 13, "menuentry"}, {7, 4, "\x00\x00\x00\x00"}}
	file, chip := filepath.Join(t.TempDir(), "log"), tpmtest.New(t)
	for _, m := range all {
		chip.Extend(t, m.pcr, m.digest())
	}
	write := func(log []byte) {
		t.Helper()
		if err := os.WriteFile(file, log, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(eventLog(all))
	w := &world{t: t, dir: t.TempDir(), body: &body1{rack: diskstest.New(t)}, desk: d}
	w.tpmd = tpmtest.StartDaemon(t, tpmtest.DaemonConfig{TPM: chip, State: t.TempDir(), Domain: d.Domain(), EventLog: file})
	w.become(New(Config{Mode: console.Factory, Domain: d.Domain(), Version: "v1", TPM: w.tpmd.Client, Machine: w.body, Health: func() []string { return nil }, Install: w.install}))
	w.has("system events", "4    EV_EFI_BOOT_SERVICES_APPLICATION  ", "\\EFI\\BOOT\\BOOTX64.EFI [2J…", "8    EV_IPL ", "menuentry", "7    EV_SEPARATOR ", "in all        4 events",
		"replay        the log adds up to what the TPM has\n")
	if err := w.tpmd.Init.Extend(t.Context(), label.Running); err != nil {
		t.Fatal(err)
	}
	w.has("system events", "PCR 14        extended after the log, by this box, to stage running", "apart from what was")

	write(eventLog(all[:3])) // one event is left out
	text := strings.Join(strings.Fields(w.do("system events")), " ")
	for _, part := range []string{"PCR 7 DIFFERS: the log adds up to 0000000000000000…, the TPM has ", "replay DOES NOT ADD UP in 1 register:", "PCR 14 extended after the log"} {
		if !strings.Contains(text, part) {
			t.Errorf("system events lacks %q:\n%s", part, text)
		}
	}
	var object struct {
		Rows []map[string]string `json:"rows"`
		PCR7 string              `json:"pcr_7"`
	}
	if err := json.Unmarshal([]byte(w.do("system events | json")), &object); err != nil || len(object.Rows) != 3 || len(object.Rows[0]["sha-256"]) != 64 || !strings.HasPrefix(object.PCR7, "DIFFERS") {
		t.Errorf("as an object: %+v, %v", object, err)
	}

	for log, want := range map[string]string{"": "there is no event log", "rubbish": "does not begin with a Spec ID event"} {
		write([]byte(log))
		if out, o := w.try("system events"); out != "" || !strings.Contains(strings.Join(strings.Fields(o.Error), " "), want) {
			t.Errorf("with %q for a log: %q, %+v", log, out, o)
		}
	}
}
