package attrcert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// A Template is what a new certificate will say.
type Template struct {
	Holder      *x509.Certificate
	ByName      bool     // name the holder by its subject instead of issuer and number
	Serial      *big.Int // nil: random
	From, Until time.Time
	Groups      []string
	Roles       []string // URIs
	Clearances  []Clearance
	Attributes  []Attribute
	Targets     []string         // URIs of the verifiers meant; none: all
	Revocable   bool             // else it says that it cannot be revoked
	Extensions  []pkix.Extension // further ones
}

// Issue signs a certificate under the issuer's key.
func Issue(t Template, issuer *x509.Certificate, key crypto.Signer) ([]byte, error) {
	raw, err := t.issue(issuer, key)
	if err == nil {
		_, err = Parse(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("issue attribute certificate: %w", err)
	}
	return raw, nil
}

func (t Template) issue(issuer *x509.Certificate, key crypto.Signer) ([]byte, error) {
	id, err := signingAlgorithm(key.Public())
	if err != nil {
		return nil, err
	}
	if t.Serial == nil {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
		if err != nil {
			return nil, err
		}
		t.Serial = n.Add(n, big.NewInt(1))
	}
	tbs, err := t.info(issuer, id)
	if err != nil {
		return nil, err
	}
	hash, digest := algorithms[id].hash, tbs
	if hash != 0 {
		h := hash.New()
		h.Write(tbs)
		digest = h.Sum(nil)
	}
	sig, err := key.Sign(rand.Reader, digest, hash)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes([]byte(id))
		b.AddASN1BitString(sig)
	})
	return b.Bytes()
}

// signingAlgorithm chooses the algorithm for a key: SHA-384 for P-384, else SHA-256; PKCS #1 v1.5 for RSA.
func signingAlgorithm(pub crypto.PublicKey) (string, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P384() {
			return identifier(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, nil), nil
		}
		return identifier(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}, nil), nil
	case *rsa.PublicKey:
		return identifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, addNull), nil
	case ed25519.PublicKey:
		return identifier(asn1.ObjectIdentifier{1, 3, 101, 112}, nil), nil
	}
	return "", errors.New("key is neither ECDSA, RSA nor Ed25519")
}

func (t Template) info(issuer *x509.Certificate, id string) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1(der.SEQUENCE, t.addHolder)
		b.AddASN1(contextual(0), func(b *cryptobyte.Builder) { addNames(b, der.SEQUENCE, issuer.RawSubject) })
		b.AddBytes([]byte(id))
		b.AddASN1BigInt(t.Serial)
		b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1GeneralizedTime(t.From.UTC().Truncate(time.Second))
			b.AddASN1GeneralizedTime(t.Until.UTC().Truncate(time.Second))
		})
		b.AddASN1(der.SEQUENCE, t.addAttributes)
		if x := t.extensions(); len(x) > 0 {
			b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, e := range x {
					addExtension(b, e)
				}
			})
		}
	})
	return b.Bytes()
}

func (t Template) addHolder(b *cryptobyte.Builder) {
	if t.ByName {
		addNames(b, contextual(1), t.Holder.RawSubject)
		return
	}
	b.AddASN1(contextual(0), func(b *cryptobyte.Builder) {
		addNames(b, der.SEQUENCE, t.Holder.RawIssuer)
		b.AddASN1BigInt(t.Holder.SerialNumber)
	})
}

// addNames adds GeneralNames of one directory name.
func addNames(b *cryptobyte.Builder, tag der.Tag, name []byte) {
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes(generalName(contextual(4), name)) })
}

func (t Template) addAttributes(b *cryptobyte.Builder) {
	if len(t.Groups) > 0 {
		addAttribute(b, oidGroup, [][]byte{build(func(b *cryptobyte.Builder) {
			b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
					for _, g := range t.Groups {
						addText(b, der.UTF8String, g)
					}
				})
			})
		})})
	}
	var roles, clearances [][]byte
	for _, r := range t.Roles {
		roles = append(roles, build(func(b *cryptobyte.Builder) {
			b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(contextual(1), func(b *cryptobyte.Builder) { addText(b, context(6), r) })
			})
		}))
	}
	for _, c := range t.Clearances {
		clearances = append(clearances, build(c.add))
	}
	addAttribute(b, oidRole, roles)
	addAttribute(b, oidClearance, clearances)
	for _, a := range t.Attributes {
		var values [][]byte
		for _, v := range a.Values {
			values = append(values, build(func(b *cryptobyte.Builder) { addText(b, der.UTF8String, v) }))
		}
		addAttribute(b, a.Type, values)
	}
}

func build(f func(*cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	f(&b)
	return b.BytesOrPanic()
}

func addText(b *cryptobyte.Builder, tag der.Tag, s string) {
	b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
}

func addAttribute(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, values [][]byte) {
	if len(values) == 0 {
		return
	}
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		addSet(b, values)
	})
}

// addSet adds a SET OF in DER's order.
func addSet(b *cryptobyte.Builder, values [][]byte) {
	slices.SortFunc(values, bytes.Compare)
	b.AddASN1(der.SET, func(b *cryptobyte.Builder) {
		for _, v := range values {
			b.AddBytes(v)
		}
	})
}

func (c Clearance) add(b *cryptobyte.Builder) {
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(c.Policy)
		if !slices.Equal(c.Bits, []int{1}) {
			b.AddASN1(der.BIT_STRING, func(b *cryptobyte.Builder) { b.AddBytes(bitString(c.Bits)) })
		}
		if len(c.Categories) == 0 {
			return
		}
		var values [][]byte
		for _, cat := range c.Categories {
			values = append(values, build(cat.add))
		}
		addSet(b, values)
	})
}

func (c Category) add(b *cryptobyte.Builder) {
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		oid := build(func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(c.Type) })
		b.AddBytes(append([]byte{byte(context(0))}, oid[1:]...))
		b.AddASN1(contextual(1), func(b *cryptobyte.Builder) { b.AddBytes(c.Value) })
	})
}

// bitString is the content of a BIT STRING with these bits and no trailing zeros.
func bitString(bits []int) []byte {
	if len(bits) == 0 {
		return []byte{0}
	}
	last := slices.Max(bits)
	out := make([]byte, 2+last/8)
	out[0] = byte(7 - last%8)
	for _, i := range bits {
		out[1+i/8] |= 0x80 >> (i % 8)
	}
	return out
}

func (t Template) extensions() []pkix.Extension {
	x := slices.Clone(t.Extensions)
	if len(t.Targets) > 0 {
		x = append(x, pkix.Extension{Id: oidTargets, Critical: true, Value: build(func(b *cryptobyte.Builder) {
			b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
					for _, name := range t.Targets {
						b.AddASN1(contextual(0), func(b *cryptobyte.Builder) { addText(b, context(6), name) })
					}
				})
			})
		})})
	}
	if !t.Revocable {
		x = append(x, pkix.Extension{Id: oidNoRevocation, Value: []byte{byte(der.NULL), 0}})
	}
	return x
}

func addExtension(b *cryptobyte.Builder, e pkix.Extension) {
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(e.Id)
		if e.Critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1OctetString(e.Value)
	})
}
