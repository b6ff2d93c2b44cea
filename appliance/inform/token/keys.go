package token

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// Limits of a key set.
const (
	maxKeySet = 64 << 10
	maxKeys   = 64
	minRSA    = 2048 // bits
	maxRSA    = 8192
)

// A key is a public key of the issuer, and for what it counts.
type key struct {
	id         string
	algorithms []jose.SignatureAlgorithm
	public     any
}

// parseKeys reads a key set and keeps what can verify a token. A private key in it is an error: somebody pasted what
// should not be here.
func parseKeys(set []byte) (keys []key, err error) {
	if len(set) > maxKeySet {
		return nil, fmt.Errorf("key set is longer than %d bytes", maxKeySet)
	}
	o, err := object(set)
	if err != nil {
		return nil, fmt.Errorf("read key set: %w", err)
	}
	list, ok := o["keys"].([]any)
	if !ok || len(list) > maxKeys {
		return nil, fmt.Errorf("key set has no list of keys, or more than %d", maxKeys)
	}
	for n, one := range list {
		k, usable, err := parseKey(one)
		if err != nil {
			return nil, fmt.Errorf("key %d of the set: %w", n+1, err)
		}
		if !usable {
			continue
		}
		if slices.ContainsFunc(keys, func(o key) bool { return o.id == k.id && sharing(o, k) }) {
			return nil, fmt.Errorf("key set has two keys named %.80q", k.id)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("key set has no key that verifies %v", algorithms)
	}
	return keys, nil
}

func sharing(a, b key) bool {
	return slices.ContainsFunc(a.algorithms, func(x jose.SignatureAlgorithm) bool { return slices.Contains(b.algorithms, x) })
}

func parseKey(one any) (k key, usable bool, err error) {
	o, ok := one.(map[string]any)
	if !ok {
		return k, false, errors.New("want an object")
	}
	if _, private := o["d"]; private || o["kty"] == "oct" {
		return k, false, errors.New("it is no public key")
	}
	raw, err := json.Marshal(o)
	if err != nil {
		return k, false, err
	}
	var j jose.JSONWebKey
	if err := j.UnmarshalJSON(raw); err != nil || !j.Valid() {
		return k, false, nil // of a kind that is not known here
	}
	k = key{j.KeyID, algorithmsOf(j.Key), j.Key}
	if j.Algorithm != "" {
		k.algorithms = slices.DeleteFunc(k.algorithms, func(a jose.SignatureAlgorithm) bool { return string(a) != j.Algorithm })
	}
	return k, len(k.algorithms) > 0 && (j.Use == "" || j.Use == "sig"), nil
}

// algorithmsOf are those for which a key is strong enough, and of the right kind.
func algorithmsOf(public any) []jose.SignatureAlgorithm {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if p.Curve == elliptic.P256() {
			return []jose.SignatureAlgorithm{jose.ES256}
		}
	case *rsa.PublicKey:
		if bits := p.N.BitLen(); bits >= minRSA && bits <= maxRSA {
			return []jose.SignatureAlgorithm{jose.RS256, jose.PS256}
		}
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}
	}
	return nil
}

// verify checks the signature of a token that parse has accepted.
func (k key) verify(token string, alg jose.SignatureAlgorithm) error {
	s, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{alg})
	if err == nil {
		_, err = s.Verify(k.public)
	}
	if err != nil {
		return fmt.Errorf("verify signature of token: %w", err)
	}
	return nil
}
