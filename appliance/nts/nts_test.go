package nts_test

import (
	"context"
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/nts"
	"github.com/keyrelease/krabox/appliance/nts/ntstest"
)

func client(address string, roots *x509.CertPool, now func() time.Time) *nts.Client {
	return nts.NewClient(nts.Server{Address: address, Roots: roots, Now: now, Dial: (&net.Dialer{Timeout: 5 * time.Second}).DialContext})
}

func within(t *testing.T, r nts.Reading, err error, want time.Duration) {
	t.Helper()
	if err != nil || (r.Offset-want).Abs() > r.Uncertainty+100*time.Millisecond || r.Uncertainty > nts.MaxUncertainty {
		t.Errorf("reading = %v ± %v, %v; want %v", r.Offset, r.Uncertainty, err, want)
	}
}

// refused asks, and wants an error that says so.
func refused(t *testing.T, what string, c *nts.Client, want string) {
	t.Helper()
	if r, err := c.Ask(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %+v, %v; want %q", what, r, err, want)
	}
}

// TestChronyd: an independent server gives the time, more often than it gave cookies, and nobody else vouches for it.
func TestChronyd(t *testing.T) {
	a := ntstest.NewAuthority(t)
	s := ntstest.Chronyd(t, a)
	c := client(s.Address, a.Pool(), time.Now)
	for range 12 {
		r, err := c.Ask(t.Context())
		within(t, r, err, 0)
	}
	refused(t, "another authority", client(s.Address, ntstest.NewAuthority(t).Pool(), time.Now), "certificate signed by unknown authority")
	refused(t, "no authority", client(s.Address, x509.NewCertPool(), time.Now), "certificate signed by unknown authority")
	refused(t, "expired", client(s.Address, a.Pool(), func() time.Time { return time.Now().AddDate(0, 0, 3) }), "expired")
	s.Stop()
	refused(t, "gone", c, "ask for the time")
}

// TestForgedAnswers: a network that changes chronyd's answers gets none of them believed.
func TestForgedAnswers(t *testing.T) {
	a := ntstest.NewAuthority(t)
	s := ntstest.Chronyd(t, a)
	through := func(change func([]byte) []byte) *nts.Client {
		d := &net.Dialer{Timeout: 5 * time.Second}
		return nts.NewClient(nts.Server{Address: s.Address, Roots: a.Pool(), Now: time.Now, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := d.DialContext(ctx, network, address)
			if err == nil && network == "udp" {
				c = forger{c, change}
			}
			return c, err
		}})
	}
	r, err := through(func(b []byte) []byte { return b }).Ask(t.Context())
	within(t, r, err, 0)
	var first []byte
	for what, c := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"transmit time":       {func(b []byte) []byte { b[40] ^= 1; return b }, "not authentic"},
		"stratum":             {func(b []byte) []byte { b[1]++; return b }, "not authentic"},
		"unique identifier":   {func(b []byte) []byte { b[52] ^= 1; return b }, "another question"},
		"authenticator":       {func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, "not authentic"},
		"without extensions":  {func(b []byte) []byte { return b[:48] }, "not authentic"},
		"without the last":    {func(b []byte) []byte { return b[:84] }, "not authentic"},
		"refused cookie":      {func(b []byte) []byte { b[1] = 0; copy(b[12:], "NTSN"); return b[:84] }, "not authentic"},
		"broken field":        {func(b []byte) []byte { b[51] = 3; return b }, "malformed"},
		"long field":          {func(b []byte) []byte { b[50] = 0xff; return b }, "malformed"},
		"authenticator first": {func(b []byte) []byte { return append(b[:48:48], b[84:]...) }, "another question"},
	} {
		refused(t, what, through(c.change), c.want)
	}
	old := through(func(b []byte) []byte {
		if first == nil {
			first = append(first, b...)
		}
		return append([]byte{}, first...)
	})
	if _, err := old.Ask(t.Context()); err != nil {
		t.Error(err)
	}
	refused(t, "an answer of before", old, "another question")
}

// A forger changes what is read.
type forger struct {
	net.Conn
	change func([]byte) []byte
}

func (f forger) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if err != nil {
		return n, err
	}
	return copy(b, f.change(append([]byte{}, b[:n]...))), nil
}

// TestOldCertificate: whoever has the key of an old certificate can tell no time at which it is not valid, even to a box that is late
// itself.
func TestOldCertificate(t *testing.T) {
	a := ntstest.NewAuthority(t)
	then := time.Now().AddDate(0, -6, 0)
	l := ntstest.NewLiar(t, a.Certify(t, then.AddDate(0, 0, -1), then.AddDate(0, 0, 1)))
	c := client(l.Address, a.Pool(), func() time.Time { return then })
	refused(t, "today", c, "certificate is not valid")
	off := time.Until(then)
	l.Tell(off)
	r, err := c.Ask(t.Context())
	within(t, r, err, off)
}

func TestAgree(t *testing.T) {
	type R = nts.Reading
	const ms = time.Millisecond
	near, far := R{Offset: 0, Uncertainty: 10 * ms}, R{Offset: time.Hour, Uncertainty: 10 * ms}
	for name, c := range map[string]struct {
		of   int
		in   []R
		want R
		ok   bool
	}{
		"none":                  {0, nil, R{}, false},
		"one of one":            {1, []R{near}, near, true},
		"one of two":            {2, []R{near}, R{}, false},
		"two that differ":       {2, []R{near, far}, R{}, false},
		"two of three":          {3, []R{near, {5 * ms, 10 * ms}, far}, R{2500 * time.Microsecond, 7500 * time.Microsecond}, true},
		"two of three answer":   {3, []R{near, near}, near, true},
		"one of three answers":  {3, []R{near}, R{}, false},
		"two of four":           {4, []R{near, near, far, far}, R{}, false},
		"three of five":         {5, []R{near, far, near, far, near}, near, true},
		"all apart":             {3, []R{near, far, {-time.Hour, ms}}, R{}, false},
		"too uncertain":         {1, []R{{0, 2 * time.Second}}, R{}, false},
		"one uncertain, a liar": {3, []R{near, far, {0, 2 * time.Hour}}, R{}, false},
		"a bridge":              {3, []R{{-700 * ms, 100 * ms}, {700 * ms, 100 * ms}, {0, time.Second}}, R{0, 800 * ms}, true},
		"negative":              {1, []R{{0, -1}}, R{}, false},
	} {
		if got, ok := nts.Agree(c.of, c.in); got != c.want || ok != c.ok {
			t.Errorf("%s: %v, %v; want %v, %v", name, got, ok, c.want, c.ok)
		}
	}
	if !near.With(R{15 * ms, 5 * ms}) || far.With(near) {
		t.Error("With")
	}
}
