package release

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A fleet is a domain of platforms whose keys are in this test's hands: what a TPM would refuse to sign can be tried.
type fleet struct {
	t        *testing.T
	name     string
	root     authority
	keys     *ecdsa.PrivateKey // K_label
	document []byte            // the description of its label
}

func newFleet(t *testing.T, name string) *fleet {
	t.Helper()
	f := &fleet{t: t, name: name, root: newAuthority(t), keys: newECDSA(t), document: []byte("what analysis means at " + name)}
	return f
}

func (f *fleet) domain() label.Domain { return label.Domain{Name: f.name} }

func (f *fleet) certify(key crypto.PublicKey, uri string, change func(*x509.Certificate)) []byte {
	f.t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		f.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		URIs: []*url.URL{u}, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, f.root.cert, key, f.root.key)
	if err != nil {
		f.t.Fatal(err)
	}
	return der
}

// A machine is a platform of a fleet.
type machine struct {
	f         *fleet
	holder    label.Holder
	key, ak   *ecdsa.PrivateKey
	cert      []byte // label certificate
	platform  []byte
	authority []byte
	value     label.Value
	pcrs      label.PCRs
}

// machine enrols a platform as the label, for the part of it that use says.
func (f *fleet) machine(name string, use x509.ExtKeyUsage, unmeasured bool) *machine {
	f.t.Helper()
	m := &machine{f: f, holder: label.Holder{Domain: f.name, Label: "analysis", Name: name, Unmeasured: unmeasured}, key: newECDSA(f.t), ak: newECDSA(f.t), pcrs: label.PCRs{}}
	m.cert = m.certificate(f.document, use)
	m.platform = f.certify(&m.ak.PublicKey, f.domain().PlatformURI(name), func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{label.AttestationKeyUsage} })
	m.authority = f.certify(&f.keys.PublicKey, f.domain().AuthorityURI(), nil)
	for _, i := range label.ApprovedPCRs() {
		m.pcrs[i] = label.Digest{byte(i + 1)}
	}
	m.pcrs[label.StagePCR] = label.At(label.Open, label.Running)
	m.value = label.Value{Domain: f.name, Label: "analysis", Version: 3, Release: "v3", Commit: "c", PCRs: m.pcrs}
	return m
}

func (m *machine) certificate(document []byte, use x509.ExtKeyUsage) []byte {
	m.f.t.Helper()
	ext, err := label.DescriptionExtension(m.f.domain().DescriptionURI(document))
	if err != nil {
		m.f.t.Fatal(err)
	}
	return m.f.certify(&m.key.PublicKey, m.holder.URI(), func(c *x509.Certificate) {
		c.Subject = pkix.Name{Organization: []string{m.f.name}, OrganizationalUnit: []string{"label analysis"}, CommonName: m.holder.Name}
		c.IsCA, c.MaxPathLenZero, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
		c.ExtKeyUsage, c.ExtraExtensions = []x509.ExtKeyUsage{use}, []pkix.Extension{ext}
	})
}

// leaf is a TLS client certificate that the label key signs.
func (m *machine) leaf(change func(*x509.Certificate)) tls.Certificate {
	m.f.t.Helper()
	u, err := url.Parse(m.holder.URI())
	if err != nil {
		m.f.t.Fatal(err)
	}
	issuer, err := x509.ParseCertificate(m.cert)
	if err != nil {
		m.f.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: m.holder.Subject(), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		URIs: []*url.URL{u}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true}
	if change != nil {
		change(c)
	}
	key := newECDSA(m.f.t)
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, &key.PublicKey, m.key)
	if err != nil {
		m.f.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, m.cert}, PrivateKey: key}
}

func rawSignature(t *testing.T, key *ecdsa.PrivateKey, digest [32]byte) []byte {
	t.Helper()
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out
}

