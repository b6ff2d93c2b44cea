package desk

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/keyrelease/krabox/image"
)

const (
	actSign = "sign-image"

	secureBootBits = 2048 // what all firmware knows
	secureBootLife = 20   // years; firmware does not look at it
)

// MakeSecureBoot makes the keys for the firmware of the domain's machines. db signs images; KEK and PK change what a machine's firmware
// believes, and are needed for nothing else. The keys are encrypted to
// somebody, or plain.
func MakeSecureBoot(dir, name string, to ...age.Recipient) error {
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(image.FileDB)), 0o700); err != nil {
		return fmt.Errorf("make Secure Boot keys: %w", err)
	}
	for _, file := range []string{image.FilePK, image.FileKEK, image.FileDB} {
		if err := makeFirmwareKey(filepath.Join(dir, file), name+" "+strings.TrimSuffix(filepath.Base(file), ".cer"), to); err != nil {
			return fmt.Errorf("make Secure Boot keys: %w", err)
		}
	}
	return nil
}

func makeFirmwareKey(file, name string, to []age.Recipient) error {
	k, err := rsa.GenerateKey(rand.Reader, secureBootBits)
	if err != nil {
		return err
	}
	now := time.Now()
	t := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(secureBootLife, 0, 0),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, k.Public(), k)
	if err != nil {
		return err
	}
	p8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return err
	}
	defer clear(p8)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p8})
	defer clear(text)
	if err := writeKey(filepath.Dir(file), strings.TrimSuffix(filepath.Base(file), ".cer"), text, to); err != nil {
		return err
	}
	return writeWhole(file, der, 0o644)
}

// firmwareSigner is the key under which the domain's firmware believes images.
func (d *Desk) firmwareSigner() (image.Signer, error) {
	keys, err := image.ReadSecureBoot(d.dir)
	if err != nil {
		return image.Signer{}, err
	}
	s := image.Signer{}
	if s.Certificate, err = x509.ParseCertificate(keys.DB); err != nil {
		return s, err
	}
	text, err := d.secret(strings.TrimSuffix(image.FileDB, ".cer"))
	if err != nil {
		return s, err
	}
	defer clear(text)
	block := firstBlock(text, "PRIVATE KEY")
	if block == nil {
		return s, errors.New("the Secure Boot key's file holds no key")
	}
	defer clear(block)
	k, err := x509.ParsePKCS8PrivateKey(block)
	if err != nil {
		return s, errors.New("the Secure Boot key is not in PKCS #8")
	}
	var ok bool
	if s.Key, ok = k.(crypto.Signer); !ok {
		return s, errors.New("the Secure Boot key is not one that signs")
	}
	return s, nil
}

// SignUKI signs an image for the firmware of the domain's machines.
func (d *Desk) SignUKI(uki []byte) ([]byte, error) {
	s, err := d.firmwareSigner()
	if err != nil {
		return nil, err
	}
	return image.SignUKI(uki, s)
}

// SignImage signs a built image, in the folder where mkimage left it, for the firmware of the domain's machines.
func (d *Desk) SignImage(dist string) error {
	s, err := d.firmwareSigner()
	if err != nil {
		return err
	}
	m, err := image.Sign(dist, s)
	if err != nil {
		return err
	}
	return d.note(actSign, m.Version, map[string]string{"commit": m.Commit, "image": m.Files[image.FileUKI].SHA256.String(), "signed": m.Files[image.FileSigned].SHA256.String()})
}

func runSign(args []string, out, talk io.Writer) error {
	f := flags("sign", talk)
	dir := f.String("dir", "", "folder of the domain")
	uki := f.String("uki", "", "the image as built, beside its manifest (dist/kra.efi)")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	if err := need(f, "dir", "uki"); err != nil {
		return err
	}
	if filepath.Base(*uki) != image.FileUKI {
		return errors.New("sign: -uki is the file " + image.FileUKI + " of a built image")
	}
	d, err := openDesk(f, *dir)
	if err != nil {
		return err
	}
	if err := agree(f); err != nil {
		return err
	}
	dist := filepath.Dir(*uki)
	if err := d.SignImage(dist); err != nil {
		return err
	}
	_, err = fmt.Fprintf(talk, "signed for Secure Boot: %s, and %s with it\n", filepath.Join(dist, image.FileSigned), filepath.Join(dist, image.FileDisk))
	return err
}
