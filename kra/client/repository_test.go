package client_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/client/clienttest"
	"github.com/keyrelease/krabox/kra/repository"
)

func keyring(t testing.TB) repository.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := repository.ParseSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// publishTo writes the keys of agents' directories, and further ones, into a folder.
func publishTo(t testing.TB, s repository.Signer, until time.Time, agents []*clienttest.Agent, more ...kra.PublicKey) string {
	t.Helper()
	var entries []repository.Entry
	for _, a := range agents {
		d, err := as(t, a, "").Directory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w, err := kra.ParseDirectory(d.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		more = append(more, w.Keys...)
	}
	for _, k := range more {
		e, err := repository.Access(k)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	files, err := s.Publish(entries, until.Add(-time.Hour), until)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range files {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func repo(t testing.TB, where string, k repository.Key, tr client.Trust) *client.Repository {
	t.Helper()
	r, err := client.NewRepository(where, k, tr)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Keys are looked up in a folder and on a web server, without the agent; the block opens through it.
func TestRepositoryLookup(t *testing.T) {
	a, s := newAgent(t), keyring(t)
	dir := publishTo(t, s, time.Now().Add(time.Minute), []*clienttest.Agent{a})
	web := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer web.Close()
	for name, where := range map[string]string{"folder": dir, "web": web.URL, "web, with a slash": web.URL + "/"} {
		t.Run(name, func(t *testing.T) {
			r := repo(t, where, s.Key(), trust(t, a))
			keys, err := r.Lookup(t.Context(), "legal-team")
			if err != nil || len(keys) != 1 || keys[0].Title() != "Legal team" {
				t.Fatalf("Lookup = %d keys, %v", len(keys), err)
			}
			all, err := r.Keys(t.Context())
			if err != nil || len(all) != 2 {
				t.Fatalf("Keys = %d, %v; want 2", len(all), err)
			}
			if _, err := r.Lookup(t.Context(), "nobody"); !errors.Is(err, client.ErrNoEntry) {
				t.Errorf("nobody: %v", err)
			}
			to, err := keys[0].Recipient()
			if err != nil {
				t.Fatal(err)
			}
			block := encrypt(t, "for the team", []age.Recipient{to}...)
			if text, _, err := decrypt(t.Context(), opener(t, client.AskIfNeeded, as(t, a, "alice")), block); err != nil || text != "for the team" {
				t.Errorf("decrypt = %q, %v", text, err)
			}
		})
	}
}

// An entry counts only if the repository's key signed it, now, and its certificate leads to the domain root.
func TestRepositoryIsVerified(t *testing.T) {
	a, s := newAgent(t), keyring(t)
	soon := time.Now().Add(time.Minute)
	dir := publishTo(t, s, soon, []*clienttest.Agent{a})
	change := func(edit func(b []byte) []byte) string {
		to := publishTo(t, s, soon, []*clienttest.Agent{a})
		for _, name := range []string{repository.AllFile, repository.AccessFile("legal-team")} {
			b, err := os.ReadFile(filepath.Join(to, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(to, name), edit(b), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return to
	}
	forged := a.Forge(t, "legal-team", func(f *clienttest.Forgery) { f.By = "persons" })
	cases := map[string]struct {
		where string
		key   repository.Key
		trust client.Trust
	}{
		"signed by another key":    {dir, keyring(t).Key(), trust(t, a)},
		"a bit of the certificate": {change(func(b []byte) []byte { b[strings.Index(string(b), "BEGIN CERT")+400] ^= 1; return b }), s.Key(), trust(t, a)},
		"unsigned": {change(func(b []byte) []byte {
			return []byte(strings.ReplaceAll(string(b), `,"signature":"`, `,"signature":"","x":"`))
		}), s.Key(), trust(t, a)},
		"cut short":                {change(func(b []byte) []byte { return b[:len(b)-1] }), s.Key(), trust(t, a)},
		"expired":                  {publishTo(t, s, time.Now().Add(-time.Minute), []*clienttest.Agent{a}), s.Key(), trust(t, a)},
		"of another domain":        {dir, s.Key(), trust(t, clienttest.New(t))},
		"certified by another key": {publishTo(t, s, soon, nil, forged), s.Key(), trust(t, a)},
	}
	for name, x := range cases {
		t.Run(name, func(t *testing.T) {
			r := repo(t, x.where, x.key, x.trust)
			var bad *client.Untrusted
			if keys, err := r.Lookup(t.Context(), "legal-team"); !errors.As(err, &bad) || len(keys) != 0 {
				t.Errorf("Lookup = %d keys, %v; want none, not believed", len(keys), err)
			}
			if keys, err := r.Keys(t.Context()); !errors.As(err, &bad) || len(keys) != 0 {
				t.Errorf("Keys = %d, %v; want none, not believed", len(keys), err)
			}
		})
	}
	if _, err := client.NewRepository(dir, repository.Key{}, trust(t, a)); err == nil {
		t.Error("a repository without a key is prepared")
	}
	if _, err := client.NewRepository(dir, s.Key(), client.Trust{}); err == nil {
		t.Error("a repository without a root is prepared")
	}
	for _, where := range []string{"ftp://x", "https://", "https://u@x/", "https://x/?q"} {
		if _, err := client.NewRepository(where, s.Key(), trust(t, a)); err == nil {
			t.Errorf("address %q is taken", where)
		}
	}
}
