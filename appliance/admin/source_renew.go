package admin

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
)

// block asks for one PEM block of a type.
func (s *step) block(kind, prompt string) ([]byte, error) {
	text, err := s.next(wire.Paste, prompt)
	if err != nil {
		return nil, err
	}
	b, rest := pem.Decode([]byte(text))
	if b == nil || b.Type != kind || strings.TrimSpace(string(rest)) != "" {
		return nil, fmt.Errorf("that is not one %s in PEM; nothing was changed", kind)
	}
	return b.Bytes, nil
}

// certificateOf asks for a certificate.
func (s *step) certificateOf(prompt string) ([]byte, error) {
	der, err := s.block("CERTIFICATE", prompt)
	if err != nil {
		return nil, err
	}
	if _, err := x509.ParseCertificate(der); err != nil {
		return nil, errors.New("the certificate is malformed; nothing was changed")
	}
	return der, nil
}

// newSecret asks for something that opens something. What waits for a second officer waits with it.
func (s *step) newSecret(what string) (store.Secret, error) {
	if s.approved != nil {
		return s.nextSecret()
	}
	text, err := s.next(wire.Secret, what+" (not shown):")
	if err != nil {
		return store.Secret{}, err
	}
	if text == "" {
		return store.Secret{}, errors.New("that is empty; nothing was changed")
	}
	b := []byte(text)
	defer clear(b)
	fresh := store.NewSecret(b)
	if s.dry != nil {
		s.dry.secrets = append(s.dry.secrets, fresh)
	}
	return fresh, nil
}

// nextSecret is the next of those that were typed with what is approved.
func (s *step) nextSecret() (store.Secret, error) {
	if len(s.passed) == 0 {
		return store.Secret{}, errors.New("an earlier release let it wait, and did not keep its secret")
	}
	next := s.passed[0]
	s.passed = s.passed[1:]
	return next, nil
}

func (s *step) sourceSecret(ctx context.Context, c console.SourceSecret) error {
	o, ok := s.state().Source(c.Alias)
	switch {
	case !ok:
		return fmt.Errorf("there is no source %q", c.Alias)
	case secretOf(&o) == nil:
		return fmt.Errorf("source %q has no secret", c.Alias)
	}
	fresh, err := s.newSecret("New secret of " + string(c.Alias))
	if err != nil {
		return err
	}
	err = s.changeSource(ctx, c.Alias, func(o *store.Source) error {
		*secretOf(o) = fresh
		return nil
	})
	if err != nil {
		return err
	}
	return s.say("The secret of %s was changed.", c.Alias)
}

// secretOf returns where a source keeps the secret that it presents to its server, nil if it presents none.
func secretOf(o *store.Source) *store.Secret {
	switch {
	case o.Directory != nil && o.Directory.Bind != "":
		return &o.Directory.Password
	case o.Service != nil && o.Service.Charge == store.ChargePlatform:
		return &o.Service.Value
	}
	return nil
}

// sourceRenew takes what has to be renewed now and then. A new certificate stands beside the old ones: remove the source to be
// rid of them.
//
// What a source presents is presented to whom its certificates vouch for. So who changes them gives the secret again: else
// an officer who is not shown it would have it sent to a server of his.
func (s *step) sourceRenew(ctx context.Context, c console.SourceRenew) error {
	o, ok := s.state().Source(c.Alias)
	if !ok {
		return fmt.Errorf("there is no source %q", c.Alias)
	}
	o = copied(o)
	if err := s.renew(&o); err != nil {
		return err
	}
	if err := s.commit(ctx, store.SourceSet{Source: o}); err != nil {
		return err
	}
	return s.say("Source %s was renewed.", c.Alias)
}

func (s *step) renew(o *store.Source) (err error) {
	further := func(certs *[][]byte, prompt string) error {
		der, err := s.certificateOf(prompt)
		if err != nil {
			return err
		}
		*certs = append(slices.Clone(*certs), der)
		if secret := secretOf(o); secret != nil {
			*secret, err = s.newSecret(fmt.Sprintf("Servers of this authority will be sent the secret of %s. Give it again", o.Alias))
		}
		return err
	}
	switch {
	case o.Attribute != nil:
		return further(&o.Attribute.Certs, "Paste a further certificate of the attribute authority (CERTIFICATE).")
	case o.Directory != nil:
		return further(&o.Directory.CA, pasteServerCA)
	case o.Service != nil:
		return further(&o.Service.CA, pasteServerCA)
	case o.Issuer != nil:
		text, err := s.next(wire.Paste, "Paste the public keys of the issuer (JSON Web Key Set).")
		o.Issuer.Keys = []byte(strings.TrimSpace(text))
		return err
	case o.Repository != nil && o.Repository.URL == "":
		text, err := s.next(wire.Paste, pasteEntries)
		o.Repository.Data = []byte(text)
		return err
	case o.Repository != nil:
		return further(&o.Repository.CA, pasteServerCA)
	case o.Revocation != nil:
		o.Revocation.CRL, err = s.block("X509 CRL", pasteCRL)
	}
	return err
}

// sourceClearance says what the clearances of one policy mean.
func (s *step) sourceClearance(ctx context.Context, c console.SourceClearance) error {
	p, err := clearancePolicy(c.Policy, c.Marks)
	if err != nil {
		return err
	}
	err = s.changeSource(ctx, c.Alias, func(o *store.Source) error {
		if o.Attribute == nil {
			return fmt.Errorf("source %q is no attribute authority", o.Alias)
		}
		all := slices.DeleteFunc(slices.Clone(o.Attribute.Clearances), func(q store.ClearancePolicy) bool { return q.Policy == p.Policy })
		if len(c.Marks) > 0 {
			all = append(all, p)
		}
		o.Attribute.Clearances = all
		return nil
	})
	if err != nil {
		return err
	}
	return s.say("Of policy %s, %s now has %s that mean something.", c.Policy, c.Alias, count(len(c.Marks), "mark", "marks"))
}

func clearancePolicy(policy string, marks []console.Mark) (p store.ClearancePolicy, err error) {
	p.Policy = policy
	for _, m := range marks {
		if bit, err := strconv.Atoi(m.Of); err == nil {
			p.Levels = append(p.Levels, store.ClearanceLevel{Bit: bit, Level: m.Name})
			continue
		}
		oid, value, _ := strings.Cut(m.Of, ":")
		der, err := hex.DecodeString(value)
		if err != nil {
			return p, errors.New("the value of a category is hexadecimal DER")
		}
		p.Categories = append(p.Categories, store.ClearanceCategory{Type: oid, Value: der, Compartment: m.Name})
	}
	slices.SortFunc(p.Levels, func(a, b store.ClearanceLevel) int { return a.Bit - b.Bit })
	return p, nil
}
