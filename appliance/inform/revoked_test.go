package inform_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/inform"
)

func TestRevoked(t *testing.T) {
	c, partner := newCorp(t), newCorp(t)
	middle := authority(t, c.ca, "Issuing CA")
	dave := issue(t, middle, x509.Certificate{Subject: pkix.Name{CommonName: "dave"}, SerialNumber: big.NewInt(4711)})
	direct := []*x509.Certificate{c.alice.cert, c.ca.cert}
	long := []*x509.Certificate{dave.cert, middle.cert, c.ca.cert}
	foreign := []*x509.Certificate{partner.alice.cert, partner.ca.cert}
	later := now.Add(time.Hour)
	root := func(serials ...*big.Int) inform.Revocation {
		return inform.Revocation{Alias: "crl", Of: "corp", Anchors: []*x509.Certificate{c.ca.cert}, Pasted: c.ca.revoke(t, now, later, serials...)}
	}
	below := func(serials ...*big.Int) inform.Revocation {
		return inform.Revocation{Alias: "crl2", Of: "corp", Anchors: []*x509.Certificate{c.ca.cert}, Issuer: middle.cert, Pasted: middle.revoke(t, now, later, serials...)}
	}
	aged := func(age time.Duration, serials ...*big.Int) inform.Revocation {
		return inform.Revocation{Alias: "crl", Of: "corp", Anchors: []*x509.Certificate{c.ca.cert}, Pasted: c.ca.revoke(t, now.Add(-time.Hour), now.AddDate(10, 0, 0), serials...), MaxAge: age}
	}
	edit := func(r inform.Revocation, list []byte) inform.Revocation { r.Pasted = list; return r }
	cases := map[string]struct {
		lists []inform.Revocation
		chain []*x509.Certificate
		want  string // "" means that it stands, "revoked" ErrRevoked, else a part of another error
	}{
		"no list":                       {nil, direct, ""},
		"not on the list":               {[]inform.Revocation{root(dave.cert.SerialNumber)}, direct, ""},
		"on the list":                   {[]inform.Revocation{root(c.alice.cert.SerialNumber)}, direct, "revoked"},
		"another anchor's list":         {[]inform.Revocation{root(partner.alice.cert.SerialNumber)}, foreign, ""},
		"list is overdue":               {[]inform.Revocation{edit(root(), c.ca.revoke(t, now.Add(-2*time.Hour), now.Add(-time.Second)))}, direct, "overdue"},
		"revoked on an overdue list":    {[]inform.Revocation{edit(root(), c.ca.revoke(t, now.Add(-2*time.Hour), now.Add(-time.Second), c.alice.cert.SerialNumber))}, direct, "revoked"},
		"list for years":                {[]inform.Revocation{aged(0)}, direct, ""},
		"list for years, young enough":  {[]inform.Revocation{aged(time.Hour)}, direct, ""},
		"list for years, too old":       {[]inform.Revocation{aged(time.Hour - time.Second)}, direct, "overdue"},
		"revoked on a list too old":     {[]inform.Revocation{aged(time.Minute, c.alice.cert.SerialNumber)}, direct, "revoked"},
		"list ends before its age does": {[]inform.Revocation{edit(aged(time.Hour), c.ca.revoke(t, now.Add(-time.Minute), now.Add(-time.Second)))}, direct, "overdue"},
		"list is missing":               {[]inform.Revocation{edit(root(), nil)}, direct, "no revocation list"},
		"list of a stranger":            {[]inform.Revocation{edit(root(), partner.ca.revoke(t, now, later))}, direct, "no revocation list"},
		"no list of the issuer":         {[]inform.Revocation{root()}, long, "no revocation list"},
		"lists of both":                 {[]inform.Revocation{root(), below()}, long, ""},
		"the issuer revokes":            {[]inform.Revocation{root(), below(dave.cert.SerialNumber)}, long, "revoked"},
		"the issuer is revoked":         {[]inform.Revocation{root(middle.cert.SerialNumber), below()}, long, "revoked"},
		"the root does not speak of it": {[]inform.Revocation{root(dave.cert.SerialNumber), below()}, long, ""},
		"only the issuer has a list":    {[]inform.Revocation{below()}, long, "no revocation list"},
		"nobody":                        {[]inform.Revocation{root()}, nil, "no certificate"},
	}
	for name, x := range cases {
		t.Run(name, func(t *testing.T) {
			err := keeper(t, inform.Config{Revocations: x.lists}).World().Revoked(x.chain, now)
			switch {
			case x.want == "" && err != nil, x.want == "revoked" && !errors.Is(err, inform.ErrRevoked), x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)):
				t.Errorf("Revoked = %v; want %q", err, x.want)
			}
		})
	}
	if err := (&inform.World{}).Revoked(direct, now); err != nil {
		t.Errorf("the zero World: %v", err)
	}
}
