package inform_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/attrcert"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/client/clienttest"
	"github.com/keyrelease/krabox/kra/repository"
)

// The encryptors' repository and the agent's may be one, or two with a key each (E-30).
func TestOneRepositoryOrTwo(t *testing.T) {
	c, a := newCorp(t), clienttest.New(t)
	a.AddKey(t, "legal-team", "Legal team", block.SuiteP256)
	trust, err := client.ParseTrust(a.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	agent, err := client.NewAgent(client.Config{URL: a.URL, Trust: trust})
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	dir, err := agent.Directory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	published, err := kra.ParseDirectory(dir.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := attrcert.Parse(c.aa.attest(t, c.template()))
	if err != nil {
		t.Fatal(err)
	}
	entry := func(e repository.Entry, err error) repository.Entry {
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	forEncryptors := []repository.Entry{entry(repository.Access(published.Keys[0]))}
	forAgents := []repository.Entry{entry(repository.Decryptor(c.alice.cert)), entry(repository.Attributes(cert))}

	// site publishes entries for a while and serves them.
	site := func(s repository.Signer, entries ...repository.Entry) string {
		files, err := s.Publish(entries, time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		folder := t.TempDir()
		for name, b := range files {
			path := filepath.Join(folder, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		web := httptest.NewServer(http.FileServer(http.Dir(folder)))
		t.Cleanup(web.Close)
		return web.URL
	}
	one, theirs, ours := keyring(t), keyring(t), keyring(t)
	both := site(one, append(forEncryptors, forAgents...)...)
	left, right := site(theirs, forEncryptors...), site(ours, forAgents...)
	cases := map[string]struct {
		encryptors, agents       string
		encryptorsKey, agentsKey repository.Key
		found                    bool
	}{
		"one":                {both, both, one.Key(), one.Key(), true},
		"two":                {left, right, theirs.Key(), ours.Key(), true},
		"two, the wrong key": {left, right, ours.Key(), theirs.Key(), false},
	}
	for name, x := range cases {
		t.Run(name, func(t *testing.T) {
			r, err := client.NewRepository(x.encryptors, x.encryptorsKey, trust)
			if err != nil {
				t.Fatal(err)
			}
			if keys, err := r.Lookup(t.Context(), "legal-team"); (err == nil && len(keys) == 1) != x.found {
				t.Errorf("encryptor finds %d keys, %v", len(keys), err)
			}
			k := inform.NewKeeper(time.Now, nil)
			defer k.Close()
			if err := k.Configure(inform.Config{Authorities: []inform.Authority{c.source()}, Repositories: []inform.Repository{
				{Alias: "repo", Key: x.agentsKey, URL: x.agents, Every: time.Hour}}}); err != nil {
				t.Fatal(err)
			}
			waitFor(t, func() bool { s := k.Status()[0]; return s.Err != nil || !s.Fetched.IsZero() })
			if got := len(k.World().Certificates("CN=alice")) == 1; got != x.found {
				t.Errorf("agent finds alice's certificate: %v", got)
			}
			want := "missing corp-aa\n"
			if x.found {
				want = "group legal corp-aa repository\nrole urn:example:role:teller corp-aa repository\nattribute 2.5.4.11 Sales corp-aa repository\nclearance secret/crypto,nato corp-aa repository\n"
			}
			if got, _, err := resolveAt(k, c.of(t, c.alice), time.Now(), false); err != nil || got != want {
				t.Errorf("agent is told %q, %v; want %q", got, err, want)
			}
		})
	}
}