// confirms is what the machine's TPM says for a nonce on a channel.
func (m *machine) confirms(nonce, channel []byte) *label.Confirmation {
	t := m.f.t
	t.Helper()
	s, err := m.f.domain().Confirm(m.holder.Name, m.holder.Label, nonce, channel)
	if err != nil {
		t.Fatal(err)
	}
	v, err := m.value.Sign(m.f.keys)
	if err != nil {
		t.Fatal(err)
	}
	c := label.Confirmation{Statement: s, PCRs: m.pcrs, Value: v, Chain: [][]byte{m.cert}, Platform: m.platform, Authority: m.authority}
	c.Signature = rawSignature(t, m.key, sha256.Sum256(s.Bytes()))
	c.Quote = m.quote(s.Qualifying())
	return &c
}

// quote is a TPMS_ATTEST of the approved registers (TPM 2.0 part 2, 10.12.8), signed by the attestation key.
func (m *machine) quote(extra [32]byte) label.Signed {
	digest, bits := sha256.New(), make([]byte, 3)
	for _, i := range label.ApprovedPCRs() {
		d := m.pcrs[i]
		digest.Write(d[:])
		bits[i/8] |= 1 << (i % 8)
	}
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(nil, 0xff544347), 0x8018)
	b = append(binary.BigEndian.AppendUint16(b, 1), 9)
	b = append(binary.BigEndian.AppendUint16(b, 32), extra[:]...)
	b = append(b, make([]byte, 17+8)...)
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, 1), 0x0b)
	b = append(append(b, 3), bits...)
	b = digest.Sum(binary.BigEndian.AppendUint16(b, 32))
	sig := rawSignature(m.f.t, m.ak, sha256.Sum256(b))
	s := append([]byte{0, 0x18, 0, 0x0b, 0, 32}, sig[:32]...)
	return label.Signed{Attest: b, Signature: append(append(s, 0, 32), sig[32:]...)}
}

// means is what the machine states of its label.
func (m *machine) means(document, nonce, channel []byte) *label.Interpretation {
	m.f.t.Helper()
	s, err := m.holder.Mean(m.f.domain().DescriptionURI(document), nonce, channel)
	if err != nil {
		m.f.t.Fatal(err)
	}
	i, err := s.Sign(m.key)
	if err != nil {
		m.f.t.Fatal(err)
	}
	return &i
}

const platformRule = `platform.label == "analysis" && platform.measured && platform.version >= 3 && platform.age <= 60`

// newPlatformWorld is a world in which machines of a fleet may have what legal-team is encrypted to.
func newPlatformWorld(t *testing.T, rule string, f *fleet, foreign bool) *world {
	t.Helper()
	w := newWorldOn(t, newToken(t))
	w.def.Rules = append(w.def.Rules, policy.RuleDef{Name: "fleet", Expr: rule})
	w.def.Access[0].Lists = []string{"fleet"}
	w.trusts(f, "analysis", foreign)
	w.start()
	return w
}

// trusts makes the fleet's label count.
func (w *world) trusts(f *fleet, as string, foreign bool) {
	w.t.Helper()
	l := PlatformLabel{Label: "analysis", As: as}
	if foreign {
		l.Document = sha256.Sum256(f.document)
	}
	var err error
	w.platforms, err = NewPlatforms([]PlatformDomain{{Alias: "fleet", Domain: f.name, Root: f.root.cert, Labels: []PlatformLabel{l}}}, w.snap.Load().Anchors)
	if err != nil {
		w.t.Fatal(err)
	}
	w.publish()
}

// A line is one connection of a client.
type line struct {
	w *world
	*http.Client
}

func (w *world) line(cert tls.Certificate) *line {
	c := w.client(cert)
	c.Transport.(*http.Transport).MaxConnsPerHost = 1
	return &line{w, c}
}

func (c *line) post(body []byte) (int, []byte, *tls.ConnectionState) {
	c.w.t.Helper()
	resp, err := c.Post("https://"+c.w.addr+kra.PathPlatform, kra.ContentType, bytes.NewReader(body))
	if err != nil {
		c.w.t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		c.w.t.Fatal(err)
	}
	return resp.StatusCode, out, resp.TLS
}

