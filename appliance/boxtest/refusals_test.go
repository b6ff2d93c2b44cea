package boxtest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
)

var benchRefusals = flag.Int("refusals", 200, "refusals of each cause whose time is taken; strangers may not ask for more than 256 headers at once")

// askers is how many ask at the same time, each for every cause in turns: what disturbs one cause disturbs all.
const askers = 8

// A cause is a request that is refused, and the client that sends it.
type cause struct {
	name   string
	client *http.Client
	body   []byte
}

// A distribution is one line of bench.json: how long after the request the refusals of one cause came.
type distribution struct {
	Name string  `json:"refusal"`
	P1   float64 `json:"p1_us"`
	P50  float64 `json:"p50_us"`
	P90  float64 `json:"p90_us"`
	P99  float64 `json:"p99_us"`
	Max  float64 `json:"max_us"`
}

func distributionOf(name string, took []time.Duration) distribution {
	slices.Sort(took)
	at := func(percent int) float64 { return us(took[min(len(took)*percent/100, len(took)-1)]) }
	return distribution{name, at(1), at(50), at(90), at(99), at(100)}
}

// refusals takes the times at which refusals leave, by cause, and how far apart their medians are.
func (r *report) refusals(box *boxtest.Box, bob *tls.Certificate) {
	r.b.Helper()
	causes := refusalsOf(r.b, box, bob)
	took, bodies := askAll(r.b, releaseURL(box), causes, (*benchRefusals+askers-1)/askers)
	for i, c := range causes {
		d := distributionOf(c.name, took[i])
		r.times = append(r.times, d)
		fmt.Fprintf(os.Stderr, "refusal/%-28s p1 %8.0f  p50 %8.0f  p90 %8.0f  p99 %8.0f  max %8.0f us\n", d.Name, d.P1, d.P50, d.P90, d.P99, d.Max)
		if !bytes.Equal(bodies[i], bodies[0]) {
			r.b.Errorf("refusal of %s says %s; of %s %s", c.name, bodies[i], causes[0].name, bodies[0])
		}
	}
	least, most := r.times[0].P50, r.times[0].P50
	for _, d := range r.times {
		least, most = min(least, d.P50), max(most, d.P50)
	}
	r.measure("refusals, largest difference of medians", most-least, "us")
	box.Do("source remove people", "yes")
}

// refusalsOf makes a request for each cause of refusal. What is malformed is answered at once, and is none of them: its
// form is all that the answer depends on.
func refusalsOf(b testing.TB, box *boxtest.Box, bob *tls.Certificate) []cause {
	b.Helper()
	box.Do(`rule add elsewhere is id == "corp:CN=alice,O=Example"`)
	box.Do(`rule add office when "Mon-Sun 00:00-24:00 UTC"`)
	for access, rule := range map[string]string{"never": "elsewhere", "undecided": "office", "removed": "counsel"} {
		makeKey(b, box, hsm.P256, access, rule)
	}
	if shown := box.Do("access test undecided as corp:CN=bob,O=Example from 127.0.0.1"); !strings.Contains(lineOf(shown, "office "), "error") {
		b.Fatalf("a rule about a clock that nobody vouches for has no error:\n%s", shown)
	}
	keys := publicKeys(b, box, bob)
	foreign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	keys["foreign"] = foreign.Public()
	carol := box.Person("carol")
	box.Do("source add crl people of corp", revoked(b, box, 1, carol.Leaf))
	box.Do("access remove removed", "yes")

	good := headFor(b, kraForm, keys, "p256")
	head := func(access string) []byte { return headFor(b, kraForm, keys, access) }
	asBob, asCarol, asNobody := clientOf(b, box, false, *bob), clientOf(b, box, false, carol), clientOf(b, box, true)
	return []cause{
		{"unknown key", asBob, requestFor(b, head("foreign"), "")},
		{"unknown access identifier", asBob, requestFor(b, head("removed"), "")},
		{"rule is false", asBob, requestFor(b, head("never"), "")},
		{"rule has an error", asBob, requestFor(b, head("undecided"), "")},
		{"key does not open", asBob, requestFor(b, spoilt(good, bytes.LastIndexByte(good[:bytes.Index(good, []byte("\n--- "))], '\n')+1), "")},
		{"MAC is wrong", asBob, requestFor(b, spoilt(good, bytes.Index(good, []byte("\n--- "))+5), "")},
		{"MAC is left out", asBob, requestFor(b, withoutMAC(good), "")},
		{"says to be another", asBob, requestFor(b, good, "corp:CN=alice,O=Example")},
		{"certificate is revoked", asCarol, requestFor(b, good, "")},
		{"stranger, not permitted", asNobody, sealedRequestFor(b, good, box.Person("dave").Leaf)},
	}
}

