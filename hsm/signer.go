package hsm

import (
	"bufio"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
)

// The domain's desk is a program without cgo: it starts hsmd to use a key of the domain in a token. One command, one answer:
//
//	hsmd token make -module FILE -token LABEL -name NAME     in: PIN         out: ID POINT
//	hsmd token sign -module FILE -token LABEL -id ID         in: PIN DIGEST  out: SIGNATURE
//
// What goes in and out are lines: the PIN as it is, the rest in hexadecimal. A point is uncompressed P-256, a digest 32 bytes,
// a signature r and s in DER (RFC 3279, 2.2.3).
const tokenCommand = "token"

const (
	signerIDSize = 16
	maxPIN       = 256
	signLimit    = 1 << 10 // bytes of input
)

// A signer is a log-in to the token that holds keys of the domain.
type signer struct {
	*session
	name        string
	id          []byte
	certificate string // file, of a holder
}

// runSigner is one command of the desk.
func runSigner(args []string, in io.Reader, out io.Writer) (err error) {
	var c Config
	f := flag.NewFlagSet("hsmd token", flag.ContinueOnError)
	f.StringVar(&c.Module, "module", "", "PKCS#11 library")
	f.StringVar(&c.Parameters, "parameters", "", "for C_Initialize")
	f.StringVar(&c.Label, "token", "", "label of the token")
	name := f.String("name", "", "label of the key to make")
	id := f.String("id", "", "which key signs")
	certificate := f.String("certificate", "", "label certificate of the key, PEM")
	if len(args) == 0 {
		return errors.New("token: say make, sign, request or leaf")
	}
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	do, ok := map[string]func(*signer, *bufio.Scanner, io.Writer) error{"make": (*signer).make, "sign": (*signer).sign,
		"request": (*signer).request, "leaf": (*signer).leaf}[args[0]]
	if !ok || f.NArg() > 0 || c.Module == "" || c.Label == "" {
		return errors.New("token: want make or sign, or for a platform request or leaf, -module FILE -token LABEL, and -name NAME or -id ID")
	}
	lines := bufio.NewScanner(io.LimitReader(in, signLimit))
	if !lines.Scan() || len(lines.Bytes()) == 0 || len(lines.Bytes()) > maxPIN {
		return fmt.Errorf("token: want a PIN of 1 to %d bytes", maxPIN)
	}
	pin := slices.Clone(lines.Bytes())
	defer clear(pin)
	s, err := openSigner(c, pin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.lib.Finalize()) }()
	s.name, s.certificate = *name, *certificate
	if s.id, err = hex.DecodeString(*id); err != nil {
		return errors.New("token: -id is not hexadecimal")
	}
	return do(s, lines, out)
}

func openSigner(c Config, pin []byte) (*signer, error) {
	lib, err := load(c)
	if err != nil {
		return nil, err
	}
	k := &token{lib: lib}
	if k.slot, err = k.find(c.Label); err != nil {
		return nil, errors.Join(err, lib.Finalize())
	}
	h, err := k.openSession()
	if err == nil {
		err = k.login(h, p11.CKU_USER, pin)
	}
	if errors.Is(err, wire.ErrPIN) {
		err = errors.New("the token refuses the PIN: it locks after a few wrong ones")
	}
	if err != nil {
		return nil, errors.Join(err, lib.Finalize())
	}
	return &signer{session: &session{token: k, lib: lib, handle: h}}, nil
}

// signing is what a key of the domain may do: sign, and stay where it is.
func signing(id []byte, name string) (public, private []*p11.Attribute) {
	both := []*p11.Attribute{attr(p11.CKA_TOKEN, true), attr(p11.CKA_ID, id), attr(p11.CKA_LABEL, name), attr(p11.CKA_DERIVE, false)}
	public = append(slices.Clone(both), attr(p11.CKA_PRIVATE, false), attr(p11.CKA_EC_PARAMS, p256OID), attr(p11.CKA_VERIFY, true),
		attr(p11.CKA_ENCRYPT, false), attr(p11.CKA_WRAP, false))
	private = append(slices.Clone(both), attr(p11.CKA_PRIVATE, true), attr(p11.CKA_SENSITIVE, true), attr(p11.CKA_EXTRACTABLE, false),
		attr(p11.CKA_SIGN, true), attr(p11.CKA_DECRYPT, false), attr(p11.CKA_UNWRAP, false), attr(p11.CKA_SIGN_RECOVER, false))
	return public, private
}

