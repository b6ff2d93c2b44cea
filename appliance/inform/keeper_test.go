package inform_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyrelease/krabox/appliance/inform"
)

// A site serves files that change.
type site struct {
	mu    sync.Mutex
	files map[string][]byte
	gets  int
	*httptest.Server
}

func newSite(t testing.TB) *site {
	s := &site{files: map[string][]byte{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gets++
		switch b, ok := s.files[r.URL.Path]; {
		case r.URL.Path == "/elsewhere":
			http.Redirect(w, r, "/list", http.StatusFound)
		case ok:
			w.Write(b)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) put(path string, b []byte) (gets int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = b
	return s.gets
}

func (s *site) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gets
}

const often = 20 * time.Millisecond

func (c corp) fetched(url string) inform.Config {
	return inform.Config{Revocations: []inform.Revocation{{Alias: "crl", Of: "corp", Anchors: []*x509.Certificate{c.ca.cert}, URL: url, Every: often}}}
}

// A list that is fetched closes the anchor until it is there, and then revokes at once; what is no list, or an older one,
// changes nothing.
func TestRevokedAtOnce(t *testing.T) {
	c, s := newCorp(t), newSite(t)
	chain := []*x509.Certificate{c.alice.cert, c.ca.cert}
	serial := c.alice.cert.SerialNumber
	clean := c.ca.revoke(t, now, now.Add(time.Hour))
	s.put("/list", clean)
	k := keeper(t, c.fetched(s.URL+"/list"))
	waitFor(t, func() bool { return k.World().Revoked(chain, now) == nil })

	before := k.World()
	s.put("/list", c.ca.revoke(t, now.Add(time.Second), now.Add(time.Hour), serial))
	waitFor(t, func() bool { return errors.Is(k.World().Revoked(chain, now), inform.ErrRevoked) })
	if k.World() == before || before.Revoked(chain, now) != nil {
		t.Error("a World has changed; want another one")
	}
	stranger := newCorp(t)
	for what, b := range map[string][]byte{"an older list": clean, "a stranger's": stranger.ca.revoke(t, now.Add(time.Minute), now.Add(time.Hour)),
		"no list": []byte("<html>"), "nothing": nil, "too much": make([]byte, 9<<20)} {
		n := s.put("/list", b)
		waitFor(t, func() bool { return s.count() > n+1 && k.Status()[0].Err != nil })
		if err := k.World().Revoked(chain, now); !errors.Is(err, inform.ErrRevoked) {
			t.Errorf("%s: %v; want still revoked", what, err)
		}
		n = s.put("/list", c.ca.revoke(t, now.Add(time.Second), now.Add(time.Hour), serial))
		waitFor(t, func() bool { return s.count() > n && k.Status()[0].Err == nil })
	}
	// The last good one serves until it is overdue.
	if err := k.World().Revoked([]*x509.Certificate{c.aa.cert, c.ca.cert}, now.Add(2*time.Hour)); err == nil || !strings.Contains(err.Error(), "overdue") {
		t.Errorf("overdue: %v", err)
	}
}

// A host that goes on showing one list is believed until the list is too old by its own date, however often it is fetched.
func TestFrozenHost(t *testing.T) {
	c, s := newCorp(t), newSite(t)
	chain := []*x509.Certificate{c.alice.cert, c.ca.cert}
	s.put("/list", c.ca.revoke(t, now, now.AddDate(10, 0, 0)))
	conf := c.fetched(s.URL + "/list")
	conf.Revocations[0].MaxAge = time.Hour
	k := keeper(t, conf)
	waitFor(t, func() bool { return k.World().Revoked(chain, now) == nil })
	n := s.count()
	waitFor(t, func() bool { return s.count() > n+1 })
	if err := k.World().Revoked(chain, now.Add(time.Hour)); err != nil {
		t.Errorf("after an hour: %v", err)
	}
	if err := k.World().Revoked(chain, now.Add(time.Hour+time.Second)); err == nil || !strings.Contains(err.Error(), "overdue") {
		t.Errorf("after more than an hour: %v; want it overdue", err)
	}
	if got := k.Status()[0].Until; !got.Equal(now.Add(time.Hour)) {
		t.Errorf("status says until %s", got)
	}
}

func TestFetchRefusesRedirects(t *testing.T) {
	c, s := newCorp(t), newSite(t)
	s.put("/list", c.ca.revoke(t, now, now.Add(time.Hour)))
	k := keeper(t, c.fetched(s.URL+"/elsewhere"))
	waitFor(t, func() bool { return s.count() > 1 })
	if err := k.World().Revoked([]*x509.Certificate{c.alice.cert, c.ca.cert}, now); err == nil {
		t.Error("a redirect was followed")
	}
}

// Over TLS, the server must be one that the source's roots vouch for.
func TestFetchOverTLS(t *testing.T) {
	c := newCorp(t)
	list := c.ca.revoke(t, now, now.Add(time.Hour))
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(list) }))
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer web.Close()
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	for name, pool := range map[string]*x509.CertPool{"known": roots, "unknown": x509.NewCertPool()} {
		conf := c.fetched(web.URL)
		conf.Revocations[0].Roots = pool
		k := keeper(t, conf)
		waitFor(t, func() bool { s := k.Status()[0]; return s.Err != nil || !s.Fetched.IsZero() })
		if err := k.World().Revoked([]*x509.Certificate{c.alice.cert, c.ca.cert}, now); (err == nil) != (name == "known") {
			t.Errorf("server %s: %v", name, err)
		}
	}
}

