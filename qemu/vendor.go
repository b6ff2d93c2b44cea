package qemu

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// A Vendor is a maker of software TPMs: swtpm's local certificate authority, in a folder of its own. Its word is worth as much as
// that folder is kept.
type Vendor struct{ dir string }

// Files of a vendor, as swtpm_localca calls them.
const (
	vendorRoot   = "swtpm-localca-rootca-cert.pem"
	vendorIssuer = "issuer.pem"
	vendorSetup  = "setup.conf"
)

// NewVendor makes a vendor in dir, or opens the one that is there.
func NewVendor(dir string) (Vendor, error) {
	b, err := folder(dir)
	if err != nil {
		return Vendor{}, fmt.Errorf("new vendor: %w", err)
	}
	v := Vendor(b)
	for name, text := range map[string]string{
		vendorSetup:       "create_certs_tool=/usr/bin/swtpm_localca\ncreate_certs_tool_config=%[1]s/localca.conf\ncreate_certs_tool_options=%[1]s/localca.options\n",
		"localca.conf":    "statedir=%[1]s\nsigningkey=%[1]s/issuer.key\nissuercert=%[1]s/" + vendorIssuer + "\ncertserial=%[1]s/serial\n",
		"localca.options": "--platform-manufacturer Example\n--platform-model Example\n--platform-version 1\n",
	} {
		if err := os.WriteFile(filepath.Join(v.dir, name), fmt.Appendf(nil, text, v.dir), 0o600); err != nil {
			return Vendor{}, fmt.Errorf("new vendor: %w", err)
		}
	}
	return v, nil
}

// Equip gives a box that was never started a TPM of this vendor: with an endorsement key, a certificate of it, and only the
// register bank that the product uses.
func (v Vendor) Equip(b Box) error {
	out, err := exec.Command("swtpm_setup", "--tpm2", "--tpmstate", "dir://"+b.TPM(), "--create-ek-cert", "--overwrite", "--pcr-banks", "sha256",
		"--config", filepath.Join(v.dir, vendorSetup), "--vmid", filepath.Base(b.dir)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("equip box with a TPM: %w: %s", err, out)
	}
	return nil
}

// Certificates are the vendor's authorities, in PEM. They are there after its first TPM.
func (v Vendor) Certificates() ([]byte, error) {
	var all bytes.Buffer
	for _, name := range []string{vendorRoot, vendorIssuer} {
		b, err := os.ReadFile(filepath.Join(v.dir, name))
		if err != nil {
			return nil, fmt.Errorf("read vendor: %w", err)
		}
		all.Write(b)
	}
	return all.Bytes(), nil
}