// spoilt is a header with another letter at i.
func spoilt(head []byte, i int) []byte {
	head = slices.Clone(head)
	if head[i]++; head[i] == 'Z'+1 || head[i] == 'z'+1 || head[i] == '9'+1 || head[i] < '0' {
		head[i] = 'B'
	}
	return head
}

func withoutMAC(head []byte) []byte {
	i := bytes.Index(head, []byte("\n--- ")) + 5
	return slices.Concat(head[:i], bytes.Repeat([]byte("A"), 43), head[i+43:])
}

func requestFor(b testing.TB, head []byte, claim string) []byte {
	b.Helper()
	q, err := kra.NewRequest([][]byte{head}, claim)
	if err != nil {
		b.Fatal(err)
	}
	return q.Encode()
}

// sealedRequestFor asks for an answer that only the holder of a certificate can read.
func sealedRequestFor(b testing.TB, head []byte, to *x509.Certificate) []byte {
	b.Helper()
	q, err := kra.NewRequest([][]byte{head}, "")
	if err == nil {
		q, err = q.Present(kra.Presented{Certificates: []*x509.Certificate{to}})
	}
	if err != nil {
		b.Fatal(err)
	}
	d, err := kra.NewDelivery(kra.ToCertificate)
	if err == nil {
		q, err = q.Deliver(d)
	}
	if err != nil {
		b.Fatal(err)
	}
	return q.Encode()
}

// askAll returns, by cause, how long answers took, and what the last of them said.
func askAll(b testing.TB, url string, causes []cause, rounds int) (took [][]time.Duration, bodies [][]byte) {
	b.Helper()
	took, bodies = make([][]time.Duration, len(causes)), make([][]byte, len(causes))
	var mu sync.Mutex
	var all sync.WaitGroup
	for range askers {
		all.Go(func() {
			for range rounds {
				for _, i := range mathrand.Perm(len(causes)) {
					t, body, err := causes[i].ask(url)
					if err != nil {
						b.Errorf("%s: %v", causes[i].name, err)
						return
					}
					mu.Lock()
					took[i], bodies[i] = append(took[i], t), body
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return took, bodies
}

// ask sends the request, and returns how long after it the first byte of the refusal came.
func (c cause) ask(url string) (took time.Duration, body []byte, err error) {
	q, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(c.body))
	if err != nil {
		return 0, nil, err
	}
	q.Header.Set("Content-Type", kra.ContentType)
	var sent, answered time.Time
	trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { sent = time.Now() }, GotFirstResponseByte: func() { answered = time.Now() }}
	resp, err := c.client.Do(q.WithContext(httptrace.WithClientTrace(q.Context(), trace)))
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	var out bytes.Buffer
	if _, err := out.ReadFrom(resp.Body); err != nil {
		return 0, nil, err
	}
	if resp.StatusCode != http.StatusForbidden {
		return 0, nil, fmt.Errorf("status %d: %s", resp.StatusCode, out.Bytes())
	}
	return answered.Sub(sent), out.Bytes(), nil
}
