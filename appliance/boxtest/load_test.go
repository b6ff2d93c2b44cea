package boxtest_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/tag"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/cms"
	"github.com/keyrelease/krabox/kra/block/jwe"
	"github.com/keyrelease/krabox/kra/client"
)

// A form makes the header portion of a block for a key. Each names the key in its own way.
type form struct {
	name string
	head func(crypto.PublicKey) ([]byte, error)
}

var (
	kraForm = form{"kra", kraHead} // by its id
	cmsForm = form{"cms", cmsHead} // by its subject key identifier
	jweForm = form{"jwe", jweHead} // by its thumbprint
	tagForm = form{"tag", tagHead} // as stock age does, by what only a trial of each key finds
)

func kraHead(pub crypto.PublicKey) ([]byte, error) {
	to, err := block.NewRecipient(pub)
	if err != nil {
		return nil, err
	}
	return ageHead(to)
}

func tagHead(pub crypto.PublicKey) ([]byte, error) {
	name, err := block.AgeRecipient(pub)
	if err != nil {
		return nil, err
	}
	to, err := tag.ParseRecipient(name)
	if err != nil {
		return nil, err
	}
	return ageHead(to)
}

func ageHead(to age.Recipient) ([]byte, error) {
	var file bytes.Buffer
	w, err := client.Encrypt(&file, to)
	if err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	h, _, err := block.ParseHeader(&file, block.MaxHeader)
	return h.Bytes(), err
}

func cmsHead(pub crypto.PublicKey) ([]byte, error) {
	to, err := cms.ToKey(pub)
	if err != nil {
		return nil, err
	}
	var message bytes.Buffer
	w, err := cms.Encrypt(&message, cms.Unsized, to)
	if err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	h, _, err := cms.ReadHead(&message)
	return h.Bytes(), err
}

func jweHead(pub crypto.PublicKey) ([]byte, error) {
	raw, err := jwe.Encrypt([]byte("text"), pub)
	if err != nil {
		return nil, err
	}
	m, err := jwe.Read(bytes.NewReader(raw))
	return m.Head().Bytes(), err
}