// nonce asks for a nonce and returns it with this end of the channel.
func (c *line) nonce() (nonce, channel []byte) {
	c.w.t.Helper()
	code, body, state := c.post(label.Showing{}.Bytes())
	a, err := label.ParseShown(body)
	if err != nil || code != http.StatusOK {
		c.w.t.Fatalf("%d %s: %v", code, body, err)
	}
	if channel, err = state.ExportKeyingMaterial(label.PlatformExporter, a.Nonce, label.NonceSize); err != nil {
		c.w.t.Fatal(err)
	}
	return a.Nonce, channel
}

func (c *line) show(s label.Showing) int {
	c.w.t.Helper()
	code, body, _ := c.post(s.Bytes())
	if code == http.StatusForbidden && string(body) != `{"error":"refused"}` {
		c.w.t.Errorf("a refusal says %s", body)
	}
	if a, err := label.ParseShown(body); code == http.StatusOK && (err != nil || *a.Shown != s.Digest()) {
		c.w.t.Errorf("%s: %v", body, err)
	}
	return code
}

// confirm does all of it.
func (c *line) confirm(m *machine) label.Digest {
	c.w.t.Helper()
	n, ch := c.nonce()
	s := label.Showing{Confirmation: m.confirms(n, ch)}
	if code := c.show(s); code != http.StatusOK {
		c.w.t.Fatalf("confirmation: %d", code)
	}
	return s.Digest()
}

// opens asks for legal-team's key.
func (c *line) opens() bool {
	c.w.t.Helper()
	h := c.w.hsm.header(c.w.t, "legal")
	_, resp := c.w.ask(c.Client, "", h)
	return c.w.opens(h, resp, 0)
}

// lastRecord is the private part of the newest record.
func (w *world) lastRecord() string { return fmt.Sprintf("%s", w.jour.last(1)[0].Private) }

// TestPlatformDecrypts: a machine that shows its state has a key, without anybody at it; one that does not, has not. What it showed stands in
// receipt and record.
func TestPlatformDecrypts(t *testing.T) {
	f := newFleet(t, "fleet.example")
	w := newPlatformWorld(t, platformRule, f, false)
	m := f.machine("build7", x509.ExtKeyUsageClientAuth, false)
	c := w.line(m.leaf(nil))
	if c.opens() {
		t.Error("opens before anything was shown")
	}
	if !strings.Contains(w.lastRecord(), "confirmed nothing") {
		t.Errorf("record: %s", w.lastRecord())
	}
	shown := c.confirm(m)
	h := w.hsm.header(t, "legal")
	_, resp := w.ask(c.Client, "", h)
	if !w.opens(h, resp, 0) {
		t.Fatalf("refused: %s", w.lastRecord())
	}
	r, err := receipt.ParseReceipt(resp.Results[0].Receipt())
	if err != nil {
		t.Fatal(err)
	}
	path, err := receipt.ParsePath(resp.Chain)
	if err != nil {
		t.Fatal(err)
	}
	v, err := receipt.Verify(r, resp.Checkpoint, path, w.domain.Roots)
	if err != nil {
		t.Fatal(err)
	}
	if got := v.Public().Shown; got == nil || label.Digest(*got) != shown {
		t.Errorf("the receipt names %v; shown was %s", got, shown)
	}
	if e := w.jour.last(1)[0]; !strings.Contains(fmt.Sprintf("%s", e.Private), `"platform":{"domain":"fleet.example","label":"analysis","name":"build7","version":3,"age":0,"confirmation":"`+shown.String()+`"}`) {
		t.Errorf("record: %s", e.Private)
	}
	if w.line(m.leaf(nil)).opens() {
		t.Error("another connection of the same machine opens, where nothing was shown")
	}
	m.value.Version = 2
	c.confirm(m)
	if c.opens() {
		t.Error("opens with an older version")
	}
}

