package label

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

// A rack is a domain with one box, whose keys are in this test's hands: what a TPM would refuse to sign can be tried.
type rack struct {
	t          *testing.T
	domain     Domain
	keys       keys
	root       *x509.Certificate
	label, ak  *ecdsa.PrivateKey
	chain      [][]byte
	platform   []byte
	authority  []byte
	nonce      []byte
	channel    []byte
	value      Value
	registers  PCRs
	qualifying func(Statement) [32]byte
}

func newRack(t *testing.T) *rack {
	t.Helper()
	r := &rack{t: t, label: newKey(t), ak: newKey(t), nonce: bytes.Repeat([]byte{7}, NonceSize), channel: bytes.Repeat([]byte{9}, NonceSize),
		qualifying: Statement.Qualifying}
	r.domain, r.keys = newDomain(t)
	var err error
	if r.root, err = r.domain.Certificate(); err != nil {
		t.Fatal(err)
	}
	r.registers = newApproval(t, Sign, r.keys.label).PCRs
	r.value = Value{Domain: r.domain.Name, Label: KeyRelease, Version: 3, Release: "v0.1.0", Commit: "abc", Image: Digest{4}, PCRs: r.registers}
	r.chain = [][]byte{r.certify(r.label, r.domain.LabelURI(KeyRelease, "box1"), func(c *x509.Certificate) {
		c.IsCA, c.MaxPathLenZero, c.BasicConstraintsValid = true, true, true
	})}
	r.platform = r.certify(r.ak, r.domain.PlatformURI("box1"), func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{AttestationKeyUsage} })
	r.authority = r.certify(r.keys.label, r.domain.AuthorityURI(), nil)
	return r
}

func (r *rack) certify(key *ecdsa.PrivateKey, uri string, change func(*x509.Certificate)) []byte {
	r.t.Helper()
	return r.certifyBy(r.root, r.keys.root, key, uri, change)
}

func (r *rack) certifyBy(issuer *x509.Certificate, by, key *ecdsa.PrivateKey, uri string, change func(*x509.Certificate)) []byte {
	r.t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		r.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		URIs: []*url.URL{u}, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, &key.PublicKey, by)
	if err != nil {
		r.t.Fatal(err)
	}
	return der
}

func (r *rack) confirm() Confirmation {
	r.t.Helper()
	s, err := r.domain.Confirm("box1", KeyRelease, r.nonce, r.channel)
	if err != nil {
		r.t.Fatal(err)
	}
	v, err := r.value.Sign(r.keys.label)
	if err != nil {
		r.t.Fatal(err)
	}
	c := Confirmation{Statement: s, PCRs: r.registers, Value: v, Chain: r.chain, Platform: r.platform, Authority: r.authority}
	r.resign(&c)
	return c
}

// resign makes signature and quote anew, as a box would that signs whatever it is given.
func (r *rack) resign(c *Confirmation) {
	r.t.Helper()
	digest := sha256.Sum256(c.Statement.Bytes())
	var err error
	if c.Signature, err = signDigest(r.label, digest); err != nil {
		r.t.Fatal(err)
	}
	q := r.qualifying(c.Statement)
	c.Quote = r.quote(q[:], pcrDigest(c.PCRs), selection())
}

func (r *rack) quote(extra, digest, selected []byte) Signed {
	r.t.Helper()
	var b []byte
	b = binary.BigEndian.AppendUint32(b, tpmGenerated)
	b = binary.BigEndian.AppendUint16(b, attestQuote)
	b = append(binary.BigEndian.AppendUint16(b, 3), 1, 2, 3)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(extra))), extra...)
	b = append(b, make([]byte, clockSize+firmwareSize)...)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint16(b, algSHA256)
	b = append(append(b, byte(len(selected))), selected...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(digest))), digest...)
	sig, err := signDigest(r.ak, sha256.Sum256(b))
	if err != nil {
		r.t.Fatal(err)
	}
	s := []byte{0, algECDSA, 0, algSHA256, 0, 32}
	s = append(append(append(s, sig[:32]...), 0, 32), sig[32:]...)
	return Signed{Attest: b, Signature: s}
}

func (r *rack) asked() Asked {
	pool := x509.NewCertPool()
	pool.AddCert(r.root)
	return Asked{Roots: pool, Now: time.Now(), Nonce: r.nonce, Channel: r.channel}
}

