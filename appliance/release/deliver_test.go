package release

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

var aliceName = pkix.Name{CommonName: "alice", Organization: []string{"Example"}}

const alice = "corp:CN=alice,O=Example"

// anyone opens legal-team to requests of people who prove nothing.
func (w *world) anyone() {
	w.t.Helper()
	w.def.Rules[0].Expr = `id.under("corp:O=Example")`
	w.def.Access[0].Delivery = policy.ToAnyone
	w.publish()
}

// second is alice's certificate for encryption, besides the one that she signs with.
func (a authority) second(t testing.TB, key crypto.Signer, name pkix.Name) *x509.Certificate {
	t.Helper()
	use := func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }
	if _, ok := key.(*rsa.PrivateKey); ok {
		use = func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }
	}
	return leafOf(t, a.issueTo(t, key, name, x509.ExtKeyUsageEmailProtection, use))
}

func leafOf(t testing.TB, c tls.Certificate) *x509.Certificate {
	t.Helper()
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func newRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// toCertificate is the delivery to a certificate.
func toCertificate(t testing.TB) kra.Delivery {
	t.Helper()
	d, err := kra.NewDelivery(kra.ToCertificate)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func overChannel(t testing.TB) kra.Delivery {
	t.Helper()
	d, err := kra.NewDelivery(kra.ToChannel)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// compose makes a request.
func compose(t testing.TB, claim string, p kra.Presented, d kra.Delivery, headers ...block.Header) kra.Request {
	t.Helper()
	req, err := kra.NewRequest(rawOf(headers), claim)
	if err == nil {
		req, err = req.Present(p)
	}
	if err == nil {
		req, err = req.Deliver(d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func rawOf(headers []block.Header) (raw [][]byte) {
	for _, h := range headers {
		raw = append(raw, h.Bytes())
	}
	return raw
}

// unseal opens result i of an answer with the private key and reports whether the key is the header's.
func (w *world) unseal(body []byte, resp kra.Response, i int, private any, h block.Header) error {
	s, ok := resp.Results[i].Sealed()
	if !ok {
		return fmt.Errorf("result %d is not sealed", i)
	}
	k, err := kra.NewBinding("example", "box1", body).Open(private, i, s)
	if err != nil {
		return err
	}
	return k.Use(h.VerifyMAC)
}

// sealedTo asks and returns the answer, which must hold a sealed key for every header, opened by private.
func (w *world) sealedTo(c *http.Client, req kra.Request, private any, headers ...block.Header) error {
	w.t.Helper()
	code, body := w.post(c, req.Encode())
	if code != http.StatusOK {
		return fmt.Errorf("%d %s; log: %s", code, body, entryText(w.jour.last(1)[0]))
	}
	if bytes.Contains(body, []byte(`{"key":`)) {
		return errors.New("a key in the clear")
	}
	resp, err := kra.ParseResponse(body, len(headers))
	if err != nil {
		return err
	}
	for i, h := range headers {
		if err := w.unseal(req.Encode(), resp, i, private, h); err != nil {
			return err
		}
		if w.opens(h, resp, i) {
			return fmt.Errorf("result %d has its key in the clear", i)
		}
	}
	return nil
}

// TestSealedDelivery goes every way on which keys leave sealed: who the asker is says the channel or a certificate; the
// certificate is the channel's, presented, or the repository's; the key sealed to is EC or RSA, certified or made for the
// request.
func TestSealedDelivery(t *testing.T) {
	w := newWorld(t)
	w.anyone()
	h, second := w.hsm.header(t, "legal"), w.hsm.header(t, "legal")
	ec, rs, once := newECDSA(t), newRSA(t), newECDH(t)
	ecCert, rsCert := w.corp.second(t, ec, aliceName), w.corp.second(t, rs, aliceName)
	both := w.corp.issue(t, aliceName, x509.ExtKeyUsageClientAuth, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyAgreement })
	signing := w.corp.person(t, "alice", "Example")
	w.info.said.Store(&sayings{repository: map[string][][]*x509.Certificate{alice: {{leafOf(t, signing)}, {ecCert}}}})
	signed := func(by tls.Certificate) kra.Delivery {
		d, err := kra.SignDelivery("example", "box1", once.PublicKey(), rawOf([]block.Header{h, second}), by.PrivateKey.(crypto.Signer))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	to := toCertificate(t)
	shows := func(c *x509.Certificate) kra.Presented { return kra.Presented{Certificates: []*x509.Certificate{c}} }
	for name, tt := range map[string]struct {
		client  *http.Client
		claim   string
		shows   kra.Presented
		deliver kra.Delivery
		private any
		proved  bool
	}{
		"channel's certificate":          {w.client(both), "", kra.Presented{}, to, both.PrivateKey, true},
		"channel, second pair EC":        {w.client(signing), "", shows(ecCert), to, ec, true},
		"channel, second pair RSA":       {w.client(signing), alice, shows(rsCert), to, rs, true},
		"channel, key made for it":       {w.client(signing), "", kra.Presented{}, signed(signing), once, true},
		"nobody proved, EC":              {w.client(), "", shows(ecCert), to, ec, false},
		"nobody proved, RSA":             {w.client(), alice, shows(rsCert), to, rs, false},
		"nobody proved, repository":      {w.client(), alice, kra.Presented{}, to, ec, false},
		"nobody proved, key made for it": {w.client(), "", shows(leafOf(t, signing)), signed(signing), once, false},
		"stranger's certificate":         {w.client(w.stranger.person(t, "alice", "Example")), "", shows(ecCert), to, ec, false},
	} {
		req := compose(t, tt.claim, tt.shows, tt.deliver, h, second)
		if err := w.sealedTo(tt.client, req, tt.private, h, second); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, e := range w.jour.last(2) {
			var p struct {
				Channel  string
				Delivery struct{ To, Key string }
				Decision struct{ Decryptor string }
			}
			if err := json.Unmarshal(e.Private.(json.RawMessage), &p); err != nil {
				t.Fatal(err)
			}
			if e.Kind != receipt.Release || p.Decision.Decryptor != alice || p.Delivery.To != tt.deliver.To().String() || len(p.Delivery.Key) != 64 || (p.Channel == "") != tt.proved {
				t.Errorf("%s: logged as %s", name, entryText(e))
			}
		}
	}
}

func newECDH(t testing.TB) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKeyNeverInTheClear: with a sealed answer neither the answer nor the log has the message key in it, in any writing.
func TestKeyNeverInTheClear(t *testing.T) {
	w := newWorld(t)
	w.anyone()
	h, key := w.hsm.header(t, "legal"), newECDSA(t)
	req := compose(t, "", kra.Presented{Certificates: []*x509.Certificate{w.corp.second(t, key, aliceName)}}, toCertificate(t), h)
	code, body := w.post(w.client(), req.Encode())
	answer := bytes.Clone(body)
	resp, err := kra.ParseResponse(body, 1)
	if err != nil || code != http.StatusOK {
		t.Fatal(code, err)
	}
	s, _ := resp.Results[0].Sealed()
	k, err := kra.NewBinding("example", "box1", req.Encode()).Open(key, 0, s)
	if err != nil {
		t.Fatal(err)
	}
	record := entryText(w.jour.last(1)[0])
	err = k.Use(func(plain []byte) error {
		for _, form := range []string{string(plain), base64.StdEncoding.EncodeToString(plain), base64.RawStdEncoding.EncodeToString(plain), base64.RawURLEncoding.EncodeToString(plain), fmt.Sprintf("%x", plain), fmt.Sprintf("%X", plain), fmt.Sprint(plain)} {
			if bytes.Contains(answer, []byte(form)) || strings.Contains(record, form) {
				t.Errorf("the key is in the answer or in the log as %d bytes", len(form))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSwappedAnswers: an answer opens as the answer to its own request only, and each result at its own place.
func TestSwappedAnswers(t *testing.T) {
	w := newWorld(t)
	w.anyone()
	a, b, key := w.hsm.header(t, "legal"), w.hsm.header(t, "legal"), newECDSA(t)
	shows := kra.Presented{Certificates: []*x509.Certificate{w.corp.second(t, key, aliceName)}}
	ask := func(headers ...block.Header) ([]byte, kra.Response) {
		req := compose(t, "", shows, toCertificate(t), headers...).Encode()
		_, body := w.post(w.client(), req)
		resp, err := kra.ParseResponse(body, len(headers))
		if err != nil {
			t.Fatal(err)
		}
		return req, resp
	}
	first, toFirst := ask(a, b)
	other, toOther := ask(b, a)
	if err := w.unseal(first, toFirst, 0, key, a); err != nil {
		t.Fatal(err)
	}
	if w.unseal(first, toOther, 1, key, a) == nil || w.unseal(other, toFirst, 1, key, b) == nil {
		t.Error("the answer to another request opens")
	}
	toFirst.Results[0], toFirst.Results[1] = toFirst.Results[1], toFirst.Results[0]
	if w.unseal(first, toFirst, 0, key, b) == nil || w.unseal(first, toFirst, 1, key, a) == nil {
		t.Error("results that changed places open")
	}
}

// A counted key counts how often it is used.
type counted struct {
	*ecdh.PrivateKey
	n *int
}

func (c counted) ECDH(p *ecdh.PublicKey) ([]byte, error) {
	*c.n++
	return c.PrivateKey.ECDH(p)
}

// TestOneOperation: release to somebody who proves nothing costs the HSM one operation, by its own count, and the asker
// one, to open the answer. No key of the asker's takes part in the handshake.
func TestOneOperation(t *testing.T) {
	w := newWorld(t)
	w.anyone()
	key := newECDSA(t)
	plain, err := key.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	cert, asked := w.corp.second(t, key, aliceName), 0
	c := w.client()
	conf := c.Transport.(*http.Transport).TLSClientConfig
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked++
		return &tls.Certificate{}, nil // none: no CertificateVerify
	}
	for range 5 {
		h, uses := w.hsm.header(t, "legal", "board"), 0
		_, before, err := w.hsm.real.since(w.hsm.chain.N)
		if err != nil {
			t.Fatal(err)
		}
		req := compose(t, "", kra.Presented{Certificates: []*x509.Certificate{cert}}, toCertificate(t), h)
		if err := w.sealedTo(c, req, counted{plain, &uses}, h); err != nil {
			t.Fatal(err)
		}
		items, after, err := w.hsm.real.since(before.N)
		if err != nil {
			t.Fatal(err)
		}
		if after.N != before.N+1 || len(items) != 1 || items[0].Key != receipt.Hash(w.hsm.names["legal"]) || uses != 1 {
			t.Errorf("%d operations in the HSM and %d of the asker; want 1 and 1", after.N-before.N, uses)
		}
	}
	if asked == 0 {
		t.Error("the handshakes did not say that there is no certificate")
	}
}