// TestPlatformMustShowItself: what is replayed, relayed, stale, or about something else, does not count, and is refused in one way.
func TestPlatformMustShowItself(t *testing.T) {
	f := newFleet(t, "fleet.example")
	w := newPlatformWorld(t, platformRule, f, false)
	m, other, foreign := f.machine("build7", x509.ExtKeyUsageClientAuth, false), f.machine("build8", x509.ExtKeyUsageClientAuth, false), newFleet(t, "fleet.example").machine("build7", x509.ExtKeyUsageClientAuth, false)
	random := make([]byte, label.NonceSize)
	rand.Read(random)
	for name, x := range map[string]struct {
		show func(n, ch []byte) *label.Confirmation
		why  string
	}{
		"another nonce":    {func(_, ch []byte) *label.Confirmation { return m.confirms(random, ch) }, "another challenge"},
		"another channel":  {func(n, _ []byte) *label.Confirmation { return m.confirms(n, random) }, "another channel"},
		"another platform": {func(n, ch []byte) *label.Confirmation { return other.confirms(n, ch) }, "another label key"},
		"another domain":   {func(n, ch []byte) *label.Confirmation { return foreign.confirms(n, ch) }, "another label key"},
		"another's words": {func(n, ch []byte) *label.Confirmation {
			c := foreign.confirms(n, ch)
			c.Chain = [][]byte{m.cert}
			return c
		}, "verify confirmation"},
		"no signature": {func(n, ch []byte) *label.Confirmation {
			c := m.confirms(n, ch)
			c.Signature = make([]byte, 64)
			return c
		}, "not signed by the label key"},
		"an advert":              {func(n, ch []byte) *label.Confirmation { return m.advert(n, ch) }, "not signed by the label key"},
		"registers not approved": {func(n, ch []byte) *label.Confirmation { return m.drifted(n, ch) }, "runs something else"},
		"a quote of old": {func(n, ch []byte) *label.Confirmation {
			c := m.confirms(n, ch)
			c.Quote = m.confirms(random, ch).Quote
			return c
		}, "quote"},
	} {
		c := w.line(m.leaf(nil))
		c.confirm(m)
		if !c.opens() {
			t.Fatal("refused before the test")
		}
		n, ch := c.nonce()
		if code := c.show(label.Showing{Confirmation: x.show(n, ch)}); code != http.StatusForbidden {
			t.Errorf("%s: %d", name, code)
		}
		if c.opens() {
			t.Errorf("%s: opens", name)
		}
		if got := w.lastRecord(); !strings.Contains(got, x.why) {
			t.Errorf("%s: record %s; want it to say %q", name, got, x.why)
		}
		if c.confirm(m); !c.opens() {
			t.Errorf("%s: refused after the machine showed itself", name)
		}
	}
}

// advert is a statement of another kind under the label key.
func (m *machine) advert(n, ch []byte) *label.Confirmation {
	c := m.confirms(n, ch)
	text := strings.Replace(string(c.Statement.Bytes()), "kra/confirmation/v1", "kra/advert/v1", 1)
	c.Signature = rawSignature(m.f.t, m.key, sha256.Sum256([]byte(text)))
	return c
}

// drifted runs what the domain did not sign.
func (m *machine) drifted(n, ch []byte) *label.Confirmation {
	was := m.pcrs
	defer func() { m.pcrs = was }()
	m.pcrs = label.PCRs{}
	for i, d := range was {
		m.pcrs[i] = d
	}
	m.pcrs[11] = label.Digest{99}
	return m.confirms(n, ch)
}

// TestPlatformNonceIsGoodOnce: neither for a second time, nor later, nor on another connection.
func TestPlatformNonceIsGoodOnce(t *testing.T) {
	f := newFleet(t, "fleet.example")
	w := newPlatformWorld(t, platformRule, f, false)
	m := f.machine("build7", x509.ExtKeyUsageClientAuth, false)
	c, thief := w.line(m.leaf(nil)), w.line(m.leaf(nil))
	n, ch := c.nonce()
	s := label.Showing{Confirmation: m.confirms(n, ch)}
	if code := thief.show(s); code != http.StatusForbidden {
		t.Errorf("without a nonce: %d", code)
	}
	thief.nonce()
	if code := thief.show(s); code != http.StatusForbidden || thief.opens() {
		t.Errorf("relayed to another connection: %d", code)
	}
	if code := c.show(s); code != http.StatusOK {
		t.Fatalf("%d", code)
	}
	if code := c.show(s); code != http.StatusForbidden || c.opens() {
		t.Errorf("replayed: %d", code)
	}
	r := &http.Request{TLS: &tls.ConnectionState{}}
	o := w.server.look(r)
	o.http, o.peer = r, &peer{anchors: o.snap.Anchors, platforms: o.snap.Platforms, id: identity{platform: &platform{}, from: o.now, until: o.now.Add(time.Hour)}, nonce: nonce{n, time.Now()}}
	if _, err := o.verify(s, time.Now().Add(nonceWithin+time.Second)); err == nil || !strings.Contains(err.Error(), "stale") {
		t.Errorf("stale: %v", err)
	}
}

