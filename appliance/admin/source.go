package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra"
)

// What a source has until an officer says otherwise, in seconds and milliseconds.
const (
	usualEvery    = 300
	usualMaxAge   = 3600
	usualCRLEvery = 3600
	usualCRLAge   = 7 * 24 * 3600
	usualTimeout  = 2000
	usualInFlight = 64
)

const pasteServerCA = "Paste the certification authority of the server (CERTIFICATE)."

func (s *step) sourceAttribute(ctx context.Context, c console.SourceAttribute) error {
	if err := s.fresh(c.Alias); err != nil {
		return err
	}
	cert, err := s.certificateOf("Paste the certificate of the attribute authority (CERTIFICATE).")
	if err != nil {
		return err
	}
	return s.addSource(ctx, store.Source{Alias: c.Alias, May: kindsOf(c.May), Attribute: &store.AttributeAuthority{Certs: [][]byte{cert}, Of: c.Of}})
}

func (s *step) sourceDirectory(ctx context.Context, c console.SourceDirectory) error {
	if err := s.fresh(c.Alias); err != nil {
		return err
	}
	ca, err := s.certificateOf(pasteServerCA)
	if err != nil {
		return err
	}
	var password store.Secret
	if c.Bind != "" {
		if password, err = s.newSecret("Password of " + c.Bind); err != nil {
			return err
		}
	}
	return s.addSource(ctx, store.Source{Alias: c.Alias, May: kindsOf(c.May), Directory: &store.Directory{URL: c.URL, CA: [][]byte{ca}, Bind: c.Bind,
		Password: password, Base: c.Base, Of: c.Of, Every: usualEvery, MaxAge: usualMaxAge}})
}

func (s *step) sourceIssuer(ctx context.Context, c console.SourceIssuer) error {
	if err := s.fresh(c.Alias); err != nil {
		return err
	}
	keys, err := s.next(wire.Paste, "Paste the public keys of the issuer (JSON Web Key Set).")
	if err != nil {
		return err
	}
	return s.addSource(ctx, store.Source{Alias: c.Alias, May: kindsOf(c.May), Issuer: &store.TokenIssuer{Issuer: c.Issuer, Audience: c.Audience,
		Keys: []byte(strings.TrimSpace(keys))}})
}

func (s *step) sourceRepository(ctx context.Context, c console.SourceRepository) error {
	if err := s.fresh(c.Alias); err != nil {
		return err
	}
	key, err := s.block("PUBLIC KEY", "Paste the public key of the repository (PUBLIC KEY).")
	if err != nil {
		return err
	}
	r := &store.Repository{URL: c.URL, Key: key, MaxAge: usualMaxAge}
	if c.URL == "" {
		text, err := s.next(wire.Paste, pasteEntries)
		if err != nil {
			return err
		}
		r.Data, r.MaxAge = []byte(text), 0
	} else {
		ca, err := s.certificateOf(pasteServerCA)
		if err != nil {
			return err
		}
		r.CA, r.Every = [][]byte{ca}, usualEvery
	}
	return s.addSource(ctx, store.Source{Alias: c.Alias, Repository: r})
}

const pasteEntries = "Paste the entries of the repository."

func (s *step) sourceService(ctx context.Context, c console.SourceService) error {
	if err := s.fresh(c.Alias); err != nil {
		return err
	}
	ca, err := s.certificateOf(pasteServerCA)
	if err != nil {
		return err
	}
	var value store.Secret
	if c.Charge == console.Payer(store.ChargePlatform) {
		if value, err = s.newSecret("Value that the box presents to the service"); err != nil {
			return err
		}
	}
	return s.addSource(ctx, store.Source{Alias: c.Alias, Service: &store.Service{URL: c.URL, CA: [][]byte{ca}, Mode: store.ServiceMode(c.Mode),
		TimeoutMS: usualTimeout, InFlight: usualInFlight, Charge: store.Payer(c.Charge), Value: value}})
}

func (s *step) sourceRevocation(ctx context.Context, c console.SourceRevocation) error {
	if err := s.fresh(c.Alias); err != nil {
		return err
	}
	r := &store.Revocation{Of: c.Of, URL: c.URL}
	var err error
	switch {
	case c.URL == "":
		r.CRL, err = s.block("X509 CRL", pasteCRL)
	case strings.HasPrefix(c.URL, "https:"):
		var ca []byte
		ca, err = s.certificateOf(pasteServerCA)
		r.CA, r.Every = [][]byte{ca}, usualCRLEvery
	default:
		r.Every = usualCRLEvery
	}
	if err != nil {
		return err
	}
	if c.URL != "" {
		r.MaxAge = usualCRLAge
	}
	return s.addSource(ctx, store.Source{Alias: c.Alias, Revocation: r})
}

const pasteCRL = "Paste the list of revoked certificates (X509 CRL)."

// fresh refuses an alias that stands for something, before an officer is asked for anything.
func (s *step) fresh(alias kra.Anchor) error {
	if o, ok := s.state().Source(alias); ok {
		return fmt.Errorf("there is a source %q already, of kind %s", alias, o.Kind())
	}
	if _, ok := s.state().Anchor(alias); ok {
		return fmt.Errorf("alias %q is taken by a certification authority", alias)
	}
	return nil
}

func (s *step) addSource(ctx context.Context, o store.Source) error {
	if err := s.commit(ctx, store.SourceSet{Source: o}); err != nil {
		return err
	}
	s.say("Source %s was added. Look at it with: source show %s", o.Alias, o.Alias)
	if o.Directory != nil || o.Issuer != nil {
		return s.say("It says nothing yet: name what its fields mean, such as: source map %s group from memberOf", o.Alias)
	}
	return nil
}