func TestConfirmation(t *testing.T) {
	r := newRack(t)
	c := r.confirm()
	got, err := c.Verify(r.asked())
	if err != nil {
		t.Fatal(err)
	}
	if got.Box() != "box1" || got.Value().Release != "v0.1.0" || got.Value().Version != 3 {
		t.Errorf("Verify() = %q, %+v", got.Box(), got.Value())
	}
	all := Confirmations{[]Confirmation{c}}
	p, err := ParseConfirmations(all.Bytes())
	if err != nil || !bytes.Equal(p.Bytes(), all.Bytes()) {
		t.Errorf("ParseConfirmations() = %v", err)
	}
	ch := Challenge{Nonce: r.nonce, Label: KeyRelease}
	if p, err := ParseChallenge(ch.Bytes()); err != nil || !bytes.Equal(p.Nonce, r.nonce) {
		t.Errorf("ParseChallenge() = %v", err)
	}
}

// What is presented, though every signature that the attacker can make is good.
func TestConfirmationRefused(t *testing.T) {
	other := newRack(t)
	for _, x := range []struct {
		name, want string
		change     func(r *rack, c *Confirmation, a *Asked)
	}{
		{"another nonce", "another challenge", func(r *rack, c *Confirmation, a *Asked) { a.Nonce = bytes.Repeat([]byte{1}, NonceSize) }},
		{"no nonce", "another challenge", func(r *rack, c *Confirmation, a *Asked) { a.Nonce = nil }},
		{"relayed", "another channel", func(r *rack, c *Confirmation, a *Asked) { a.Channel = bytes.Repeat([]byte{1}, NonceSize) }},
		{"older than is wanted", ErrOldRelease.Error(), func(r *rack, c *Confirmation, a *Asked) { a.MinEpoch = c.Value.Value.Version + 1 }},
		{"no channel", "another channel", func(r *rack, c *Confirmation, a *Asked) { a.Channel = nil }},
		{"no root", "no root", func(r *rack, c *Confirmation, a *Asked) { a.Roots = nil }},
		{"another domain's root", "label certificate", func(r *rack, c *Confirmation, a *Asked) { a.Roots = other.asked().Roots }},
		{"expired", "label certificate", func(r *rack, c *Confirmation, a *Asked) { a.Now = a.Now.Add(2 * time.Hour) }},
		{"advert", "another kind", func(r *rack, c *Confirmation, a *Asked) { c.Statement.Context = "kra/advert/v1"; r.resign(c) }},
		{"nonce changed after signing", "not signed by the label key", func(r *rack, c *Confirmation, a *Asked) {
			c.Statement.Nonce = bytes.Repeat([]byte{3}, NonceSize)
			a.Nonce = c.Statement.Nonce
		}},
		{"signed by another label key", "not signed by the label key", func(r *rack, c *Confirmation, a *Asked) {
			c.Signature, _ = signDigest(other.label, sha256.Sum256(c.Statement.Bytes()))
		}},
		{"quote of another statement", "another statement", func(r *rack, c *Confirmation, a *Asked) {
			d := pcrDigest(c.PCRs)
			c.Quote = r.quote(make([]byte, 32), d, selection())
		}},
		{"quote of what the label key signed", "another statement", func(r *rack, c *Confirmation, a *Asked) {
			d := sha256.Sum256(c.Statement.Bytes())
			c.Quote = r.quote(d[:], pcrDigest(c.PCRs), selection())
		}},
		{"quote by another AK", "not signed by the key of the platform", func(r *rack, c *Confirmation, a *Asked) {
			q := c.Statement.Qualifying()
			c.Quote = other.quote(q[:], pcrDigest(c.PCRs), selection())
		}},
		{"quote of fewer registers", "approved registers", func(r *rack, c *Confirmation, a *Asked) {
			q := c.Statement.Qualifying()
			c.Quote = r.quote(q[:], pcrDigest(c.PCRs), []byte{1, 0, 0})
		}},
		{"other registers than quoted", "not the ones quoted", func(r *rack, c *Confirmation, a *Asked) { c.PCRs = shifted(c.PCRs) }},
		{"wrong state, truly quoted", "runs something else", func(r *rack, c *Confirmation, a *Asked) { c.PCRs = shifted(c.PCRs); r.resign(c) }},
		{"older release's value claims newer", "runs something else", func(r *rack, c *Confirmation, a *Asked) {
			v := r.value
			v.PCRs, v.Version = shifted(v.PCRs), 9
			c.Value, _ = v.Sign(r.keys.label)
		}},
		{"value made up", "not signed by the label key of domain", func(r *rack, c *Confirmation, a *Asked) {
			c.PCRs = shifted(c.PCRs)
			c.Value.Value.PCRs = c.PCRs
			r.resign(c)
		}},
		{"value of another label", "another label", func(r *rack, c *Confirmation, a *Asked) {
			v := r.value
			v.Label = "root"
			c.Value, _ = v.Sign(r.keys.label)
		}},
		{"value by an authority of the box's own", "authority certificate", func(r *rack, c *Confirmation, a *Asked) {
			k := newKey(t)
			issuer, _ := x509.ParseCertificate(r.chain[0])
			c.Authority = r.certifyBy(issuer, r.label, k, r.domain.AuthorityURI(), nil)
			c.PCRs = shifted(c.PCRs)
			v := r.value
			v.PCRs = c.PCRs
			c.Value, _ = v.Sign(k)
			r.resign(c)
		}},
		{"platform of another box", "platform certificate", func(r *rack, c *Confirmation, a *Asked) {
			c.Platform = r.certify(r.ak, r.domain.PlatformURI("box2"), func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{AttestationKeyUsage} })
		}},
		{"platform of another root that is believed too", "different roots", func(r *rack, c *Confirmation, a *Asked) {
			a.Roots.AddCert(other.root)
			c.Platform = other.platform
			q := c.Statement.Qualifying()
			c.Quote = other.quote(q[:], pcrDigest(c.PCRs), selection())
		}},
		{"platform without its usage", "platform certificate", func(r *rack, c *Confirmation, a *Asked) {
			c.Platform = r.certify(r.ak, r.domain.PlatformURI("box1"), nil)
		}},
		{"leaf as label certificate", "label certificate", func(r *rack, c *Confirmation, a *Asked) {
			c.Chain = [][]byte{r.certify(r.label, r.domain.LabelURI(KeyRelease, "box1"), nil)}
		}},
		{"label certificate of another box", "label certificate", func(r *rack, c *Confirmation, a *Asked) { c.Statement.Box = "box2"; r.resign(c) }},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := newRack(t)
			c, a := r.confirm(), r.asked()
			if _, err := c.Verify(a); err != nil {
				t.Fatalf("control: %v", err)
			}
			x.change(r, &c, &a)
			got, err := c.Verify(a)
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("Verify() = %v, want %q", err, x.want)
			}
			if got.Box() != "" || got.Value().PCRs != nil {
				t.Error("a refused confirmation says something")
			}
		})
	}
}