// TestPlatformAge: a confirmation grows old, and a rule may want a younger one.
func TestPlatformAge(t *testing.T) {
	f := newFleet(t, "fleet.example")
	w := newPlatformWorld(t, `platform.age < 4`, f, false)
	m := f.machine("build7", x509.ExtKeyUsageClientAuth, false)
	c := w.line(m.leaf(nil))
	if c.confirm(m); !c.opens() {
		t.Fatal("refused at once")
	}
	time.Sleep(4100 * time.Millisecond)
	if c.opens() {
		t.Error("opens with a confirmation of old")
	}
	if c.confirm(m); !c.opens() {
		t.Error("refused after a new one")
	}
}

// TestPlatformParts: a key certified for the server's part is no client's, nor the other way round; a peer has a certificate of each.
func TestPlatformParts(t *testing.T) {
	f := newFleet(t, "fleet.example")
	w := newPlatformWorld(t, platformRule, f, false)
	server := f.machine("build7", x509.ExtKeyUsageServerAuth, false)
	if c := w.line(server.leaf(nil)); c.show(label.Showing{}) != http.StatusUnauthorized {
		t.Error("a server's part is a client")
	}
	client := f.machine("build7", x509.ExtKeyUsageClientAuth, false)
	cert, err := x509.ParseCertificate(client.cert)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(client.leaf(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }).Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	between := x509.NewCertPool()
	between.AddCert(cert)
	roots := x509.NewCertPool()
	roots.AddCert(f.root.cert)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err == nil {
		t.Error("a client's part certifies a server")
	}
	if _, err := label.HolderOf(cert, x509.ExtKeyUsageServerAuth); err == nil {
		t.Error("a client's label certificate is read as a server's")
	}
	peer := f.machine("build9", x509.ExtKeyUsageServerAuth, false)
	serves := peer.cert
	peer.cert = peer.certificate(f.document, x509.ExtKeyUsageClientAuth)
	c := w.line(peer.leaf(nil))
	if c.confirm(peer); !c.opens() {
		t.Error("a peer's client certificate does not serve")
	}
	peer.cert = serves
	if c := w.line(peer.leaf(nil)); c.show(label.Showing{}) != http.StatusUnauthorized {
		t.Error("a peer's server certificate is a client's")
	}
}

