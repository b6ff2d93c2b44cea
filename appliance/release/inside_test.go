package release

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/jwe"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

func (d daemon) transcrypt(ctx context.Context, to wire.Recipient, wraps []block.Wrap) ([]wire.Result, receipt.ChainHead, error) {
	return d.c.Transcrypt(ctx, to, wraps)
}

func (d inside) transcrypt(_ context.Context, to wire.Recipient, wraps []block.Wrap) ([]wire.Result, receipt.ChainHead, error) {
	return d.wait(wraps, func(w []block.Wrap, done func([]wire.Result, receipt.ChainHead)) error {
		return d.c.Transcrypt(to, w, done)
	})
}

func (k *token) Transcrypt(ctx context.Context, to *rsa.PublicKey, grants []policy.Grant) ([]Unwrapped, receipt.ChainHead, error) {
	r, err := wire.NewRecipient(to)
	if err != nil {
		return nil, receipt.ChainHead{}, err
	}
	return k.open(ctx, grants, func(ctx context.Context, wraps []block.Wrap) ([]wire.Result, receipt.ChainHead, error) {
		return k.real.transcrypt(ctx, r, wraps)
	})
}

// oldRoom gives legal-team an RSA key, besides its other one, and opens it to everybody who shows a certificate.
func (w *world) oldRoom() {
	w.t.Helper()
	w.def.Access[0].Keys = append(w.def.Access[0].Keys, w.hsm.addKind("rsa", wire.RSA3072))
	w.anyone()
}

