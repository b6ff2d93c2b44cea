package tpmtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A Vendor is a maker of TPMs: swtpm's local certificate authority in a folder of its own.
type Vendor struct{ dir string }

// NewVendor makes one. It ends with the test.
func NewVendor(t testing.TB) Vendor {
	t.Helper()
	v := Vendor{t.TempDir()}
	for name, text := range map[string]string{
		"setup.conf":      "create_certs_tool=/usr/bin/swtpm_localca\ncreate_certs_tool_config=%[1]s/localca.conf\ncreate_certs_tool_options=%[1]s/localca.options\n",
		"localca.conf":    "statedir=%[1]s\nsigningkey=%[1]s/issuer.key\nissuercert=%[1]s/issuer.pem\ncertserial=%[1]s/serial\n",
		"localca.options": "--platform-manufacturer Example\n--platform-model Example\n--platform-version 1\n",
	} {
		if err := os.WriteFile(filepath.Join(v.dir, name), fmt.Appendf(nil, text, v.dir), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// Certificates are the files of its root and issuing authority, in PEM. They are there after its first TPM.
func (v Vendor) Certificates() []string {
	return []string{filepath.Join(v.dir, "swtpm-localca-rootca-cert.pem"), filepath.Join(v.dir, "issuer.pem")}
}

// New starts a fresh TPM that holds an RSA-2048 endorsement key and its certificate.
func (v Vendor) New(t testing.TB) *TPM {
	t.Helper()
	dir, err := os.MkdirTemp("", "tpm") // short: a socket's path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	out, err := exec.Command("swtpm_setup", "--tpm2", "--tpmstate", "dir://"+dir, "--create-ek-cert", "--config", filepath.Join(v.dir, "setup.conf"),
		"--vmid", "test", "--overwrite").CombinedOutput()
	if err != nil {
		t.Fatalf("swtpm_setup: %v: %s", err, out)
	}
	return start(t, dir)
}