// make makes a key, and believes the module's attributes only after it has read them again.
func (s *signer) make(_ *bufio.Scanner, out io.Writer) error {
	if s.name == "" {
		return errors.New("make key: say -name NAME")
	}
	id := make([]byte, signerIDSize)
	rand.Read(id)
	public, private := signing(id, s.name)
	pub, priv, err := s.lib.GenerateKeyPair(s.handle, ecKeyGen, public, private)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	values, err := s.read(priv, p11.CKA_SENSITIVE, p11.CKA_EXTRACTABLE, p11.CKA_NEVER_EXTRACTABLE, p11.CKA_LOCAL)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	for i, want := range []byte{1, 0, 1, 1} {
		if len(values[i]) != 1 || values[i][0] != want {
			return errors.New("make key: the token made one that can leave it")
		}
	}
	point, err := s.point(pub)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%x %x\n", id, point)
	return err
}

// point reads a P-256 public key, which stands in an OCTET STRING (PKCS#11 2.40, 2.3.3).
func (s *signer) point(h p11.ObjectHandle) ([]byte, error) {
	values, err := s.read(h, p11.CKA_EC_POINT)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	var point []byte
	if rest, err := asn1.Unmarshal(values[0], &point); err != nil || len(rest) > 0 {
		point = values[0]
	}
	if len(point) != 1+2*p256Size || point[0] != 4 {
		return nil, errors.New("read public key: not an uncompressed point of P-256")
	}
	return point, nil
}

func (s *signer) sign(lines *bufio.Scanner, out io.Writer) error {
	if !lines.Scan() {
		return errors.New("sign: want a digest")
	}
	digest, err := hex.DecodeString(lines.Text())
	if err != nil || len(digest) != 32 {
		return errors.New("sign: want a digest of 32 bytes in hexadecimal")
	}
	der, err := s.signDigest(digest)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, strings.ToLower(hex.EncodeToString(der)))
	return err
}

// one finds the key's half of that class.
func (s *signer) one(class uint) (p11.ObjectHandle, error) {
	found, err := s.find([]*p11.Attribute{attr(p11.CKA_CLASS, class), attr(p11.CKA_TOKEN, true), attr(p11.CKA_ID, s.id)})
	if err != nil {
		return 0, err
	}
	if len(found) != 1 || len(s.id) != signerIDSize {
		return 0, fmt.Errorf("sign: the token holds %d keys with this id, want one", len(found))
	}
	return found[0], nil
}

// signDigest gives r and s in DER.
func (s *signer) signDigest(digest []byte) ([]byte, error) {
	key, err := s.one(p11.CKO_PRIVATE_KEY)
	if err != nil {
		return nil, err
	}
	if err := s.lib.SignInit(s.handle, []*p11.Mechanism{p11.NewMechanism(p11.CKM_ECDSA, nil)}, key); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	sig, err := s.lib.Sign(s.handle, digest)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if len(sig) != 2*p256Size {
		return nil, fmt.Errorf("sign: signature of %d bytes", len(sig))
	}
	r, t := new(big.Int).SetBytes(sig[:p256Size]), new(big.Int).SetBytes(sig[p256Size:])
	if n := elliptic.P256().Params().N; r.Sign() <= 0 || t.Sign() <= 0 || r.Cmp(n) >= 0 || t.Cmp(n) >= 0 {
		return nil, errors.New("sign: the token's signature is out of range")
	}
	der, err := asn1.Marshal(struct{ R, S *big.Int }{r, t})
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return der, nil
}
