package repository

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/attrcert"
)

// An Entry is one thing that the repository says. It is made by Access, Decryptor or Attributes.
type Entry struct{ body body }

// body is an entry as it is signed. Exactly one of the first three is set.
type body struct {
	Access     *kra.PublicKey `json:"access,omitempty"`
	Decryptor  *decryptor     `json:"decryptor,omitempty"`
	Attributes []byte         `json:"attributes,omitempty"` // DER of an attribute certificate
	span

	chain       []*x509.Certificate
	certificate attrcert.Certificate
}

// decryptor is a decryptor's certificate: the name that the leaf has, and DER, leaf first.
type decryptor struct {
	Name         string   `json:"name"`
	Certificates [][]byte `json:"certificates"`
}

// Access says which key encryptors use for an access identifier.
func Access(k kra.PublicKey) (Entry, error) { return closed(body{Access: &k}) }

// Decryptor says what a decryptor's certificate is; chain has it first, and then what leads towards its anchor.
func Decryptor(chain ...*x509.Certificate) (Entry, error) {
	if len(chain) == 0 {
		return Entry{}, errors.New("make repository entry: no certificate")
	}
	name, err := nameOf(chain[0], kra.WholeName)
	if err != nil {
		return Entry{}, fmt.Errorf("make repository entry: %w", err)
	}
	d := &decryptor{Name: name}
	for _, c := range chain {
		d.Certificates = append(d.Certificates, c.Raw)
	}
	return closed(body{Decryptor: d})
}

// Attributes publishes an attribute certificate.
func Attributes(c attrcert.Certificate) (Entry, error) { return closed(body{Attributes: c.Raw()}) }

func closed(b body) (Entry, error) {
	if err := b.check(); err != nil {
		return Entry{}, fmt.Errorf("make repository entry: %w", err)
	}
	return Entry{b}, nil
}

// nameOf returns a certificate's name in one naming. Whose word the name is, only an anchor can say.
func nameOf(c *x509.Certificate, n kra.Naming) (string, error) {
	d, err := kra.DecryptorOf("repository", n, c)
	return d.Name(), err
}

// check closes what the entry says; the span is checked where it is used.
func (b *body) check() (err error) {
	switch {
	case b.Access != nil && b.Decryptor == nil && b.Attributes == nil:
		var raw []byte
		if raw, err = (kra.Directory{Keys: []kra.PublicKey{*b.Access}}).Encode(); err == nil {
			_, err = kra.ParseDirectory(raw)
		}
	case b.Decryptor != nil && b.Access == nil && b.Attributes == nil:
		b.chain, err = b.Decryptor.parse()
	case b.Attributes != nil && b.Access == nil && b.Decryptor == nil:
		b.certificate, err = attrcert.Parse(b.Attributes)
	default:
		err = errors.New("entry says not one thing")
	}
	return err
}

func (d decryptor) parse() ([]*x509.Certificate, error) {
	if len(d.Certificates) == 0 || len(d.Certificates) > maxCertificates {
		return nil, fmt.Errorf("%d certificates, want 1 to %d", len(d.Certificates), maxCertificates)
	}
	var chain []*x509.Certificate
	for _, der := range d.Certificates {
		c, err := x509.ParseCertificate(der)
		if err == nil {
			err = kra.CheckCertificateKey(c) // whoever is asked for by name, has these verified
		}
		if err != nil {
			return nil, err
		}
		chain = append(chain, c)
	}
	if name, err := nameOf(chain[0], kra.WholeName); err != nil || name != d.Name {
		return nil, errors.New("entry has another name than its certificate")
	}
	return chain, nil
}

// signedEntry is a line of a file.
type signedEntry struct {
	Entry     body   `json:"entry"`
	Signature []byte `json:"signature"`
}

func (s Signer) entry(e Entry, when span) (string, error) {
	e.body.span = when
	text, err := encode(e.body)
	if err != nil {
		return "", err
	}
	sig, err := s.sign(contextEntry, text)
	if err != nil {
		return "", err
	}
	line, err := encode(signedEntry{e.body, sig})
	if err == nil && len(line) > MaxLine {
		err = fmt.Errorf("entry is longer than %d bytes", MaxLine)
	}
	return string(line) + "\n", err
}

// parseEntry reads one line.
func (k Key) parseEntry(line string) (body, error) {
	if len(line) > MaxLine {
		return body{}, fmt.Errorf("longer than %d bytes", MaxLine)
	}
	var s signedEntry
	if err := decode(line, &s); err != nil {
		return body{}, err
	}
	text, err := encode(s.Entry)
	if err == nil {
		err = k.verify(contextEntry, text, s.Signature)
	}
	if err == nil {
		err = s.Entry.span.check()
	}
	if err == nil {
		err = s.Entry.check()
	}
	if err != nil {
		return body{}, err
	}
	return s.Entry, nil
}

// decode reads JSON in its one form: parse, write again, compare.
func decode(line string, v any) error {
	d := json.NewDecoder(bytes.NewReader([]byte(line)))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the entry")
	}
	again, err := encode(v)
	if err != nil {
		return err
	}
	if string(again) != line {
		return errors.New("not in the one form")
	}
	return nil
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), err
}