// TestPlatformNamesNoPerson: a label key certifies its holder and nobody else, and its domain's root is no authority of persons.
func TestPlatformNamesNoPerson(t *testing.T) {
	f := newFleet(t, "fleet.example")
	w := newPlatformWorld(t, `platform.label == "analysis" || id == "corp:CN=alice,O=Example" || id == "fleet:CN=alice,O=Example"`, f, false)
	m := f.machine("build7", x509.ExtKeyUsageClientAuth, false)
	if !w.line(m.leaf(nil)).opens() {
		t.Fatal("refused before the test")
	}
	asks, err := kra.NewRequest([][]byte{w.hsm.header(t, "legal").Bytes()}, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*x509.Certificate){
		"a person's name": func(c *x509.Certificate) {
			c.Subject = pkix.Name{CommonName: "alice", Organization: []string{"Example"}}
		},
		"another platform":      func(c *x509.Certificate) { c.Subject.CommonName = "build8" },
		"another URI":           func(c *x509.Certificate) { c.URIs[0], _ = url.Parse("kra://fleet.example/label/analysis/build8") },
		"a mailbox too":         func(c *x509.Certificate) { c.EmailAddresses = []string{"alice@example.com"} },
		"a host too":            func(c *x509.Certificate) { c.DNSNames = []string{"box1"} },
		"a server too":          func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) },
		"an authority":          func(c *x509.Certificate) { c.IsCA = true },
		"a name beside its own": func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"Legal"} },
	} {
		c := w.line(m.leaf(change))
		if c.show(label.Showing{}) != http.StatusUnauthorized {
			t.Errorf("%s: taken", name)
		}
		if code, body := w.post(c.Client, asks.Encode()); code != http.StatusUnauthorized {
			t.Errorf("%s: a release is answered with %d %s", name, code, body)
		}
	}
	if !w.line(m.leaf(nil)).opens() {
		t.Error("undone: the platform is refused under its own name")
	}
	// Even where an officer's mistake made the root an authority of persons, nobody is believed below a label key.
	anchors, err := NewAnchors([]Anchor{{"corp", kra.WholeName, f.root.cert}})
	if err != nil {
		t.Fatal(err)
	}
	leaf, between := m.leaf(func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "alice", Organization: []string{"Example"}}
	}), []*x509.Certificate{}
	for _, der := range leaf.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		between = append(between, c)
	}
	if id, err := anchors.identify(between, time.Now()); !errors.Is(err, errLabelled) || !strings.Contains(err.Error(), "nobody's name is believed below one") {
		t.Errorf("identified %v, %v", id.who, err)
	}
	if _, err := NewPlatforms([]PlatformDomain{{Alias: "fleet", Domain: f.name, Root: f.root.cert}}, anchors); err == nil {
		t.Error("one root is of platforms and of persons")
	}
}

// TestPlatformOfAnotherDomain: a label of another domain counts as what the officers say, and only where the platform states that it means there
// what they know it to mean.
func TestPlatformOfAnotherDomain(t *testing.T) {
	f := newFleet(t, "partner.example")
	w := newPlatformWorld(t, `platform.label == "compute" && platform.domain == "partner.example" && platform.version == 3`, f, true)
	w.trusts(f, "compute", true)
	m := f.machine("node1", x509.ExtKeyUsageClientAuth, false)
	c := w.line(m.leaf(nil))
	if c.confirm(m); c.opens() {
		t.Error("opens without a statement of interpretation")
	}
	if !strings.Contains(w.lastRecord(), "did not state") {
		t.Errorf("record: %s", w.lastRecord())
	}
	n, ch := c.nonce()
	if code := c.show(label.Showing{Confirmation: m.confirms(n, ch), Interpretation: m.means(f.document, n, ch)}); code != http.StatusOK || !c.opens() {
		t.Errorf("%d: refused with its statement: %s", code, w.lastRecord())
	}
	elsewhere := []byte("something else")
	for name, show := range map[string]func(n, ch []byte) *label.Interpretation{
		"something else": func(n, ch []byte) *label.Interpretation { return m.means(elsewhere, n, ch) },
		"of old":         func(_, ch []byte) *label.Interpretation { return m.means(f.document, make([]byte, 32), ch) },
		"relayed":        func(n, _ []byte) *label.Interpretation { return m.means(f.document, n, make([]byte, 32)) },
		"of another": func(n, ch []byte) *label.Interpretation {
			return f.machine("node2", x509.ExtKeyUsageClientAuth, false).means(f.document, n, ch)
		},
		"forged": func(n, ch []byte) *label.Interpretation {
			i := m.means(f.document, n, ch)
			i.Signature = make([]byte, 64)
			return i
		},
	} {
		n, ch := c.nonce()
		if code := c.show(label.Showing{Confirmation: m.confirms(n, ch), Interpretation: show(n, ch)}); code != http.StatusForbidden || c.opens() {
			t.Errorf("%s: %d", name, code)
		}
	}
	m.cert = m.certificate(elsewhere, x509.ExtKeyUsageClientAuth) // its domain calls something else by the same word
	c = w.line(m.leaf(nil))
	n, ch = c.nonce()
	if code := c.show(label.Showing{Confirmation: m.confirms(n, ch), Interpretation: m.means(f.document, n, ch)}); code != http.StatusForbidden || c.opens() {
		t.Errorf("the domain's certificate means something else: %d", code)
	}
	if c := w.line(newFleet(t, "partner.example").machine("node1", x509.ExtKeyUsageClientAuth, false).leaf(nil)); c.show(label.Showing{}) != http.StatusUnauthorized {
		t.Error("a domain of the same name is taken")
	}
}