func kindsOf(may []console.InfoKind) (out []store.InformationKind) {
	for _, k := range may {
		out = append(out, store.InformationKind(k))
	}
	return out
}

// changeSource lets f change a copy of a source.
func (s *step) changeSource(ctx context.Context, alias kra.Anchor, f func(*store.Source) error) error {
	o, ok := s.state().Source(alias)
	if !ok {
		return fmt.Errorf("there is no source %q", alias)
	}
	o = copied(o)
	if err := f(&o); err != nil {
		return err
	}
	return s.commit(ctx, store.SourceSet{Source: o})
}

// copied returns a source whose part may be changed. Lists in it are shared: they are replaced, not written to.
func copied(o store.Source) store.Source {
	o.Attribute, o.Directory, o.Issuer = pointed(o.Attribute), pointed(o.Directory), pointed(o.Issuer)
	o.Repository, o.Service, o.Revocation = pointed(o.Repository), pointed(o.Service), pointed(o.Revocation)
	return o
}

func pointed[V any](p *V) *V {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// mapped returns where a source keeps what its fields mean.
func mapped(o *store.Source) (*[]store.Mapping, error) {
	switch {
	case o.Directory != nil:
		return &o.Directory.Map, nil
	case o.Issuer != nil:
		return &o.Issuer.Map, nil
	}
	return nil, fmt.Errorf("source %q is of kind %s, which has no fields", o.Alias, o.Kind())
}

func (s *step) sourceMap(ctx context.Context, c console.SourceMap) error {
	m := store.Mapping{Kind: store.InformationKind(c.Kind), Name: c.Name, From: string(c.From)}
	err := s.changeSource(ctx, c.Alias, func(o *store.Source) error {
		all, err := mapped(o)
		if err == nil {
			*all = append(slices.Clone(*all), m)
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.say("What %s says in %s is now the %s of a decryptor.", c.Alias, c.From, strings.TrimSpace(string(c.Kind)+" "+c.Name))
}

func (s *step) sourceUnmap(ctx context.Context, c console.SourceUnmap) error {
	err := s.changeSource(ctx, c.Alias, func(o *store.Source) error {
		all, err := mapped(o)
		if err != nil {
			return err
		}
		kept := slices.DeleteFunc(slices.Clone(*all), func(m store.Mapping) bool { return m.From == string(c.From) })
		if len(kept) == len(*all) {
			return fmt.Errorf("the field %q of %s is not used", c.From, c.Alias)
		}
		*all = kept
		return nil
	})
	if err != nil {
		return err
	}
	return s.say("The field %s of %s is used no longer.", c.From, c.Alias)
}

func (s *step) sourceSet(ctx context.Context, c console.SourceSet) error {
	err := s.changeSource(ctx, c.Alias, func(o *store.Source) error {
		number := numberOf(o, c.Setting)
		if number == nil {
			return fmt.Errorf("source %q is of kind %s, which has no %q", o.Alias, o.Kind(), c.Setting)
		}
		*number = c.Number
		return nil
	})
	if err != nil {
		return err
	}
	return s.say("%s of %s is %d now.", c.Setting, c.Alias, c.Number)
}

// numberOf returns where a source keeps a setting, nil if it has none such.
func numberOf(o *store.Source, what console.Setting) *int {
	switch {
	case o.Directory != nil && what == "every":
		return &o.Directory.Every
	case o.Directory != nil && what == "age":
		return &o.Directory.MaxAge
	case o.Repository != nil && what == "every":
		return &o.Repository.Every
	case o.Repository != nil && what == "age":
		return &o.Repository.MaxAge
	case o.Revocation != nil && what == "every":
		return &o.Revocation.Every
	case o.Revocation != nil && what == "age":
		return &o.Revocation.MaxAge
	case o.Service != nil && what == "timeout":
		return &o.Service.TimeoutMS
	case o.Service != nil && what == "inflight":
		return &o.Service.InFlight
	}
	return nil
}

var errNoDirectory = errors.New("only a directory has that")

func (s *step) sourceFilter(ctx context.Context, c console.SourceFilter) error {
	err := s.changeSource(ctx, c.Alias, func(o *store.Source) error {
		if o.Directory == nil {
			return errNoDirectory
		}
		o.Directory.Filter = c.Filter
		return nil
	})
	if err != nil {
		return err
	}
	return s.say("Of %s only the entries are read that fit %s", c.Alias, c.Filter)
}

func (s *step) sourceName(ctx context.Context, c console.SourceName) error {
	err := s.changeSource(ctx, c.Alias, func(o *store.Source) error {
		if o.Directory == nil {
			return errNoDirectory
		}
		o.Directory.Name = string(c.Field)
		return nil
	})
	if err != nil {
		return err
	}
	return s.say("The field %s of %s holds the decryptor's name now.", c.Field, c.Alias)
}

func (s *step) sourceRemove(ctx context.Context, c console.SourceRemove) error {
	remove := store.SourceRemove{Alias: c.Alias}
	if _, err := store.Apply(s.state(), remove); err != nil {
		return err
	}
	if err := s.confirm("Remove the source %s? What it says counts no longer.", c.Alias); err != nil {
		return err
	}
	if err := s.commit(ctx, remove); err != nil {
		return err
	}
	return s.say("Source %s was removed.", c.Alias)
}
