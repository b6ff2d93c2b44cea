// Package peertest is what other people's servers need to be run on loopback by a test: a certificate, and a port.
package peertest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// An Authority certifies servers. It is valid a year back and a year ahead.
type Authority struct {
	Root *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes one.
func NewAuthority(t testing.TB) Authority {
	t.Helper()
	a := Authority{key: newKey(t)}
	a.Root = a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "Servers"}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, a.key)
	return a
}

// PEM returns its certificate.
func (a Authority) PEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Root.Raw}))
}

// Pool holds its certificate only.
func (a Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.Root)
	return p
}

// Server returns the certificate of a server with that name or address, for an hour.
func (a Authority) Server(t testing.TB, host string) tls.Certificate {
	t.Helper()
	return a.Certify(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour), host)
}

// Certify returns the certificate of a server with these names and addresses.
func (a Authority) Certify(t testing.TB, from, to time.Time, hosts ...string) tls.Certificate {
	t.Helper()
	key := newKey(t)
	c := &x509.Certificate{Subject: pkix.Name{CommonName: "server"}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, h)
		}
	}
	return tls.Certificate{Certificate: [][]byte{a.sign(t, c, key).Raw}, PrivateKey: key}
}

func (a Authority) sign(t testing.TB, c *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	by := a.Root
	if by == nil {
		by = c
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), a.key)
	must(t, err)
	out, err := x509.ParseCertificate(der)
	must(t, err)
	return out
}

// Write writes a certificate as server.pem and its key as key.pem into a folder.
func Write(t testing.TB, dir string, c tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	must(t, err)
	for name, b := range map[string]*pem.Block{"server.pem": {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: key}} {
		must(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600))
	}
}

// Ports are taken from below those that the kernel gives to who connects (ip_local_port_range): while a server is stopped nobody is given its
// port, and who dials it does not meet himself.
const firstPort, lastPort = 10_000, 30_000

// Port returns a port of 127.0.0.1, over "tcp" or "udp", that is free at this moment: for programs that cannot be given a socket.
func Port(t testing.TB, network string) int {
	t.Helper()
	for range 1000 {
		port := firstPort + mrand.IntN(lastPort-firstPort)
		if free(network, fmt.Sprintf("127.0.0.1:%d", port)) {
			return port
		}
	}
	t.Fatalf("no port from %d to %d is free", firstPort, lastPort)
	return 0
}

func free(network, address string) bool {
	var c io.Closer
	var err error
	if network == "udp" {
		c, err = net.ListenPacket(network, address)
	} else {
		c, err = net.Listen(network, address)
	}
	return err == nil && c.Close() == nil
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return k
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Words are what a running program says, for messages.
type Words struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (w *Words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

// String returns what was said so far.
func (w *Words) String() string { w.mu.Lock(); defer w.mu.Unlock(); return w.text.String() }