// TestPlatformUnlisted: a label that the officers did not name counts as nothing, whatever its domain certified.
func TestPlatformUnlisted(t *testing.T) {
	f := newFleet(t, "fleet.example")
	w := newPlatformWorld(t, `platform.domain == "fleet.example"`, f, false)
	m := f.machine("build7", x509.ExtKeyUsageClientAuth, false)
	if !w.line(m.leaf(nil)).opens() {
		t.Fatal("refused before the test")
	}
	m.holder.Label = "other"
	m.cert = m.certificate(f.document, x509.ExtKeyUsageClientAuth)
	if code, _ := w.post(w.line(m.leaf(nil)).Client, newRequestFor(t, w)); code != http.StatusUnauthorized {
		t.Errorf("%d", code)
	}
}

// TestPlatformUnmeasured: a key that no TPM holds has its label, and confirms nothing.
func TestPlatformUnmeasured(t *testing.T) {
	f := newFleet(t, "fleet.example")
	w := newPlatformWorld(t, `platform.label == "analysis" && !platform.measured`, f, false)
	m := f.machine("hsm1", x509.ExtKeyUsageClientAuth, true)
	c := w.line(m.leaf(nil))
	if !c.opens() {
		t.Errorf("refused: %s", w.lastRecord())
	}
	n, ch := c.nonce()
	if code := c.show(label.Showing{Confirmation: m.confirms(n, ch)}); code != http.StatusForbidden {
		t.Errorf("it confirms: %d", code)
	}
	strict := newPlatformWorld(t, `platform.label == "analysis" && platform.measured`, f, false)
	if strict.line(m.leaf(nil)).opens() {
		t.Error("a rule that wants it measured lets it in")
	}
	version := newPlatformWorld(t, `!(platform.version < 3)`, f, false)
	if version.line(m.leaf(nil)).opens() {
		t.Error("it has a version")
	}
}

// TestPlatformRevoked: a revoked platform gets nothing from that moment on, also on connections on which it showed itself before, and a domain
// that counts no longer has no platforms.
func TestPlatformRevoked(t *testing.T) {
	f := newFleet(t, "fleet.example")
	w := newPlatformWorld(t, platformRule, f, false)
	m := f.machine("build7", x509.ExtKeyUsageClientAuth, false)
	var revoked atomic.Pointer[label.Digest]
	var versions sync.Map
	w.server.o.Permits = func(h label.Holder, version uint64, _ time.Time, keys ...label.Digest) error {
		versions.Store(version, true)
		for _, k := range keys {
			if r := revoked.Load(); r != nil && *r == k {
				return label.ErrRevoked
			}
		}
		return nil
	}
	c := w.line(m.leaf(nil))
	if c.confirm(m); !c.opens() {
		t.Fatal("refused before the test")
	}
	if _, ok := versions.Load(uint64(3)); !ok {
		t.Error("the domain is not asked about the version")
	}
	label1, err := x509.ParseCertificate(m.cert)
	if err != nil {
		t.Fatal(err)
	}
	ak, err := x509.ParseCertificate(m.platform)
	if err != nil {
		t.Fatal(err)
	}
	for name, cert := range map[string]*x509.Certificate{"label key": label1, "attestation key": ak} {
		k := label.KeyOf(cert)
		revoked.Store(&k)
		if c.opens() {
			t.Errorf("opens with a revoked %s", name)
		}
		if got := w.lastRecord(); !strings.Contains(got, "revoked") {
			t.Errorf("record: %s", got)
		}
		n, ch := c.nonce()
		if code := c.show(label.Showing{Confirmation: m.confirms(n, ch)}); code != http.StatusForbidden {
			t.Errorf("a revoked %s shows itself: %d", name, code)
		}
		revoked.Store(nil)
		if c.confirm(m); !c.opens() {
			t.Error("refused after it was let in again")
		}
	}
	w.platforms = nil
	w.publish()
	if code, _ := w.post(c.Client, newRequestFor(t, w)); code != http.StatusUnauthorized {
		t.Errorf("of a domain that counts no longer: %d", code)
	}
}

