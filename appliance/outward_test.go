package appliance

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
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

// TestOneTimeForServers: whoever is asked outside over TLS, has his certificate judged by the box's clock, which does not go behind what was
// trusted, and not by this host's.
func TestOneTimeForServers(t *testing.T) {
	hosts := []string{"ldap.invalid", "keys.invalid", "ca.invalid", "pay.invalid"}
	a := newAuthor(t)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Servers"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte{1}, DNSNames: hosts}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, a.key.Public(), a.key)
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
	changes := []store.Change{store.AnchorAdd{Alias: "corp", Naming: kra.WholeName, Cert: der}}
	for _, s := range []store.Source{
		{Alias: "people", May: []store.InformationKind{store.GroupInformation}, Directory: &store.Directory{URL: "ldaps://ldap.invalid", CA: [][]byte{der}, Base: "dc=example", Of: "corp", Every: 3600, MaxAge: 86400}},
		{Alias: "keys", Repository: &store.Repository{URL: "https://keys.invalid/x/", CA: [][]byte{der}, Key: key, Every: 3600, MaxAge: 86400}},
		{Alias: "list", Revocation: &store.Revocation{Of: "corp", URL: "https://ca.invalid/people.crl", CA: [][]byte{der}, Every: 3600, MaxAge: 86400}},
		{Alias: "credit", Service: &store.Service{URL: "https://pay.invalid:8443/kra", CA: [][]byte{der}, Mode: store.Verify, TimeoutMS: 60_000, InFlight: 1, Charge: store.ChargePlatform}},
	} {
		changes = append(changes, store.SourceSet{Source: s})
	}
	for what, c := range map[string]struct {
		now  func() time.Time
		good bool
	}{
		"this host's": {time.Now, true},
		"behind it":   {func() time.Time { return time.Now().AddDate(0, -1, 0) }, false},
		"ahead of it": {func() time.Time { return time.Now().AddDate(0, 1, 0) }, false},
	} {
		t.Run(what, func(t *testing.T) {
			met := make(chan handshake)
			b := newBoard(t)
			b.time, b.dial = c.now, servers(t, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: a.key}}}, met)
			b.post(t, firstState(t, changes...))
			go b.outside.Ask(t.Context(), "credit", release.Question{})
			missing := map[string]bool{}
			for _, h := range hosts {
				missing[h] = true
			}
			for late := time.After(30 * time.Second); len(missing) > 0; {
				select {
				case h := <-met:
					if delete(missing, h.name); (h.err == nil) != c.good {
						t.Errorf("%s: %v", h.name, h.err)
					}
				case <-late:
					t.Fatalf("nobody asked %v", missing)
				}
			}
		})
	}
}

// A handshake is what a server saw.
type handshake struct {
	name string
	err  error
}

// servers returns a dial to servers of all names, which tell who came and hang up.
func servers(t *testing.T, c *tls.Config, met chan<- handshake) dial {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		near, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
		if err != nil {
			return nil, err
		}
		far, err := l.Accept()
		if err != nil {
			return nil, err
		}
		go func() {
			defer far.Close()
			s := tls.Server(far, c)
			err := s.HandshakeContext(t.Context())
			if err == nil {
				_, err = s.Read(make([]byte, 1)) // TLS 1.3: the client may refuse after our part is over
			}
			host, _, _ := net.SplitHostPort(address)
			select {
			case met <- handshake{host, err}:
			case <-t.Context().Done():
			}
		}()
		return near, nil
	}
}
