package jwe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"

	"github.com/keyrelease/krabox/kra/block"
)

const advice = "use RSA-OAEP-256 or ECDH-ES+A256KW with enc A256GCM"

// A Recipient is one encrypted key of a message.
type Recipient struct {
	alg, enc string
	ref      block.Ref
	wrap     block.Wrap
	err      error // why it has no wrap
}

// Algorithm names how the key is encrypted, as the member alg does.
func (r Recipient) Algorithm() string { return r.alg }

// Ref returns how the message names the key, zero where it does not name it in a way that is known.
func (r Recipient) Ref() block.Ref { return r.ref }

// Wrap returns the encrypted key, or an error that says why an agent does not take it.
func (r Recipient) Wrap() (block.Wrap, error) { return r.wrap, r.err }

// encryptions are those of RFC 7518 section 5.
var encryptions = map[string]bool{
	"A128GCM": true, "A192GCM": true, "A256GCM": true, "A128CBC-HS256": true, "A192CBC-HS384": true, "A256CBC-HS512": true,
}

// agreements are the sizes of the key-encryption keys in bits.
var agreements = map[string]uint32{"ECDH-ES+A128KW": 128, "ECDH-ES+A192KW": 192, "ECDH-ES+A256KW": 256}

// transports are the suites of those that encrypt the key to an RSA key.
var transports = map[string]block.Suite{"RSA-OAEP": block.SuiteOAEPSHA1, "RSA-OAEP-256": block.SuiteOAEP}

// parseRecipient reads a recipient and returns what the head keeps of it. What is malformed is an error; what is only for
// others passes through.
func parseRecipient(o, protected, unprotected object) (r Recipient, kept object, err error) {
	own, err := o.member("header")
	if err != nil {
		return r, nil, err
	}
	key, hasKey, err := o.text("encrypted_key")
	if err != nil {
		return r, nil, err
	}
	body, err := decode(key)
	if err != nil {
		return r, nil, fmt.Errorf("encrypted_key: %w", err)
	}
	kept = object{}
	if hasKey && key != "" {
		kept["encrypted_key"] = key
	}
	if len(own) > 0 {
		kept["header"] = own
	}
	header, err := joined(protected, unprotected, own)
	if err != nil {
		return r, nil, err
	}
	if err := r.read(header); err != nil {
		return r, nil, err
	}
	r.wrap, r.err = r.unwrapped(header, body)
	return r, kept, nil
}

// joined is the JOSE header, RFC 7516 section 4: no member is in two of its parts.
func joined(parts ...object) (object, error) {
	all := object{}
	for _, p := range parts {
		for name := range p {
			if _, twice := all[name]; twice {
				return nil, fmt.Errorf("member %.40q is in two headers", name)
			}
		}
		maps.Copy(all, p)
	}
	return all, nil
}

// read takes the members that every recipient has, and refuses what would change the meaning of the message.
func (r *Recipient) read(header object) error {
	var hasAlg, hasEnc bool
	var err1, err2 error
	r.alg, hasAlg, err1 = header.text("alg")
	r.enc, hasEnc, err2 = header.text("enc")
	if err := errors.Join(err1, err2); err != nil || !hasAlg || !hasEnc {
		return errors.Join(fmt.Errorf("%w: its header has no alg and enc", ErrNotJWE), err)
	}
	if _, ok := header["crit"]; ok {
		return errors.New("header has critical members (crit), and none is known")
	}
	if _, ok := header["zip"]; ok {
		return errors.New("compressed content (zip) is refused: its length tells about the content; encrypt without zip")
	}
	kid, _, err := header.text("kid")
	if err != nil {
		return err
	}
	r.ref = refOf(kid)
	return nil
}

// refOf reads a kid that names a key by itself: the thumbprint of its JWK, RFC 7638, or a key id.
func refOf(kid string) block.Ref {
	for _, kind := range []string{"thumbprint:", "id:"} {
		if ref, err := block.ParseRef(kind + kid); err == nil {
			return ref
		}
	}
	return block.Ref{}
}

// unwrapped returns the wrap, or why there is none.
func (r *Recipient) unwrapped(header object, body []byte) (block.Wrap, error) {
	bits, agrees := agreements[r.alg]
	transport := transports[r.alg]
	switch {
	case r.alg == "RSA1_5":
		return block.Wrap{}, errors.New("RSA1_5 is refused: its padding tells strangers about the key; " + advice)
	case r.alg == "dir" || r.alg == "ECDH-ES":
		return block.Wrap{}, fmt.Errorf("%s has no encrypted key that could be released; %s", r.alg, advice)
	case transport == 0 && !agrees:
		return block.Wrap{}, fmt.Errorf("%.40q is not a way of encrypting to a key pair that is known; %s", r.alg, advice)
	case !encryptions[r.enc]:
		return block.Wrap{}, fmt.Errorf("enc %.40q is not one whose key an agent releases; %s", r.enc, advice)
	case r.ref == block.Ref{}:
		return block.Wrap{}, errors.New("kid is neither the RFC 7638 thumbprint of a key nor a key id")
	case !agrees:
		return block.NewWrap(transport, r.ref, nil, body, nil)
	}
	suite, point, err := ephemeral(header)
	if err != nil {
		return block.Wrap{}, err
	}
	context, err := otherInfo(r.alg, header, bits)
	if err != nil {
		return block.Wrap{}, err
	}
	return block.NewWrap(suite, r.ref, point, body, context)
}

// curves are the suites of epk's curves, and the bytes of a coordinate.
var curves = map[string]struct {
	suite block.Suite
	size  int
}{"P-256": {block.SuiteECDHES, 32}, "P-384": {block.SuiteECDHESP384, 48}}

// ephemeral returns the suite and the point of epk, RFC 7518 section 4.6.1.1.
func ephemeral(header object) (block.Suite, []byte, error) {
	errKey := errors.New("epk is not a public key on P-256 or P-384")
	epk, err := header.member("epk")
	if err != nil {
		return 0, nil, err
	}
	crv, _, err := epk.text("crv")
	if err != nil {
		return 0, nil, err
	}
	curve, ok := curves[crv]
	if !ok || epk["kty"] != "EC" || epk["d"] != nil {
		return 0, nil, errKey
	}
	point := []byte{4}
	for _, name := range []string{"x", "y"} {
		text, _, err := epk.text(name)
		if err != nil {
			return 0, nil, err
		}
		c, err := decode(text)
		if err != nil || len(c) != curve.size {
			return 0, nil, errKey
		}
		point = append(point, c...)
	}
	return curve.suite, point, nil
}

// otherInfo is the shared info of the Concat KDF, RFC 7518 section 4.6.2.
func otherInfo(alg string, header object, bits uint32) ([]byte, error) {
	out := sized(nil, []byte(alg))
	for _, name := range []string{"apu", "apv"} {
		text, _, err := header.text(name)
		if err != nil {
			return nil, err
		}
		party, err := decode(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = sized(out, party)
	}
	return binary.BigEndian.AppendUint32(out, bits), nil
}

func sized(b, data []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(data))), data...)
}