// While a source's stamp stays, so does what was fetched; a source that is gone is forgotten.
func TestConfigureKeepsWhatItHas(t *testing.T) {
	c, s := newCorp(t), newSite(t)
	chain := []*x509.Certificate{c.alice.cert, c.ca.cert}
	s.put("/list", c.ca.revoke(t, now, now.Add(time.Hour)))
	conf := c.fetched(s.URL + "/list")
	conf.Revocations[0].Every = time.Hour
	k := keeper(t, conf)
	waitFor(t, func() bool { return k.World().Revoked(chain, now) == nil })
	again := c.fetched(s.URL + "/list")
	again.Revocations[0].Every = time.Hour
	again.Authorities = []inform.Authority{c.source()}
	if err := k.Configure(again); err != nil || k.World().Revoked(chain, now) != nil || s.count() != 1 {
		t.Errorf("configured anew: %v, %v, %d fetches; want the list of before", err, k.World().Revoked(chain, now), s.count())
	}
	again.Revocations[0].Stamp = "another"
	s.put("/list", nil)
	if err := k.Configure(again); err != nil || k.World().Revoked(chain, now) == nil {
		t.Errorf("another source under the alias: %v; want it closed until it has its own list", err)
	}
	if err := k.Configure(inform.Config{}); err != nil || k.World().Revoked(chain, now) != nil || len(k.Status()) != 0 {
		t.Errorf("source removed: %v, %v", err, k.World().Revoked(chain, now))
	}
	k.Close()
	if k.Configure(conf) == nil {
		t.Error("a closed keeper is configured")
	}
}

// Repositories come over HTTP, and never go back.
func TestRepositoryIsFetched(t *testing.T) {
	c, w, s := newCorp(t), newSite(t), keyring(t)
	file := func(age time.Duration) []byte {
		return publish(t, s, now.Add(-age), now.Add(time.Hour), []*keyPair{c.alice})
	}
	old := file(time.Hour)
	w.put("/r/all.jsonl", file(time.Minute))
	k := keeper(t, inform.Config{Repositories: []inform.Repository{{Alias: "repo", Key: s.Key(), URL: w.URL + "/r/", Every: often, MaxAge: time.Hour}}})
	known := func() bool { return len(k.World().Certificates("CN=alice")) == 1 }
	waitFor(t, known)
	n := w.put("/r/all.jsonl", old)
	waitFor(t, func() bool { return w.count() > n+1 && k.Status()[0].Err != nil })
	if err := k.Status()[0].Err; !known() || !strings.Contains(err.Error(), "older than what is known") {
		t.Errorf("yesterday's repository: %v; want today's kept", err)
	}
	w.put("/r/all.jsonl", publish(t, s, now, now.Add(time.Hour), nil))
	waitFor(t, func() bool { return !known() })
}