// publicKeys are the keys that a box publishes.
func publicKeys(t testing.TB, box *boxtest.Box, cert *tls.Certificate) map[kra.AccessID]crypto.PublicKey {
	t.Helper()
	d, err := box.Agent(cert).Directory(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	keys := map[kra.AccessID]crypto.PublicKey{}
	for _, k := range d.Keys() {
		keys[k.Access()] = k.Public()
	}
	return keys
}

// headFor is a header for an access identifier.
func headFor(t testing.TB, f form, keys map[kra.AccessID]crypto.PublicKey, access string) []byte {
	t.Helper()
	pub, ok := keys[kra.AccessID(access)]
	if !ok {
		t.Fatalf("no key for %s", access)
	}
	head, err := f.head(pub)
	if err != nil {
		t.Fatalf("make %s header: %v", f.name, err)
	}
	return head
}

// A load is a request, or many, to be sent again and again.
type load struct {
	url    string
	client *http.Client
	heads  [][]byte // of the first request
	bodies [][]byte
	batch  int
	busy   atomic.Int64 // answers that asked to try again later
}

func newLoad(b testing.TB, box *boxtest.Box, cert *tls.Certificate, access []string, batch int, fresh bool) *load {
	b.Helper()
	return newLoadOf(b, box, cert, kraForm, publicKeys(b, box, cert), access, batch, fresh)
}

// newLoadOf makes one request for each access identifier, of batch headers, and checks that the box releases the first.
func newLoadOf(b testing.TB, box *boxtest.Box, cert *tls.Certificate, f form, keys map[kra.AccessID]crypto.PublicKey, access []string, batch int, fresh bool) *load {
	b.Helper()
	l := &load{url: releaseURL(box), client: clientOf(b, box, fresh, *cert), batch: batch}
	for _, a := range access {
		heads := make([][]byte, batch)
		for i := range heads {
			heads[i] = headFor(b, f, keys, a)
		}
		q, err := kra.NewRequest(heads, "")
		if err != nil {
			b.Fatal(err)
		}
		if l.heads == nil {
			l.heads = heads
		}
		l.bodies = append(l.bodies, q.Encode())
	}
	if err := l.check(); err != nil {
		b.Fatalf("%s header for %s: %v", f.name, access[0], err)
	}
	return l
}

func releaseURL(box *boxtest.Box) string {
	return "https://" + box.Up().Release.String() + kra.PathRelease
}

// clientOf speaks HTTP only: it costs the box's machine as little as may be.
func clientOf(t testing.TB, box *boxtest.Box, fresh bool, certs ...tls.Certificate) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust(t, box).Roots(), Certificates: certs}, MaxIdleConnsPerHost: 256, DisableKeepAlives: fresh}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func (l *load) post(body []byte) (code int, answer []byte, err error) {
	resp, err := l.client.Post(l.url, kra.ContentType, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// check sends the first request and looks at the keys.
func (l *load) check() error {
	code, answer, err := l.post(l.bodies[0])
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("status %d", code)
	}
	r, err := kra.ParseResponse(answer, l.batch)
	if err != nil {
		return err
	}
	for i, res := range r.Results {
		if res.Refused() {
			return fmt.Errorf("header %d is refused", i)
		}
		k := res.Key()
		if err := k.Use(func(key []byte) error { return fits(key, l.heads[i]) }); err != nil {
			return fmt.Errorf("header %d: %w", i, err)
		}
	}
	return nil
}

// fits reports whether the key is the header's, as far as the header alone says it: age's has a MAC under the key.
func fits(key, head []byte) error {
	h, err := block.ParseHeaderBytes(head)
	if err != nil {
		if len(key) != 32 {
			return fmt.Errorf("key of %d bytes", len(key))
		}
		return nil
	}
	return h.VerifyMAC(key)
}

// patience is how long a busy box is asked again.
const patience = 2 * time.Minute

// send sends a request until it is answered. A box that has too much to do says so, and asks to try again a little later.
func (l *load) send(n int) error {
	for end := time.Now().Add(patience); ; l.busy.Add(1) {
		code, err := l.once(n)
		if err != nil || code == http.StatusOK {
			return err
		}
		if code != http.StatusServiceUnavailable || time.Now().After(end) {
			return fmt.Errorf("status %d", code)
		}
		time.Sleep(time.Second)
	}
}

func (l *load) once(n int) (code int, err error) {
	resp, err := l.client.Post(l.url, kra.ContentType, bytes.NewReader(l.bodies[n]))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// run sends bodies at random on conns connections until the time is over and returns how long each request took.
func (l *load) run(b testing.TB, conns int, limit time.Duration) []time.Duration {
	b.Helper()
	var mu sync.Mutex
	var took []time.Duration
	end := time.Now().Add(limit)
	var all sync.WaitGroup
	for range conns {
		all.Go(func() {
			var own []time.Duration
			for time.Now().Before(end) {
				began := time.Now()
				if err := l.send(mathrand.IntN(len(l.bodies))); err != nil {
					b.Errorf("%d connections, after %v: %v", conns, time.Since(began), err)
					return
				}
				own = append(own, time.Since(began))
			}
			mu.Lock()
			took = append(took, own...)
			mu.Unlock()
		})
	}
	all.Wait()
	slices.Sort(took)
	if len(took) == 0 {
		b.Fatal("nothing was measured")
	}
	return took
}

// A sample is what a load cost.
type sample struct {
	cost cost
	took []time.Duration
	wall time.Duration
	keys int
}

// take puts the load on the box.
func (l *load) take(b testing.TB, box *boxtest.Box, conns int, limit time.Duration) sample {
	b.Helper()
	before, began := serverCost(b, box), time.Now()
	took := l.run(b, conns, limit)
	return sample{serverCost(b, box).plus(before, -1), took, time.Since(began), len(took) * l.batch}
}

func (s *sample) add(more sample) {
	s.cost, s.took, s.wall, s.keys = s.cost.plus(more.cost, 1), append(s.took, more.took...), s.wall+more.wall, s.keys+more.keys
}

// perKey is d for one key, in microseconds.
func (s *sample) perKey(d time.Duration) float64 { return us(d) / float64(s.keys) }

func (s *sample) figure(b testing.TB, name string, box *boxtest.Box) figure {
	b.Helper()
	slices.Sort(s.took)
	return figure{Name: name, CPU: s.perKey(s.cost.sum()), TPMD: s.perKey(s.cost[0]), HSMD: s.perKey(s.cost[1]), KRAD: s.perKey(s.cost[2]),
		P50: us(s.took[len(s.took)/2]), P99: us(s.took[len(s.took)*99/100]), RSS: serverRSS(b, box), Rate: float64(s.keys) / s.wall.Seconds()}
}
