package tpm

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"filippo.io/age"
	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
	"golang.org/x/crypto/argon2"
)

// Parameters of the presence index: a passphrase of 16 letters of 5 bits each is 80 bits, of 20 is 100.
const (
	presenceLetters  = 20
	presenceAlphabet = "abcdefghijkmnpqrstuvwxyz23456789" // 32 letters that are not mistaken for one another
	argonTime        = 2
	argonKiB         = 19 * 1024
	argonThreads     = 1
)

// prepare makes a factory TPM ready to be enrolled. Each step looks at what is there, so that a cut at any point only
// means to do the rest:
//
//	SRK persistent -> epoch, record, half -> escrow, presence -> AK, label keys -> escrow, lockoutAuth -> escrow, ownerAuth
//
// ownerAuth is last: everything before it needs it empty. A secret is set only after its escrow is on the disk; while
// the TPM says that it is not set, the escrow may be replaced.
func (a *Agent) prepare() error {
	if err := a.ensureSRK(); err != nil {
		return err
	}
	for _, step := range []func() error{
		a.ensureIndexes,
		a.ensurePresence,
		func() error { return a.ensureKey(akFile, akTemplate()) },
		a.ensureLabelKeys,
		func() error { return a.ensureAuth(tpm2.TPMRHLockout, lockoutFile, lockoutAuthSet) },
		func() error { return a.ensureAuth(tpm2.TPMRHOwner, ownerFile, ownerAuthSet) },
	} {
		if err := step(); err != nil {
			return foreignOwner(err)
		}
	}
	return nil
}

// Bits of TPMA_PERMANENT (TPM 2.0 part 2, 8.6).
const (
	ownerAuthSet   = 1 << 0
	lockoutAuthSet = 1 << 2
)

// foreignOwner names the one cause of a refused step: somebody else owns the TPM.
func foreignOwner(err error) error {
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return wire.Refused{Reason: err.Error() + ": the TPM has another owner; clear it in the firmware's set-up and begin again"}
	}
	return err
}

func (a *Agent) ensureSRK() error {
	if a.srk != nil {
		return nil
	}
	o, err := a.device.primarySRK(tpm2.TPMRHOwner)
	if err != nil {
		return foreignOwner(err)
	}
	_, err = tpm2.EvictControl{Auth: owner(tpm2.PasswordAuth(nil)), ObjectHandle: &tpm2.NamedHandle{Handle: o.handle, Name: o.name},
		PersistentHandle: srkHandle}.Execute(a.device)
	a.device.flush(o.handle)
	if err != nil {
		return foreignOwner(fmt.Errorf("make SRK persistent: %w", err))
	}
	srk, err := a.device.persistentSRK()
	if err != nil {
		return err
	}
	a.srk = &srk
	return nil
}