func newRequestFor(t *testing.T, w *world) []byte {
	t.Helper()
	h := w.hsm.header(t, "legal")
	req, err := kra.NewRequest([][]byte{h.Bytes()}, "")
	if err != nil {
		t.Fatal(err)
	}
	return req.Encode()
}

// TestPlatformSealedDelivery: what is sealed for a platform is bound to what it showed.
func TestPlatformSealedDelivery(t *testing.T) {
	f := newFleet(t, "fleet.example")
	w := newPlatformWorld(t, platformRule, f, false)
	m := f.machine("build7", x509.ExtKeyUsageClientAuth, false)
	leaf := m.leaf(nil)
	c := w.line(leaf)
	shown := c.confirm(m)
	h := w.hsm.header(t, "legal")
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d, err := kra.SignDelivery("example", "box1", key.PublicKey(), [][]byte{h.Bytes()}, leaf.PrivateKey.(crypto.Signer))
	if err != nil {
		t.Fatal(err)
	}
	req, err := kra.NewRequest([][]byte{h.Bytes()}, "")
	if err != nil {
		t.Fatal(err)
	}
	if req, err = req.Deliver(d); err != nil {
		t.Fatal(err)
	}
	code, body := w.post(c.Client, req.Encode())
	resp, err := kra.ParseResponse(body, 1)
	if err != nil || code != http.StatusOK {
		t.Fatalf("%d %s %v", code, body, err)
	}
	s, ok := resp.Results[0].Sealed()
	if !ok {
		t.Fatalf("not sealed: %s", body)
	}
	if _, err := kra.NewBinding("example", "box1", req.Encode()).Open(key, 0, s); err == nil {
		t.Error("opens without what was shown")
	}
	if _, err := kra.NewBinding("example", "box1", req.Encode()).On([32]byte{1}).Open(key, 0, s); err == nil {
		t.Error("opens with something else that was shown")
	}
	k, err := kra.NewBinding("example", "box1", req.Encode()).On(shown).Open(key, 0, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Use(h.VerifyMAC); err != nil {
		t.Error(err)
	}
}

// TestPlatformStorm: however many showings come, true or false, releases go on, and places are given back.
func TestPlatformStorm(t *testing.T) {
	f := newFleet(t, "fleet.example")
	w := newPlatformWorld(t, `platform.label == "analysis" || id == "corp:CN=alice,O=Example"`, f, false)
	m := f.machine("build7", x509.ExtKeyUsageClientAuth, false)
	alice := w.alice()
	stop := make(chan struct{})
	var storm sync.WaitGroup
	var refused, busy atomic.Int64
	for range 8 {
		c := w.line(m.leaf(nil))
		storm.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n, _ := c.nonce()
				switch c.show(label.Showing{Confirmation: m.confirms(n, make([]byte, 32))}) {
				case http.StatusForbidden:
					refused.Add(1)
				case http.StatusServiceUnavailable:
					busy.Add(1)
				}
			}
		})
	}
	for range 20 {
		h := w.hsm.header(t, "legal")
		if _, resp := w.ask(alice, "", h); !w.opens(h, resp, 0) {
			t.Error("refused beside a storm")
		}
	}
	for until := time.Now().Add(10 * time.Second); (refused.Load() == 0 || busy.Load() == 0) && time.Now().Before(until); time.Sleep(time.Millisecond) {
	}
	close(stop)
	storm.Wait()
	if refused.Load() == 0 || busy.Load() == 0 {
		t.Errorf("%d refused, %d turned away: no storm", refused.Load(), busy.Load())
	}
	w.server.showers.mu.Lock()
	defer w.server.showers.mu.Unlock()
	if w.server.showers.all != 0 || len(w.server.showers.from) != 0 {
		t.Errorf("%d places are held", w.server.showers.all)
	}
}