// message is a JWE to the RSA key of oldRoom.
func (w *world) message(t testing.TB, alg jose.KeyAlgorithm, content string) jwe.Message {
	t.Helper()
	id := w.hsm.names["rsa"]
	to := jose.Recipient{Algorithm: alg, Key: w.hsm.pubs["rsa"], KeyID: id.String()}
	e, err := jose.NewEncrypter(jose.A256GCM, to, nil)
	if err != nil {
		t.Fatal(err)
	}
	j, err := e.Encrypt([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	m, err := jwe.Read(strings.NewReader(j.FullSerialize()))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// composeRaw is compose for headers of any format.
func composeRaw(t testing.TB, p kra.Presented, d kra.Delivery, headers ...[]byte) kra.Request {
	t.Helper()
	req, err := kra.NewRequest(headers, "")
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

func presented(c *x509.Certificate) kra.Presented {
	return kra.Presented{Certificates: []*x509.Certificate{c}}
}

// TestKeyNeverLeavesTheHSM: of a head by RSA-OAEP whose hash the HSM can do, the key goes to a decryptor's RSA certificate
// within the HSM: in one operation, marked in the log, bound to the request by the receipt. All other keys go as ever, in the
// same operation.
func TestKeyNeverLeavesTheHSM(t *testing.T) {
	w := newWorld(t)
	w.oldRoom()
	key, ec := newRSA(t), newECDSA(t)
	rsCert, ecCert := w.corp.second(t, key, aliceName), w.corp.second(t, ec, aliceName)
	sha1, sha256 := w.message(t, jose.RSA_OAEP, "the plan"), w.message(t, jose.RSA_OAEP_256, "the plan")
	age := w.hsm.header(t, "legal")
	const clear, sealed = "", "rsa-oaep"
	for name, tt := range map[string]struct {
		client  *http.Client
		shows   kra.Presented
		to      kra.Delivery
		private any
		headers [][]byte
		suites  []string
	}{
		"nobody proved":    {w.client(), presented(rsCert), kra.NewInside(), key, [][]byte{sha1.Head().Bytes()}, []string{"oaep-sha1"}},
		"over the channel": {w.alice(), presented(rsCert), kra.NewInside(), key, [][]byte{sha1.Head().Bytes()}, []string{"oaep-sha1"}},
		"not asked for":    {w.client(), presented(rsCert), toCertificate(t), key, [][]byte{sha1.Head().Bytes()}, []string{sealed}},
		"another hash":     {w.client(), presented(rsCert), kra.NewInside(), key, [][]byte{sha256.Head().Bytes()}, []string{sealed}},
		"an EC key":        {w.client(), presented(ecCert), kra.NewInside(), ec, [][]byte{sha1.Head().Bytes()}, []string{"p256"}},
		"in the clear":     {w.alice(), kra.Presented{}, overChannel(t), nil, [][]byte{sha1.Head().Bytes()}, []string{clear}},
		"all at once": {w.client(), presented(rsCert), kra.NewInside(), key,
			[][]byte{age.Bytes(), sha1.Head().Bytes(), sha256.Head().Bytes(), sha1.Head().Bytes()}, []string{sealed, "oaep-sha1", sealed, "oaep-sha1"}},
	} {
		t.Run(name, func(t *testing.T) {
			calls, items := w.hsm.calls, w.hsm.items
			req := composeRaw(t, tt.shows, tt.to, tt.headers...)
			code, body := w.post(tt.client, req.Encode())
			resp, err := kra.ParseResponse(bytes.Clone(body), len(tt.headers))
			if err != nil || code != http.StatusOK {
				t.Fatal(code, err, entryText(w.jour.last(1)[0]))
			}
			if w.hsm.calls != calls+1 || w.hsm.items != items+len(tt.headers) {
				t.Errorf("%d calls with %d keys; want 1 with %d", w.hsm.calls-calls, w.hsm.items-items, len(tt.headers))
			}
			binding := kra.NewBinding("example", "box1", req.Encode())
			for i, e := range w.jour.last(len(tt.headers)) {
				w.judge(t, e.Answer, entryText(e), resp.Results[i], binding, i, tt.suites[i], tt.private, tt.headers[i][0] == '{', sha1, sha256)
			}
		})
	}
}

// judge looks at one result and what the log says of it.
func (w *world) judge(t *testing.T, logged *receipt.Hash, record string, r kra.Result, b kra.Binding, i int, suite string, private any, isJWE bool, messages ...jwe.Message) {
	t.Helper()
	inside := strings.HasPrefix(suite, "oaep")
	if strings.Contains(record, `"inside":true`) != inside || (logged != nil) != inside {
		t.Errorf("result %d by %q: logged as %s, answer %v", i, suite, record, logged)
	}
	s, isSealed := r.Sealed()
	key, err := r.Key(), error(nil)
	if isSealed != (suite != "") {
		t.Fatalf("result %d: sealed %v, want %q", i, isSealed, suite)
	}
	if isSealed {
		if by, is := s.Inside(); is != inside || inside && by.String() != suite {
			t.Errorf("result %d: sealed within the HSM %v by %v, want %q", i, is, by, suite)
		}
		if inside && *logged != receipt.Hash(b.Answer(i, s)) || inside && *logged == receipt.Hash(b.Answer(i+1, s)) {
			t.Errorf("result %d: the log is not about this answer", i)
		}
		if key, err = b.Open(private, i, s); err != nil {
			t.Fatalf("result %d does not open: %v", i, err)
		}
	}
	if !isJWE {
		return
	}
	opens := func(k []byte) error {
		for _, m := range messages {
			if plain, err := m.Open(k); err == nil && string(plain) == "the plan" {
				return nil
			}
		}
		return errFault
	}
	if err := key.Use(opens); err != nil {
		t.Errorf("result %d: no content opens with the key", i)
	}
}

// TestInsideRefusalsAreAlike: a ciphertext that the HSM does not open is refused as everything else is, byte for byte and to
// the nanosecond, and is in chain and log.
func TestInsideRefusalsAreAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := hsmtest.New(t)
		w := newWorldOn(t, tokenOf(inside{c}))
		w.clock.Store(&moment{time.Now(), true})
		w.oldRoom()
		key := newRSA(t)
		mine := presented(w.corp.second(t, key, aliceName))
		m := w.message(t, jose.RSA_OAEP, "the plan")
		broken := w.hsm.pubs["rsa"].(*rsa.PublicKey)
		notOAEP := w.rehead(t, m, make([]byte, broken.Size()))
		label := w.rehead(t, m, sealed(t, crypto.SHA1, broken, []byte("a label")))
		hash := w.rehead(t, m, sealed(t, crypto.SHA256, broken, nil))
		legal := w.hsm.header(t, "board")
		first := ""
		for _, h := range [][]byte{legal.Bytes(), notOAEP, label, hash} {
			begin := time.Now()
			answer := w.serveOne((*tls.Certificate)(nil), composeRaw(t, mine, kra.NewInside(), h).Encode())
			if took := time.Since(begin); took != RefusalDelay {
				t.Errorf("left after %v; want %v", took, RefusalDelay)
			}
			if first == "" {
				first = answer
			}
			if answer != first {
				t.Errorf("%s\nbut\n%s", answer, first)
			}
			e := w.jour.last(1)[0]
			asked := h[0] == '{'
			if e.Kind != receipt.Refusal || e.Answer != nil || (e.Item != nil) != asked || strings.Contains(entryText(e), "unwrap: wrap does not open") != asked || strings.Contains(entryText(e), "inside") {
				t.Errorf("logged as %s, item %v", entryText(e), e.Item)
			}
		}
		if !strings.Contains(first, `{"results":[{"refused":true}]}`) {
			t.Errorf("refused with %s", first)
		}
		if answer := w.serveOne(nil, composeRaw(t, mine, kra.NewInside(), m.Head().Bytes()).Encode()); !strings.Contains(answer, `{"sealed":{"suite":"oaep-sha1"`) {
			t.Errorf("what is not refused: %s", answer)
		}
	})
}

func sealed(t testing.TB, hash crypto.Hash, to *rsa.PublicKey, label []byte) []byte {
	t.Helper()
	b, err := rsa.EncryptOAEP(hash.New(), rand.Reader, to, make([]byte, 32), label)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rehead is the head of m with another encrypted key.
func (w *world) rehead(t testing.TB, m jwe.Message, body []byte) []byte {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal(m.Head().Bytes(), &o); err != nil {
		t.Fatal(err)
	}
	o["recipients"].([]any)[0].(map[string]any)["encrypted_key"] = base64.RawURLEncoding.EncodeToString(body)
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	h, err := jwe.ParseHead(b)
	if err != nil {
		t.Fatal(err)
	}
	return h.Bytes()
}
