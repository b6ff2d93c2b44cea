package admin

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra/label"
)

// platformOwn lets platforms of the box's own domain be decryptors, by the root that is in the image.
func (s *step) platformOwn(ctx context.Context, c console.PlatformOwn) error {
	root, err := s.a.c.Domain.Certificate()
	if err != nil {
		return err
	}
	if err := s.commit(ctx, store.PlatformTrust{Alias: c.Alias, Domain: s.a.c.Domain.Name, Root: root.Raw, Own: true}); err != nil {
		return err
	}
	return s.say("Platforms of %s may be decryptors. None of its labels counts yet: platform label %s LABEL", s.a.c.Domain.Name, c.Alias)
}

func (s *step) platformTrust(ctx context.Context, c console.PlatformTrust) error {
	text, err := s.next(wire.Paste, "Paste the root certificate of "+c.Domain+" (CERTIFICATE).")
	if err != nil {
		return err
	}
	b, rest := pem.Decode([]byte(text))
	if b == nil || b.Type != "CERTIFICATE" || strings.TrimSpace(string(rest)) != "" {
		return errors.New("that is not one certificate in PEM; nothing was changed")
	}
	root, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return errors.New("the certificate is malformed; nothing was changed")
	}
	own, err := s.a.c.Domain.Certificate()
	switch {
	case err != nil:
		return err
	case slices.Equal(root.RawSubjectPublicKeyInfo, own.RawSubjectPublicKeyInfo), c.Domain == s.a.c.Domain.Name:
		return fmt.Errorf("that is this box's own domain: platform trust %s own", c.Alias)
	case root.CheckSignatureFrom(root) != nil || root.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("the certificate of %s is not a root", root.Subject)
	case time.Now().After(root.NotAfter):
		return fmt.Errorf("the certificate of %s ended on %s", root.Subject, stamp(root.NotAfter))
	}
	if err := s.commit(ctx, store.PlatformTrust{Alias: c.Alias, Domain: c.Domain, Root: root.Raw}); err != nil {
		return err
	}
	field(s, "domain", c.Domain)
	field(s, "root", root.Subject.String())
	field(s, "valid", "to "+stamp(root.NotAfter))
	field(s, "SHA-256", fmt.Sprintf("%x", sha256.Sum256(root.Raw)))
	return s.say("Compare the SHA-256 with the domain's own word. None of its labels counts yet: platform label %s LABEL as WORD means DIGEST", c.Alias)
}

func (s *step) platformLabel(ctx context.Context, c console.PlatformLabel) error {
	l := store.PlatformLabel{Label: label.ID(c.Label), As: cmp.Or(c.As, c.Label)}
	if c.Means != "" {
		if _, err := hex.Decode(l.Document[:], []byte(c.Means)); err != nil {
			return fmt.Errorf("read SHA-256: %w", err)
		}
	}
	if err := s.commit(ctx, store.PlatformLabelSet{Alias: c.Alias, Label: l}); err != nil {
		return err
	}
	if c.Means == "" {
		return s.say("Platforms of %s with label %s are platform.label == %q in rules.", c.Alias, c.Label, l.As)
	}
	return s.say("Platforms of %s with label %s are platform.label == %q in rules, where they state that it means the document with SHA-256 %s.", c.Alias, c.Label, l.As, c.Means)
}

func (s *step) platformUnlabel(ctx context.Context, c console.PlatformUnlabel) error {
	if err := s.confirm("Have label %s of %s count no longer? Its platforms get no key any more.", c.Label, c.Alias); err != nil {
		return err
	}
	if err := s.commit(ctx, store.PlatformLabelRemove{Alias: c.Alias, Label: label.ID(c.Label)}); err != nil {
		return err
	}
	return s.say("Label %s of %s counts as nothing.", c.Label, c.Alias)
}

func (s *step) platformList() error {
	t := newTable("ALIAS", "DOMAIN", "LABEL", "COUNTS AS", "MEANS", "ROOT")
	for _, p := range s.state().Platforms() {
		domain := p.Domain
		if p.Own {
			domain += " (own)"
		}
		root := fmt.Sprintf("%x", sha256.Sum256(p.Root))[:shortID]
		if len(p.Labels) == 0 {
			t.row(string(p.Alias), domain, "none", "", "", root)
		}
		for _, l := range p.Labels {
			means := "certificate"
			if l.Document != (label.Digest{}) {
				means = l.Document.Short()
			}
			t.row(string(p.Alias), domain, string(l.Label), l.As, means, root)
		}
	}
	return t.print(s, "No platform is a decryptor. Let some be with: platform trust")
}

func (s *step) platformDistrust(ctx context.Context, c console.PlatformDistrust) error {
	if _, ok := s.state().Platform(c.Alias); !ok {
		return fmt.Errorf("there is no domain of platforms %q", c.Alias)
	}
	if err := s.confirm("Trust %s no longer? None of its platforms gets a key any more.", c.Alias); err != nil {
		return err
	}
	if err := s.commit(ctx, store.PlatformDistrust{Alias: c.Alias}); err != nil {
		return err
	}
	return s.say("Platforms of %s are decryptors no longer.", c.Alias)
}
