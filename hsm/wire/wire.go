// Package wire is the protocol between the agent and hsmd, the process that owns the hardware security module: words, frames and client, free of cgo.
package wire

import (
	"errors"
	"fmt"
	"time"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// Limits of the protocol. A reader refuses what is larger before it allocates for it.
const (
	MaxFrame  = 64 << 20 // bytes of one frame; opening a token of 10,000 keys takes 8 MiB
	MaxBatch  = 64 * 64  // wraps in one Unwrap: the headers of one request times the wraps of one header
	MaxFiles  = 1 << 18  // token files
	MaxName   = 255      // bytes of a token file's name
	MaxPIN    = 255      // bytes
	MaxPKCS8  = 8 << 10  // bytes of a private key to import
	MaxKeys   = 1 << 17  // keys in one list
	MaxVault  = 48 << 20 // bytes of the files of keys in vault mode, their names included; 100,000 of P-256 take 34 MiB
	RingItems = 1 << 16  // chain items that hsmd remembers
	maxReason = 1 << 10  // bytes of an error's text
	maxFlight = 1 << 8   // operations that one client has under way

	retryFor   = 30 * time.Second // how long a call waits for hsmd to come back
	retryFirst = time.Millisecond
	retryLast  = 100 * time.Millisecond
)

// The errors a caller may want to tell apart. Every other refusal is a Refused.
var (
	ErrClosed    = errors.New("token is not open")
	ErrNoKey     = errors.New("key is not in the token")
	ErrUnwrap    = errors.New("wrap does not open")
	ErrForgotten = errors.New("chain items are no longer remembered")
	ErrHead      = errors.New("chain head is not authentic")
	ErrPIN       = errors.New("PIN is not correct")
	ErrLost      = errors.New("hsmd was lost twice during one operation")
)

// Refused is hsmd's answer when it will not do a thing, with the reason for the administrator.
type Refused struct{ Reason string }

func (r Refused) Error() string { return r.Reason }

// A Suite is a kind of key that the module keeps. Zero is not a suite.
type Suite uint8

const (
	P256    Suite = iota + 1 // HPKE with DHKEM(P-256), block.SuiteP256
	RSA2048                  // OAEP-SHA256, block.SuiteRSAOAEP; import only
	RSA3072                  // OAEP-SHA256, block.SuiteRSAOAEP
	Hybrid                   // HPKE with MLKEM768-P256, block.SuiteHybrid: the P-256 half and the key over the ML-KEM seed in the token
	P384                     // HPKE with DHKEM(P-384), block.SuiteP384
	RSA4096                  // OAEP-SHA256, block.SuiteRSAOAEP

	SuiteLast = RSA4096 // the last of them

)

// Wraps returns the suite of our stanzas that a key of suite s opens; block.Suite.Opens says which it opens besides.
func (s Suite) Wraps() block.Suite {
	switch s {
	case P256:
		return block.SuiteP256
	case RSA2048, RSA3072, RSA4096:
		return block.SuiteRSAOAEP
	case Hybrid:
		return block.SuiteHybrid
	case P384:
		return block.SuiteP384
	}
	return 0
}

// String is the suite's name on the console.
func (s Suite) String() string {
	switch s {
	case P256:
		return "p256"
	case RSA2048:
		return "rsa-2048"
	case RSA3072:
		return "rsa-3072"
	case Hybrid:
		return "mlkem768-p256"
	case P384:
		return "p384"
	case RSA4096:
		return "rsa-4096"
	}
	return fmt.Sprintf("suite %d", uint8(s))
}

// ParseSuite reads the form that String writes.
func ParseSuite(name string) (Suite, error) {
	for s := P256; s <= SuiteLast; s++ {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("key type %.40q is not known", name)
}

// A Custody is whether a key may ever leave its token. Zero is not a custody.
type Custody uint8

const (
	Bound      Custody = iota + 1 // not extractable: dies with the box
	Replicable                    // leaves only wrapped by a trusted key of the token
	Labelled                      // not in the token but while the box has a label: see Enclosed

	custodyLast = Labelled
)

// String is the custody's name on the console.
func (c Custody) String() string {
	switch c {
	case Bound:
		return "bound"
	case Replicable:
		return "replicable"
	case Labelled:
		return "labelled"
	}
	return fmt.Sprintf("custody %d", uint8(c))
}

// ParseCustody reads the form that String writes.
func ParseCustody(name string) (Custody, error) {
	for c := Bound; c <= custodyLast; c++ {
		if c.String() == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("custody %.40q is not known", name)
}

// A Mode is where a key is kept. Zero is not a mode.
type Mode uint8

const (
	Resident Mode = iota + 1 // an object of the token
	Vault                    // wrapped by the token, in a file beside its own: see hsm/VAULT.md

	modeLast = Vault
)

// String is the mode's name on the console.
func (m Mode) String() string {
	switch m {
	case Resident:
		return "resident"
	case Vault:
		return "vault"
	}
	return fmt.Sprintf("mode %d", uint8(m))
}

// ParseMode reads the form that String writes.
func ParseMode(name string) (Mode, error) {
	for m := Resident; m <= modeLast; m++ {
		if m.String() == name {
			return m, nil
		}
	}
	return 0, fmt.Errorf("mode %.40q is not known", name)
}

// An Origin is where a key was made. Zero is not an origin.
type Origin uint8

const (
	Generated Origin = iota + 1 // in the token, never outside in the clear
	Imported                    // elsewhere; in the clear when it came, but for copies of other boxes
	Wrapped                     // elsewhere; wrapped to the token's import key when it came: see hsm/IMPORT.md

	OriginLast = Wrapped
)

// String is the origin's name on the console.
func (o Origin) String() string {
	switch o {
	case Generated:
		return "generated"
	case Imported:
		return "imported"
	case Wrapped:
		return "imported wrapped"
	}
	return fmt.Sprintf("origin %d", uint8(o))
}

// A Key is what may be known of a key pair in the token.
type Key struct {
	ID      block.KeyID
	SPKI    []byte // SubjectPublicKeyInfo, DER; ID is its SHA-256
	Suite   Suite
	Custody Custody
	Origin  Origin
	Mode    Mode
}

// Files are token files by their path below the token folder, and the keys in vault mode, sealed by hsmd: they open nowhere
// else, not even with the PIN. Among changes, nil means removed.
type Files map[string][]byte

// A Token is all that opens a token: its files and the PINs. Empty files ask for a new token. A vendor's module keeps
// its own files; it is given the PIN only.
type Token struct {
	Files Files
	PIN   []byte
	SOPIN []byte
}

// Clear overwrites the PINs.
func (t *Token) Clear() {
	clear(t.PIN)
	clear(t.SOPIN)
}

// An Instance is an open token.
type Instance struct {
	ID     receipt.Instance
	Files  Files // of a token that was made by this Open, else nil
	Report Report
}

// A Report says what the module was found able to do, by doing it.
type Report struct {
	Module string
	Keys   uint32
	Checks []Check // sorted as performed

	ImportKeys uint32 // to which private keys can be wrapped for import: none or one
}

// CheckVault is the name of the check without which a module keeps no bound keys in vault mode.
const CheckVault = "trusted wrap and unwrap of bound keys"

// A Check is one operation that the module was asked for at start. Failure is empty when it succeeded.
type Check struct{ Name, Failure string }

// A Result is what became of one wrap. The zero Result holds no key.
type Result struct {
	Seq uint64 // of the chain item that recorded the attempt
	Key block.FileKey
	Err error // nil, ErrNoKey, ErrUnwrap or a Refused

	Sealed []byte // instead of Key: the key encrypted to the Recipient, which never left the module
}
