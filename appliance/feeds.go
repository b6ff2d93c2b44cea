package appliance

import (
	"fmt"

	"github.com/keyrelease/krabox/appliance/book"
	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/appliance/inform/ldap"
	jwt "github.com/keyrelease/krabox/appliance/inform/token"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/kra/policy"
)

func directoryOf(s store.Source, stamp string, from *inform.Config) (inform.Directory, error) {
	x := s.Directory
	roots, err := certificates(x.CA)
	if err != nil {
		return inform.Directory{}, err
	}
	c := ldap.Config{URL: x.URL, Roots: roots, Bind: x.Bind, Base: x.Base, Filter: x.Filter, Name: x.Name, Dial: from.Dial, Now: from.Now}
	if x.Bind != "" {
		c.Password = x.Password.Bytes
	}
	for _, m := range x.Map {
		kind, err := policy.ParseKind(string(m.Kind))
		if err != nil {
			return inform.Directory{}, fmt.Errorf("field %.80q: %w", m.From, err)
		}
		c.Map = append(c.Map, ldap.Mapping{Kind: kind, Name: m.Name, From: m.From})
	}
	server, err := ldap.New(c)
	if err != nil {
		return inform.Directory{}, err
	}
	return inform.Directory{Alias: s.Alias, May: book.Kinds(s.May), Of: x.Of, Server: server, Stamp: stamp, Every: seconds(x.Every), MaxAge: seconds(x.MaxAge)}, nil
}

func issuerOf(s store.Source) (inform.Issuer, error) {
	x := s.Issuer
	c := jwt.Config{Issuer: x.Issuer, Audience: x.Audience, Keys: x.Keys}
	for _, m := range x.Map {
		kind, err := policy.ParseKind(string(m.Kind))
		if err != nil {
			return inform.Issuer{}, fmt.Errorf("claim %.80q: %w", m.From, err)
		}
		c.Map = append(c.Map, jwt.Mapping{Kind: kind, Name: m.Name, From: m.From})
	}
	v, err := jwt.New(c)
	if err != nil {
		return inform.Issuer{}, err
	}
	return inform.Issuer{Alias: s.Alias, May: book.Kinds(s.May), Verifier: v}, nil
}
