package admin

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra"
)

// trustAdd takes a certification authority of decryptors. The domain's own are refused: whoever can issue label
// certificates must not also say who people are.
func (s *step) trustAdd(ctx context.Context, c console.TrustAdd) error {
	text, err := s.next(wire.Paste, "Paste the authority's certificate (CERTIFICATE).")
	if err != nil {
		return err
	}
	cert, err := s.authority([]byte(text))
	if err != nil {
		return err
	}
	if err := s.commit(ctx, store.AnchorAdd{Alias: c.Alias, Naming: c.Name, Cert: cert.Raw}); err != nil {
		return err
	}
	field(s, "alias", string(c.Alias))
	field(s, "subject", cert.Subject.String())
	field(s, "valid", "to "+stamp(cert.NotAfter))
	field(s, "SHA-256", fmt.Sprintf("%x", sha256.Sum256(cert.Raw)))
	return s.say("Compare the SHA-256 with the authority's own word. Decryptors are called %s:%s", c.Alias, example(c.Name))
}

func example(n kra.Naming) string {
	if n == kra.CommonName {
		return "CN=…"
	}
	return "NAME, the whole subject of their certificate"
}

func (s *step) authority(text []byte) (*x509.Certificate, error) {
	b, rest := pem.Decode(text)
	if b == nil || b.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("that is not one certificate in PEM; nothing was changed")
	}
	cert, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return nil, errors.New("the certificate is malformed; nothing was changed")
	}
	root, err := s.a.c.Domain.Certificate()
	switch {
	case err != nil:
		return nil, err
	case !cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, fmt.Errorf("the certificate of %s is not that of a certification authority", cert.Subject)
	case time.Now().After(cert.NotAfter):
		return nil, fmt.Errorf("the certificate of %s ended on %s", cert.Subject, stamp(cert.NotAfter))
	case slices.Equal(cert.RawSubjectPublicKeyInfo, root.RawSubjectPublicKeyInfo), cert.CheckSignatureFrom(root) == nil:
		return nil, errors.New("that is an authority of this box's own domain, which certifies boxes; people need another one")
	}
	return cert, nil
}

func (s *step) trustList() error {
	t := newTable("ALIAS", "NAMED BY", "VALID TO", "SHA-256", "SUBJECT")
	for _, a := range s.state().Anchors() {
		cert, err := x509.ParseCertificate(a.Cert)
		if err != nil {
			return fmt.Errorf("read authority %s: %w", a.Alias, err)
		}
		by := "whole name"
		if a.Naming == kra.CommonName {
			by = "common name"
		}
		t.row(string(a.Alias), by, cert.NotAfter.UTC().Format(time.DateOnly), fmt.Sprintf("%x", sha256.Sum256(a.Cert))[:shortID], cert.Subject.String())
	}
	return t.print(s, "No certification authority of decryptors is trusted. Add one with: trust add")
}

func (s *step) trustRemove(ctx context.Context, c console.TrustRemove) error {
	if _, ok := s.state().Anchor(c.Alias); !ok {
		return fmt.Errorf("there is no certification authority %q", c.Alias)
	}
	if err := s.confirm("Trust %s no longer? Nobody that it vouches for gets a key any more.", c.Alias); err != nil {
		return err
	}
	if err := s.commit(ctx, store.AnchorRemove{Alias: c.Alias}); err != nil {
		return err
	}
	return s.say("%s is trusted no longer.", c.Alias)
}
