package label

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

// A pen signs statements as a box would: root -> label certificate -> leaf.
type pen struct {
	d      Domain
	k      keys
	label  *ecdsa.PrivateKey
	leaf   *ecdsa.PrivateKey
	change func(label, leaf *x509.Certificate)
}

func newPen(t testing.TB) *pen {
	t.Helper()
	d, k := newDomain(t)
	return &pen{d: d, k: k, label: newKey(t), leaf: newKey(t)}
}

func address(t testing.TB, s string) []*url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return []*url.URL{u}
}

func issue(t testing.TB, c, issuer *x509.Certificate, pub any, by crypto.Signer) []byte {
	t.Helper()
	c.SerialNumber = big.NewInt(2)
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, pub, by)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (p *pen) chain(t testing.TB, statement Digest) [][]byte {
	t.Helper()
	root, err := p.d.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	soon := time.Now().Add(30 * time.Minute)
	l := &x509.Certificate{URIs: address(t, p.d.LabelURI(KeyRelease, "box1")), NotAfter: soon, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	x := &x509.Certificate{URIs: address(t, p.d.ReplicaURI("box1", statement)), NotAfter: soon, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
	if p.change != nil {
		p.change(l, x)
	}
	label := issue(t, l, root, p.label.Public(), p.k.root)
	issuer, err := x509.ParseCertificate(label)
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{issue(t, x, issuer, p.leaf.Public(), p.label), label}
}

func (p *pen) request() ReplicaRequest {
	return ReplicaRequest{Domain: p.d.Hash(), Box: "box1", Transport: []byte("transport"), Nonce: Digest{7}}
}

func (p *pen) replica() Replica {
	return Replica{Domain: p.d.Hash(), Box: "box1", To: "box2", Peer: Digest{1}, Request: Digest{8}, Letter: []byte("letter"),
		Keys: []ReplicaKey{{SPKI: []byte("spki"), Suite: "p256", Custody: "replicable", Origin: "generated", State: "active", Made: "2026-11-22T00:00:00Z",
			Wrapped: []byte("wrapped"), SeedKey: []byte{}, Seed: []byte{}}},
		Access: []ReplicaAccess{{ID: "board", Title: "", Keys: []int{0}}, {ID: "legal-team", Title: "Legal team", Keys: []int{0}}}}
}

func (p *pen) write(t testing.TB) (request, replica []byte) {
	t.Helper()
	request, err := p.request().Sign(p.chain(t, p.request().Digest()), p.leaf)
	if err != nil {
		t.Fatal(err)
	}
	if replica, err = p.replica().Sign(p.chain(t, p.replica().Digest()), p.leaf); err != nil {
		t.Fatal(err)
	}
	return request, replica
}

func TestReplicaStatements(t *testing.T) {
	p := newPen(t)
	request, replica := p.write(t)
	spki, err := x509.MarshalPKIXPublicKey(p.label.Public())
	if err != nil {
		t.Fatal(err)
	}
	want := Member{Box: "box1", Key: sha256.Sum256(spki)}
	r, by, err := OpenReplicaRequest(append([]byte("box1> replica request\r\n"), request...), p.d, time.Now())
	if err != nil || by != want || string(r.Transport) != "transport" {
		t.Errorf("request: %+v by %+v, %v", r, by, err)
	}
	x, by, err := OpenReplica(replica, p.d, time.Now())
	if err != nil || by != want || !bytes.Equal(encode(x), encode(p.replica())) {
		t.Errorf("replica: %+v by %+v, %v", x, by, err)
	}
	if _, _, err := OpenReplica(request, p.d, time.Now()); err == nil {
		t.Error("a request is taken for keys")
	}
}

// TestReplicaSignatory: only a box of the domain with the label key-release signs, with a certificate for nothing else.
func TestReplicaSignatory(t *testing.T) {
	other := newPen(t)
	for name, c := range map[string]struct {
		why   string
		spoil func(p *pen)
	}{
		"another domain": {"unknown authority", func(p *pen) { p.k = other.k; p.d.Root = other.d.Root }},
		"another label": {"no key of label", func(p *pen) {
			p.change = func(l, _ *x509.Certificate) { l.URIs = address(t, p.d.LabelURI("maintenance", "box1")) }
		}},
		"another box's label": {"no key of label", func(p *pen) {
			p.change = func(l, _ *x509.Certificate) { l.URIs = address(t, p.d.LabelURI(KeyRelease, "box2")) }
		}},
		"a label without a name": {"no key of label", func(p *pen) { p.change = func(l, _ *x509.Certificate) { l.URIs = nil } }},
		"a receipt key's leaf":   {"does not name", func(p *pen) { p.change = func(_, x *x509.Certificate) { x.URIs = address(t, p.d.ReceiptURI("box1")) } }},
		"a key-release leaf": {"does not name", func(p *pen) {
			p.change = func(_, x *x509.Certificate) { x.URIs = address(t, p.d.KeyReleaseURI("box1")) }
		}},
		"a key-release leaf's use": {"signatures alone", func(p *pen) { p.change = func(_, x *x509.Certificate) { x.KeyUsage = x509.KeyUsageKeyAgreement } }},
		"a TLS leaf": {"not that of", func(p *pen) {
			p.change = func(_, x *x509.Certificate) { x.URIs, x.DNSNames = nil, []string{"box1.example"} }
		}},
		"a TLS leaf with the name": {"not that of", func(p *pen) { p.change = func(_, x *x509.Certificate) { x.DNSNames = []string{"box1.example"} } }},
		"for TLS servers": {"signatures alone", func(p *pen) {
			p.change = func(_, x *x509.Certificate) { x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
		}},
		"a CA":             {"not that of", func(p *pen) { p.change = func(_, x *x509.Certificate) { x.IsCA = true } }},
		"expired":          {"expired", func(p *pen) { p.change = func(_, x *x509.Certificate) { x.NotAfter = time.Now().Add(-time.Second) } }},
		"not yet valid":    {"not yet valid", func(p *pen) { p.change = func(_, x *x509.Certificate) { x.NotBefore = time.Now().Add(time.Minute) } }},
		"an expired label": {"expired", func(p *pen) { p.change = func(l, _ *x509.Certificate) { l.NotAfter = time.Now().Add(-time.Second) } }},
		"another domain of a name": {"does not name", func(p *pen) {
			p.change = func(_, x *x509.Certificate) { x.URIs = address(t, "kra://other.org/replica/box1") }
		}},
		"another key than the leaf": {"signature is not", func(p *pen) { p.leaf = newKey(t) }},
	} {
		p := newPen(t)
		d := p.d
		c.spoil(p)
		first, second := p.chain(t, p.request().Digest()), p.chain(t, p.replica().Digest())
		if name == "another key than the leaf" {
			p.leaf = newKey(t)
		}
		request, err := p.request().Sign(first, p.leaf)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, name, c.why, func() error { _, _, err := OpenReplicaRequest(request, d, time.Now()); return err })
		replica, err := p.replica().Sign(second, p.leaf)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, name, c.why, func() error { _, _, err := OpenReplica(replica, d, time.Now()); return err })
	}
}

func refused(t *testing.T, name, why string, open func() error) {
	t.Helper()
	if err := open(); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("%s: %v, want an error with %q", name, err, why)
	}
}

