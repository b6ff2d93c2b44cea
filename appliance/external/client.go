package external

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/release"
	"github.com/keyrelease/krabox/kra/policy"
)

// settleWithin is how long a reservation in doubt may take to be given back, when nobody waits for it.
const settleWithin = 10 * time.Second

// A client asks one service.
type client struct {
	box     string
	service Service
	http    *http.Client
	turns   chan struct{} // one token a question in flight
	kept    *cache
}

func newClient(box string, s Service) *client {
	return &client{box: box, service: s, turns: make(chan struct{}, s.InFlight), kept: newCache(), http: &http.Client{
		Transport: &http.Transport{ // no proxy: it would see whom we ask
			DialContext:            s.dial,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: s.Roots, Time: s.Now},
			TLSHandshakeTimeout:    s.Timeout,
			MaxConnsPerHost:        2 * s.InFlight, // settlements do not wait for questions
			MaxIdleConnsPerHost:    s.InFlight,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: maxHead,
			DisableCompression:     true, // what is short on the wire and long in memory
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// dial connects within the time of a question: the transport goes on with a connection that nobody waits for any longer.
func (s Service) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	if s.Dial == nil {
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	return s.Dial(ctx, network, address)
}

// ask decides between yes, no and doubt.
func (c *client) ask(ctx context.Context, q release.Question) (policy.Answer, release.Held) {
	value, err := c.value(q)
	if err != nil {
		return policy.Answer{Outcome: policy.Failed, Reason: err.Error()}, nil
	}
	defer clear(value)
	body := question{Protocol: protocol, Box: c.box, Source: q.Source.String(), Header: q.Header.String(), Charge: c.service.Charge.String(), Value: value,
		Decryptor: q.Decryptor.String()}
	if c.service.Mode == Reserve && c.service.Charge == Subject {
		body.Decryptor, body.Source = "", "" // money says enough
	}
	key, err := body.digest()
	if err != nil {
		return c.doubt("", err), nil
	}
	if a, ok := c.kept.get(key, time.Now()); ok && c.service.Mode == Verify {
		return c.outcome(a), nil
	}
	within, cancel := context.WithTimeout(ctx, c.service.Timeout)
	defer cancel()
	select {
	case c.turns <- struct{}{}:
	case <-within.Done():
		return c.doubt("", errors.New("too many questions in flight")), nil
	}
	return c.put(within, body, key)
}

// put sends a question, in its turn.
func (c *client) put(ctx context.Context, body question, key [32]byte) (policy.Answer, release.Held) {
	body.Nonce = newNonce()
	text, err := json.Marshal(body)
	if err != nil {
		<-c.turns
		return c.doubt("", err), nil
	}
	id, path := idOf(text), pathVerify
	if c.service.Mode == Reserve {
		path = pathReserve
	}
	a, keep, err := c.post(ctx, path, id, text)
	held := &reservation{c, id}
	if err != nil {
		go c.giveBack(held)
		return c.doubt(id, err), nil
	}
	<-c.turns
	if c.service.Mode == Verify {
		c.kept.put(key, a, keep, time.Now())
		return c.outcome(a), nil
	}
	if a.Answer != yes {
		return c.outcome(a), nil
	}
	return c.outcome(a), held
}

// giveBack cancels what may or may not have been reserved, and only then lets the next question have its turn.
func (c *client) giveBack(held *reservation) {
	defer func() { <-c.turns }()
	if c.service.Mode != Reserve {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), settleWithin)
	defer cancel()
	_ = held.Cancel(ctx) // a service forgets what is not captured in time
}

// value returns what the service is given: the platform's own, or what was presented for this service.
func (c *client) value(q release.Question) ([]byte, error) {
	if c.service.Charge == Platform {
		if c.service.Value == nil {
			return nil, nil
		}
		return c.service.Value(), nil
	}
	v, ok := q.Presented.Value(c.service.Alias)
	if !ok {
		return nil, errors.New("nothing was presented for it")
	}
	return v, nil
}

// digest is what two questions have in common that may have one answer.
func (q question) digest() ([32]byte, error) {
	b, err := json.Marshal(q)
	defer clear(b)
	return sha256.Sum256(b), err
}

// outcome writes who pays and which question it was into the log, before the service's own words.
func (c *client) outcome(a answer) policy.Answer {
	out := policy.Answer{Outcome: policy.Failed, Reason: c.told(a.ID, a.Reason)}
	if a.Answer == yes {
		out.Outcome = policy.Passed
	}
	return out
}

func (c *client) told(id, words string) string {
	parts := []string{c.service.Charge.String() + " pays"}
	if c.service.Mode == Verify {
		parts[0] = "value of " + c.service.Charge.String()
	}
	if id != "" {
		parts = append(parts, id[:16])
	}
	if words != "" {
		parts = append(parts, words)
	}
	return strings.Join(parts, ", ")
}

func (c *client) doubt(id string, err error) policy.Answer {
	return policy.Answer{Outcome: policy.Errored, Reason: c.told(id, err.Error())}
}

// post sends a body and returns the answer to it, and for how long it may be kept. The body leaves only after the
// server's certificate was verified.
func (c *client) post(ctx context.Context, path, id string, body []byte) (answer, time.Duration, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.service.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	r.Header.Set(keyHeader, id)
	got, err := c.http.Do(r)
	if err != nil {
		return answer{}, 0, reached(err)
	}
	defer got.Body.Close()
	if err := ctx.Err(); err != nil { // what a server sends to who has gone is no answer
		return answer{}, 0, reached(err)
	}
	if got.StatusCode != http.StatusOK {
		return answer{}, 0, fmt.Errorf("status %d", got.StatusCode)
	}
	if kind, _, err := mime.ParseMediaType(got.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return answer{}, 0, errors.New("answer is not JSON")
	}
	b, err := io.ReadAll(io.LimitReader(got.Body, maxAnswer+1))
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return answer{}, 0, reached(err)
	}
	a, err := parseAnswer(b)
	if err == nil && a.ID != id {
		err = errors.New("answer to another question")
	}
	return a, maxAge(got.Header), err
}

// reached says in few words why there is no answer.
func reached(err error) error {
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &cert):
		return errors.New("its server is not vouched for")
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	}
	return errors.New("cannot be reached")
}
