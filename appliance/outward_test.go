package appliance

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/release"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/policy"
)

// Whoever is asked outside, is asked through the one dial: directory, repository, revocation list and service.
func TestOneWayOut(t *testing.T) {
	a := newAuthor(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Example CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}}
	ca, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	const hour, day = 3600, 24 * 3600
	changes := []store.Change{store.AnchorAdd{Alias: "corp", Naming: kra.WholeName, Cert: ca}}
	for _, s := range []store.Source{
		{Alias: "people", May: []store.InformationKind{store.GroupInformation}, Directory: &store.Directory{URL: "ldaps://ldap.invalid", CA: [][]byte{ca}, Base: "dc=example", Of: "corp", Every: hour, MaxAge: day}},
		{Alias: "keys", Repository: &store.Repository{URL: "https://keys.invalid/x/", CA: [][]byte{ca}, Key: key, Every: hour, MaxAge: day}},
		{Alias: "list", Revocation: &store.Revocation{Of: "corp", URL: "http://ca.invalid/people.crl", Every: hour, MaxAge: day}},
		{Alias: "credit", Service: &store.Service{URL: "https://pay.invalid:8443/kra", CA: [][]byte{ca}, Mode: store.Verify, TimeoutMS: 60_000, InFlight: 1, Charge: store.ChargePlatform}},
	} {
		changes = append(changes, store.SourceSet{Source: s})
	}
	asked, closed := make(chan string), make(chan struct{})
	b := newBoard(t)
	t.Cleanup(func() { close(closed) })
	b.dial = func(_ context.Context, network, address string) (net.Conn, error) {
		select {
		case asked <- network + " " + address:
		case <-closed:
		}
		return nil, errors.New("nobody is there")
	}
	b.post(t, firstState(t, changes...))
	go b.outside.Ask(t.Context(), "credit", release.Question{})
	missing := map[string]bool{"tcp ldap.invalid:636": true, "tcp keys.invalid:443": true, "tcp ca.invalid:80": true, "tcp pay.invalid:8443": true}
	for late := time.After(30 * time.Second); len(missing) > 0; {
		select {
		case address := <-asked:
			if !missing[address] {
				t.Errorf("%s was asked for", address)
			}
			delete(missing, address)
		case <-late:
			t.Fatalf("not asked through the dial: %v", missing)
		}
	}
	if a, _ := b.outside.Ask(t.Context(), "none", release.Question{}); a.Outcome != policy.Errored {
		t.Errorf("a service that is not there: %+v", a)
	}
}

// In the image, krad asks the broker; there is no other way.
func TestTheBrokerIsAsked(t *testing.T) {
	o, err := parseOptions([]string{"-mode", "enrolled", "-outbound", filepath.Join(t.TempDir(), "s")})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := o.outward()(t.Context(), "tcp", "ca.example:80"); err == nil {
		t.Errorf("without a broker there is a connection to %v", c.RemoteAddr())
	}
	l, err := net.Listen("unix", o.outbound)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		request := make([]byte, 14)
		if _, err := io.ReadFull(c, request); err == nil && string(request) == "\x01\x0aca.example\x00\x50" {
			_, _ = io.WriteString(c, "\x01\x00hello")
		}
	}()
	c, err := o.outward()(t.Context(), "tcp", "ca.example:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); string(got) != "hello" {
		t.Errorf("the broker's connection says %q, %v", got, err)
	}
}