// TestReplicaChains: a certificate that signed itself, and one that the root signed without a label, are nobody's.
func TestReplicaChains(t *testing.T) {
	p := newPen(t)
	root, err := p.d.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{URIs: address(t, p.d.ReplicaURI("box1", p.request().Digest())), NotAfter: time.Now().Add(time.Minute), KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
	own, direct := issue(t, x, x, p.leaf.Public(), p.leaf), issue(t, x, root, p.leaf.Public(), p.k.root)
	k384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain := p.chain(t, p.request().Digest())
	label, err := x509.ParseCertificate(chain[1])
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		why   string
		chain [][]byte
	}{
		"self-signed":        {"unknown authority", [][]byte{own}},
		"self-signed, label": {"unknown authority", [][]byte{own, chain[1]}},
		"without a label":    {"no key of label", [][]byte{direct}},
		"no label sent":      {"unknown authority", chain[:1]},
		"none":               {"0 certificates", nil},
		"too many":           {"5 certificates", [][]byte{chain[0], chain[1], chain[1], chain[1], chain[1]}},
		"rubbish":            {"parse certificate", [][]byte{{1}, chain[1]}},
		"rubbish above":      {"parse certificate", [][]byte{chain[0], {1}}},
		"P-384":              {"not a P-256 key", [][]byte{issue(t, x, label, k384.Public(), p.label), chain[1]}},
	} {
		request, err := p.request().Sign(c.chain, p.leaf)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, name, c.why, func() error { _, _, err := OpenReplicaRequest(request, p.d, time.Now()); return err })
	}
}