func (a *Agent) ensureIndexes() error {
	for _, x := range []index{a.epoch(), a.record(), a.half()} {
		c, err := a.device.condition(x)
		if err != nil {
			return err
		}
		if c == absent {
			if err := a.device.define(*a.srk, x, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// ensurePresence defines the presence index under a generated passphrase that only the escrow keeps.
func (a *Agent) ensurePresence() error {
	c, err := a.device.condition(a.presence())
	if err != nil || c != absent {
		return err
	}
	letters := make([]byte, presenceLetters)
	rand.Read(letters)
	for i, b := range letters {
		letters[i] = presenceAlphabet[b%32]
	}
	defer clear(letters)
	if err := a.escrow(presenceFile, letters); err != nil {
		return err
	}
	auth := presenceAuth(letters, a.srk.name.Buffer)
	defer clear(auth)
	return a.device.define(*a.srk, a.presence(), auth)
}

// presenceAuth is what the presence index takes for a passphrase; the box's SRK Name is the salt.
func presenceAuth(passphrase, srkName []byte) []byte {
	return authValue(argon2.IDKey(passphrase, srkName, argonTime, argonKiB, argonThreads, 32))
}

// authValue makes b an authorization value that everybody keeps as it is, and gives it: without zeros. A TPM drops those at the end
// (TPM 2.0 part 1, 19.6.5); go-tpm 0.9.8 cuts at the first anywhere, which one value of 32 random bytes in eight has.
func authValue(b []byte) []byte {
	for i := range b {
		if b[i] == 0 {
			b[i] = 0xff
		}
	}
	return b
}

func randomAuth() []byte {
	b := make([]byte, 32)
	rand.Read(b)
	return authValue(b)
}

// labels are those that the box has keys for: key-release first, then the other built-in ones, then what the domain defined for boxes.
func (a *Agent) labels() []label.ID {
	var out []label.ID
	for _, d := range append(label.Builtin(), a.defined...) {
		if d.OfBox() && len(out) < label.MaxLabels {
			out = append(out, d.Label)
		}
	}
	return out
}

// definition is what the domain, or every domain, says of a label.
func (a *Agent) definition(l label.ID) (label.Definition, bool) {
	for _, d := range append(label.Builtin(), a.defined...) {
		if d.Label == l {
			return d, true
		}
	}
	return label.Definition{}, false
}

func (a *Agent) ensureLabelKeys() error {
	for _, l := range a.labels() {
		t, err := a.of(l).labelTemplate()
		if err != nil {
			return err
		}
		if err := a.ensureKey(labelFile(l), t); err != nil {
			return err
		}
	}
	return nil
}

// newLabelKeys makes the keys of labels that were defined after the box was enrolled. What was there before, good or bad, stays.
func (a *Agent) newLabelKeys() error {
	for _, l := range a.labels() {
		if b, err := a.folder.read(labelFile(l)); err != nil || b != nil {
			continue
		}
		t, err := a.of(l).labelTemplate()
		if err != nil {
			return err
		}
		if err := a.ensureKey(labelFile(l), t); err != nil {
			return err
		}
	}
	return nil
}

// ensureKey makes a key of a template unless the file holds one that this TPM loads.
func (a *Agent) ensureKey(file string, template tpm2.TPMTPublic) error {
	if _, b, err := a.folder.readBlob(file); err == nil {
		if o, err := a.device.load(*a.srk, b); err == nil {
			a.device.flush(o.handle)
			return nil
		}
	}
	r, err := tpm2.Create{ParentHandle: a.srk.auth(a.srk.hmac(encryptIn)), InPublic: tpm2.New2B(template)}.Execute(a.device)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	s := blob{r.OutPublic, r.OutPrivate}.stored()
	s.Creation, s.Hash, s.Ticket = r.CreationData.Bytes(), r.CreationHash.Buffer, tpm2.Marshal(r.CreationTicket)
	return a.folder.writeBlob(file, s)
}

// ensureAuth sets a hierarchy's authorization to a random value that only the escrow keeps, unless the TPM says by bit that
// it is set.
func (a *Agent) ensureAuth(h tpm2.TPMHandle, file string, bit uint32) error {
	set, err := a.device.property(tpm2.TPMPTPermanent)
	if err != nil {
		return err
	}
	if set&bit != 0 {
		return a.haveEscrow(file)
	}
	auth := randomAuth()
	defer clear(auth)
	text := []byte(hex.EncodeToString(auth))
	defer clear(text)
	if err := a.escrow(file, text); err != nil {
		return err
	}
	if err := a.device.changeAuth(*a.srk, h, auth); err != nil {
		return fmt.Errorf("set authorization of %#x: %w", uint32(h), err)
	}
	return nil
}

func (a *Agent) haveEscrow(file string) error {
	b, err := a.folder.read(file)
	if err != nil {
		return err
	}
	if b == nil {
		return wire.Refused{Reason: "the TPM has another owner, whose authorization this box does not hold; clear it in the firmware's set-up and begin again"}
	}
	return nil
}

// escrow puts a secret on the disk that only the domain can read, and returns when it is there.
func (a *Agent) escrow(file string, secret []byte) error {
	to, err := age.ParseX25519Recipient(a.domain.Escrow)
	if err != nil {
		return fmt.Errorf("escrow secret: %w", err)
	}
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to)
	if err != nil {
		return fmt.Errorf("escrow secret: %w", err)
	}
	if _, err := w.Write(secret); err != nil {
		return fmt.Errorf("escrow secret: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("escrow secret: %w", err)
	}
	return a.folder.write(file, b.Bytes())
}