// A flaky is a directory server that answers, fails or hangs.
type flaky struct {
	syncs atomic.Int32
	mode  atomic.Int32 // 0 answers, 1 fails, 2 hangs until told to stop
}

func (f *flaky) Sync(ctx context.Context) (inform.Image, error) {
	f.syncs.Add(1)
	switch f.mode.Load() {
	case 1:
		return nil, errors.New("server is down")
	case 2:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return staff{"CN=alice": {"legal"}}, nil
}

// An image serves while the server is down, until it is too old; then the directory is unavailable.
func TestImagesAge(t *testing.T) {
	c := newCorp(t)
	for name, mode := range map[string]int32{"down": 1, "slow": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &flaky{}
				f.mode.Store(1)
				k := inform.NewKeeper(time.Now, nil)
				defer k.Close()
				if err := k.Configure(inform.Config{Directories: []inform.Directory{{Alias: "ldap", May: everything, Of: "corp", Server: f, Every: 10 * time.Minute, MaxAge: time.Hour}}}); err != nil {
					t.Fatal(err)
				}
				is := func(when, want string) {
					t.Helper()
					synctest.Wait()
					if got, _, err := resolve(t, k, c.of(t, c.alice)); err != nil || got != want {
						t.Errorf("%s: %q, %v; want %q", when, got, err, want)
					}
				}
				const there = "group legal ldap directory\n"
				is("before the first good look", "missing ldap\n")
				f.mode.Store(0)
				time.Sleep(16 * time.Second) // it is tried again soon
				is("at first", there)
				time.Sleep(3 * time.Hour)
				is("after hours of looks", there)
				f.mode.Store(mode)
				time.Sleep(49 * time.Minute) // the last good look may be 10 minutes old
				is("while the server is "+name, there)
				time.Sleep(12 * time.Minute)
				is("after an hour", "missing ldap\n")
				f.mode.Store(0)
				time.Sleep(21 * time.Minute) // a hanging look ends, and the wait after it
				is("when the server is back", there)
				if n := f.syncs.Load(); n > 60 {
					t.Errorf("%d looks", n)
				}
			})
		})
	}
}

// What a repository holds ends when it says so, by the box's clock.
func TestRepositoryEnds(t *testing.T) {
	c, s := newCorp(t), keyring(t)
	synctest.Test(t, func(t *testing.T) {
		k := inform.NewKeeper(time.Now, nil)
		defer k.Close()
		start := time.Now()
		file := publish(t, s, start, start.Add(time.Hour), []*keyPair{c.alice})
		if err := k.Configure(inform.Config{Repositories: []inform.Repository{{Alias: "repo", Key: s.Key(), Pasted: file}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(k.World().Certificates("CN=alice")) != 1 {
			t.Error("ends too early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(k.World().Certificates("CN=alice")) != 0 {
			t.Error("does not end")
		}
	})
}

// Readers see one World or the next, whatever happens meanwhile.
func TestManyAtOnce(t *testing.T) {
	c, s := newCorp(t), newSite(t)
	s.put("/list", c.ca.revoke(t, now, now.Add(time.Hour), big.NewInt(1)))
	conf := c.fetched(s.URL + "/list")
	conf.Authorities = []inform.Authority{c.source()}
	conf.Revocations[0].Every = time.Millisecond
	k := keeper(t, conf)
	p := c.of(t, c.alice)
	p.Attributes = [][]byte{c.aa.attest(t, c.template())}
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for range 50 {
				w := k.World()
				if in, err := w.Resolve(p, now, true); err != nil || len(in.Items()) != 4 {
					t.Errorf("Resolve = %v", err)
				}
				_ = w.Revoked(p.Chain, now)
				k.Status()
			}
		})
	}
	for range 20 {
		if err := k.Configure(conf); err != nil {
			t.Error(err)
		}
	}
	work.Wait()
}