// TestReplicaSays: a statement of another box, another domain or another form than the one is none.
func TestReplicaSays(t *testing.T) {
	p := newPen(t)
	for name, c := range map[string]struct {
		why   string
		spoil func(*Replica)
	}{
		"another box":        {"signed by box", func(r *Replica) { r.Box = "box3" }},
		"another domain":     {"of domain", func(r *Replica) { r.Domain = Digest{9} }},
		"for itself":         {"for itself", func(r *Replica) { r.To = "box1" }},
		"no receiver":        {"box:", func(r *Replica) { r.To = "" }},
		"no letter":          {"no transfer key", func(r *Replica) { r.Letter = nil }},
		"long letter":        {"no transfer key", func(r *Replica) { r.Letter = make([]byte, maxLetter+1) }},
		"no keys":            {"0 keys", func(r *Replica) { r.Keys = nil }},
		"too many keys":      {"33 keys", func(r *Replica) { r.Keys = make([]ReplicaKey, MaxReplicaKeys+1) }},
		"no access":          {"0 access", func(r *Replica) { r.Access = nil }},
		"not sorted":         {"not sorted", func(r *Replica) { r.Access[0].ID = "zoo" }},
		"the same access":    {"not sorted", func(r *Replica) { r.Access[0].ID = r.Access[1].ID }},
		"a key out of range": {"not there", func(r *Replica) { r.Access[0].Keys = []int{1} }},
		"a key below range":  {"not there", func(r *Replica) { r.Access[0].Keys = []int{-1} }},
		"a key of nobody":    {"no access identifier", func(r *Replica) { r.Keys = append(r.Keys, r.Keys[0]) }},
		"a steering title":   {"malformed", func(r *Replica) { r.Access[0].Title = "\x1b[2J" }},
		"no suite":           {"printable", func(r *Replica) { r.Keys[0].Suite = "" }},
		"no request":         {"no request", func(r *Replica) { r.Request = Digest{} }},
		"no private half":    {"empty", func(r *Replica) { r.Keys[0].Wrapped = []byte{} }},
		"a long part":        {"too long", func(r *Replica) { r.Keys[0].Wrapped = make([]byte, maxReplicaPart+1) }},
		"null":               {"missing", func(r *Replica) { r.Keys[0].Seed = nil }},
		"a local time":       {"not a time", func(r *Replica) { r.Keys[0].Made = "2026-11-22T00:00:00+01:00" }},
	} {
		r := p.replica()
		c.spoil(&r)
		chain := p.chain(t, r.Digest())
		if name != "another box" && name != "another domain" {
			refused(t, name, c.why, func() error { _, err := r.Sign(chain, p.leaf); return err })
		}
		text, err := signStatement(replicaBlock, replicaContext, r, chain, p.leaf)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, name, c.why, func() error { _, _, err := OpenReplica(text, p.d, time.Now()); return err })
	}
}

// TestReplicaKeyOfOneStatement: a key that was certified for one statement signs no other, of its own kind or another.
func TestReplicaKeyOfOneStatement(t *testing.T) {
	p := newPen(t)
	other := p.request()
	other.Nonce = Digest{9}
	for name, of := range map[string]Digest{"another request": other.Digest(), "a replica": p.replica().Digest(), "none": {}} {
		text, err := p.request().Sign(p.chain(t, of), p.leaf)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, name, "for another statement", func() error { _, _, err := OpenReplicaRequest(text, p.d, time.Now()); return err })
		if of == p.replica().Digest() {
			continue
		}
		if text, err = p.replica().Sign(p.chain(t, of), p.leaf); err != nil {
			t.Fatal(err)
		}
		refused(t, name, "for another statement", func() error { _, _, err := OpenReplica(text, p.d, time.Now()); return err })
	}
	p.change = func(_, x *x509.Certificate) { x.URIs = address(t, "kra://"+p.d.Name+"/replica/box1") }
	text, err := p.request().Sign(p.chain(t, Digest{}), p.leaf)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, "a name without a statement", "does not name", func() error { _, _, err := OpenReplicaRequest(text, p.d, time.Now()); return err })
}

// TestReplicaHasOneForm: no byte of a document can be changed.
func TestReplicaHasOneForm(t *testing.T) {
	p := newPen(t)
	_, replica := p.write(t)
	b, _ := pem.Decode(replica)
	for i := range b.Bytes {
		doc := bytes.Clone(b.Bytes)
		doc[i] ^= 1
		if _, _, err := OpenReplica(armor(replicaBlock, doc), p.d, time.Now()); err == nil {
			t.Errorf("byte %d (%.20q) can be changed", i, b.Bytes[max(0, i-10):])
		}
	}
	for _, doc := range [][]byte{append(bytes.Clone(b.Bytes), ' '), bytes.Replace(b.Bytes, []byte(`"to"`), []byte(`"TO"`), 1)} {
		if _, _, err := OpenReplica(armor(replicaBlock, doc), p.d, time.Now()); err == nil {
			t.Errorf("%.40q is accepted", doc)
		}
	}
}

// vector is a request whose digest is on the page.
var vector = ReplicaRequest{Domain: Digest{1, 2, 3}, Box: "box1", Transport: []byte("transport key"), Nonce: Digest{4, 5, 6}}

func TestReplicaVector(t *testing.T) {
	digest := digestOf(replicaRequestContext, vector)
	sum := sha256.Sum256([]byte(`kra/replica-request/v1` + "\x00" + `{"domain":"0102030000000000000000000000000000000000000000000000000000000000","box":"box1","transport":"dHJhbnNwb3J0IGtleQ==","nonce":"0405060000000000000000000000000000000000000000000000000000000000"}`))
	if digest != sum {
		t.Errorf("digest of the vector is %s, want %s", hex.EncodeToString(digest[:]), hex.EncodeToString(sum[:]))
	}
}

func FuzzReplica(f *testing.F) {
	p := newPen(f)
	request, replica := p.write(f)
	f.Add(request)
	f.Add(replica)
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, by, err := OpenReplica(text, p.d, time.Now()); err == nil && (by.Box != "box1" || !bytes.Equal(encode(r), encode(p.replica()))) {
			t.Errorf("accepted what was not signed: %+v", r)
		}
	})
}
