package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/tpmtest"
	"github.com/keyrelease/krabox/tpm/wire"
)

// server is an ordinary host without measured boot, and the desk of its domain.
type server struct {
	t     *testing.T
	tpm   *tpmtest.TPM
	state string
	desk  *desk.Desk
}

func newServer(t *testing.T) *server {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "domain")
	if err := desk.Init(dir, "example.org"); err != nil {
		t.Fatal(err)
	}
	d, err := desk.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &server{t, tpmtest.New(t), t.TempDir(), d}
}

func (s *server) start() *tpmtest.Daemon {
	s.t.Helper()
	return tpmtest.StartDaemon(s.t, tpmtest.DaemonConfig{TPM: s.tpm, State: s.state, Domain: s.desk.Domain()})
}

func (s *server) enrol(d *tpmtest.Daemon) wire.Installed {
	s.t.Helper()
	request, err := d.Client.EnrolRequest(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	officer, err := desk.NewOfficer("alice", []byte("correct horse battery"))
	if err != nil {
		s.t.Fatal(err)
	}
	box := label.Box{Name: "box1", DNS: []string{}, IP: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	seen, err := desk.Fingerprint(request)
	if err != nil {
		s.t.Fatal(err)
	}
	bundle, err := s.desk.Enrol(desk.Admission{Request: request, Release: desk.Release{Manifest: desk.Manifest{Version: "v1", Epoch: 1}, Trust: desk.AsObserved},
		Box: box, Officer: officer, Seen: seen})
	if err != nil {
		s.t.Fatal(err)
	}
	i, err := d.Client.EnrolInstall(s.t.Context(), bundle)
	if err != nil {
		s.t.Fatal(err)
	}
	return i
}

// The real binary with inherited descriptors, from factory to a leaf, over both channels, killed between every two steps:
// a killed tpmd leaves handles in the TPM and its client a dead connection, and neither may matter to the next one.
func TestDaemon(t *testing.T) {
	s := newServer(t)
	ctx := t.Context()
	d := s.start()
	if err := d.Init.Extend(ctx, label.Running); err != nil {
		t.Fatal(err)
	}
	d.Kill()
	d = s.start()
	i := s.enrol(d)
	d.Kill() // before the record: still a factory box
	d = s.start()
	if st, err := d.Client.Status(ctx); err != nil || st.State != wire.Factory || st.Stage != "running" {
		t.Fatalf("Status() = %+v, %v", st, err)
	}
	key, err := i.StoreKey()
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.enrol(d).StoreKey()
	if err != nil || again == key {
		t.Fatalf("installed again: the same store key, or %v", err)
	}
	if err := d.Client.WriteRecord(ctx, label.Record{Generation: 1}); err != nil {
		t.Fatal(err)
	}
	d.Kill()

	s.tpm.Restart(t)
	d = s.start()
	if err := d.Init.Extend(ctx, label.Open); err != nil {
		t.Fatal(err)
	}
	d.Kill()
	d = s.start()
	o, r, err := d.Init.Unseal(ctx)
	if err != nil || r.Generation != 1 {
		t.Fatalf("Unseal() = %+v, %v", r, err)
	}
	if store, _ := wire.Derive(o); store != again {
		t.Error("the store key at boot is not the one of the enrolment")
	}
	if err := d.Init.Extend(ctx, label.Running); err != nil {
		t.Fatal(err)
	}
	var refused wire.Refused
	if _, _, err := d.Init.Unseal(ctx); !errors.As(err, &refused) || !strings.Contains(err.Error(), "PCR 14 (stage)") {
		t.Errorf("Unseal() again = %v; want a refusal", err)
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // the same client, over the socket that a supervisor keeps
		d.Restart(t)
		chain, err := d.Client.LeafTLS(ctx, spki)
		if err != nil || len(chain) != 2 {
			t.Errorf("LeafTLS() = %d certificates, %v", len(chain), err)
		}
	}
}

// When the TPM is gone, so is tpmd: its supervisor starts another.
func TestDaemonEndsWithItsTPM(t *testing.T) {
	s := newServer(t)
	d := s.start()
	s.tpm.Cut()
	if _, err := d.Client.Status(t.Context()); err == nil {
		t.Error("Status() without a TPM: answered")
	}
	select {
	case <-d.Done():
	case <-time.After(10 * time.Second):
		t.Error("tpmd goes on without a TPM")
	}
}

// Started wrongly, tpmd says what is missing and ends.
func TestDaemonRefusesToStart(t *testing.T) {
	domain := filepath.Join(t.TempDir(), "domain.json")
	if err := os.WriteFile(domain, newServer(t).desk.Domain().Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	bin := tpmtest.Binary(t)
	for want, args := range map[string][]string{
		"no descriptor was inherited": {"-device", tpmtest.New(t).Device(), "-state", t.TempDir(), "-domain", domain},
		"open TPM":                    {"-device", "/nonexistent", "-state", t.TempDir(), "-domain", domain},
		"read domain":                 {"-domain", "/nonexistent"},
		"parse domain":                {"-domain", bin},
		"unexpected":                  {"surplus"},
		"not defined":                 {"-surplus"},
	} {
		out, err := exec.Command(bin, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("tpmd %q: %v: %s; want %q", args, err, out, want)
		}
	}
}