func shifted(p PCRs) PCRs {
	out := PCRs{}
	for i, d := range p {
		out[i] = d
	}
	d := out[11]
	d[0] ^= 1
	out[11] = d
	return out
}

func FuzzConfirmation(f *testing.F) {
	d, k := newDomain(f)
	v, err := (Value{Domain: d.Name, Label: KeyRelease, Version: 1, Release: "v1", Commit: "c", PCRs: newApproval(f, Sign, k.label).PCRs}).Sign(k.label)
	if err != nil {
		f.Fatal(err)
	}
	s, err := d.Confirm("box1", KeyRelease, make([]byte, NonceSize), make([]byte, NonceSize))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(Confirmations{[]Confirmation{{Statement: s, Signature: make([]byte, 64), PCRs: v.Value.PCRs, Value: v, Chain: [][]byte{{1}}, Platform: []byte{1}, Authority: []byte{1},
		Quote: Signed{Attest: []byte{1}, Signature: []byte{1}}}}}.Bytes())
	f.Add(Challenge{Nonce: make([]byte, NonceSize)}.Bytes())
	f.Add(v.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseConfirmations(b); err == nil && !bytes.Equal(c.Bytes(), b) {
			t.Error("a confirmation has two forms")
		}
		if c, err := ParseChallenge(b); err == nil && !bytes.Equal(c.Bytes(), b) {
			t.Error("a challenge has two forms")
		}
		if v, err := ParseValue(b); err == nil && !bytes.Equal(v.Bytes(), b) {
			t.Error("a label value has two forms")
		}
		_, _, _ = readQuote(b)
	})
}

// TestInstantiateOneService: a challenge starts the service of the label key-release, and says so in one form.
func TestInstantiateOneService(t *testing.T) {
	nonce := make([]byte, NonceSize)
	c := Challenge{Nonce: nonce, Label: KeyRelease, Instantiate: true}
	again, err := ParseChallenge(c.Bytes())
	if err != nil || !again.Instantiate || !bytes.Equal(again.Bytes(), c.Bytes()) {
		t.Errorf("%s: %+v, %v", c.Bytes(), again, err)
	}
	if plain := (Challenge{Nonce: nonce, Label: KeyRelease}).Bytes(); bytes.Contains(plain, []byte("instantiate")) {
		t.Errorf("%s asks for a start", plain)
	}
	for _, l := range []ID{"", "root", "attended"} {
		if _, err := ParseChallenge(Challenge{Nonce: nonce, Label: l, Instantiate: true}.Bytes()); err == nil {
			t.Errorf("label %q: taken for a service", l)
		}
	}
	if _, err := ParseChallenge(bytes.Replace(c.Bytes(), []byte("true"), []byte("false"), 1)); err == nil {
		t.Error("a second form is taken")
	}
}
