package admin

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/wrapped"
	tpm "github.com/keyrelease/krabox/tpm/wire"
)

// shortID is how much of a key id a table shows.
const shortID = 16

func short(id block.KeyID) string { return id.String()[:shortID] }

func (s *step) keyGenerate(ctx context.Context, c console.KeyGenerate) error {
	suite := suites[c.Suite]
	if c.Label != "" {
		return s.labelledKey(ctx, suite, c)
	}
	return s.newKey(ctx, c.Access, "made", func() (hsm.Key, hsm.Files, error) {
		return s.a.c.HSM.Generate(ctx, suite, custody(c.Custody), s.state().KeyMode())
	})
}

// suites are those that are generated, by their names on the console.
var suites = map[console.Suite]hsm.Suite{
	console.P256: hsm.P256, console.P384: hsm.P384, console.RSA3072: hsm.RSA3072, console.RSA4096: hsm.RSA4096, console.Hybrid: hsm.Hybrid,
}

func custody(c console.Custody) hsm.Custody {
	if c == console.Bound {
		return hsm.Bound
	}
	return hsm.Replicable
}

func (s *step) keyImport(ctx context.Context, c console.KeyImport) error {
	if err := s.hasAccess(c.Access); err != nil {
		return err
	}
	text, err := s.next(wire.Paste, "Paste the private key: KRA WRAPPED KEY (key import-key), or in the clear PRIVATE KEY (PKCS#8, not encrypted).")
	if err != nil {
		return err
	}
	if wrapped.Is(text) {
		return s.keyImportWrapped(ctx, c, text)
	}
	der, err := pkcs8([]byte(text))
	if err != nil {
		return err
	}
	defer clear(der)
	if err := s.notDestroyed(der); err != nil {
		return err
	}
	s.tell(fmt.Sprintf("Make a key that was made elsewhere the current key of %s%s? %s It came in the clear: so has whoever saw it on its way to here.", c.Access, s.instead(c.Access), elsewhere))
	return s.newKey(ctx, c.Access, "imported in the clear", func() (hsm.Key, hsm.Files, error) {
		return s.a.c.HSM.Import(ctx, der, custody(c.Custody), s.state().KeyMode())
	})
}

// instead names the key that another one would take the place of.
func (s *step) instead(id kra.AccessID) string {
	a, _ := s.state().Access(id)
	if len(a.Keys) == 0 {
		return ", which has none"
	}
	return ", in place of " + short(a.Keys[0])
}

// notDestroyed refuses what was destroyed here before the HSM has it. Of a wrapped key it is known only then.
func (s *step) notDestroyed(der []byte) error {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return errMalformed
	}
	private, ok := key.(crypto.Signer)
	if !ok {
		return errNoKind
	}
	id, err := block.KeyIDOf(private.Public())
	if err != nil {
		return errNoKind
	}
	if s.state().WasDestroyed(id) {
		return fmt.Errorf("key %s was destroyed here, and stays so; nothing was imported", short(id))
	}
	return nil
}

const elsewhere = "Who has it there opens whatever is encrypted to it, by no rule of this box."

var (
	errMalformed = errors.New("the private key is malformed; nothing was imported") // another error might hold parts of it
	errNoKind    = errors.New("the private key is of no kind that can be imported")
)

// pkcs8 reads the private key of a PEM block, also in its older forms.
func pkcs8(text []byte) ([]byte, error) {
	b, rest := pem.Decode(text)
	if b == nil || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("that is not one PEM block; nothing was imported")
	}
	var key any
	var err error
	switch b.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(b.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(b.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(b.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the key is encrypted; decrypt it first (openssl pkcs8)")
	default:
		return nil, errors.New("the PEM block is not a private key; nothing was imported")
	}
	clear(b.Bytes)
	if err != nil {
		return nil, errMalformed
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, errNoKind
	}
	return der, nil
}

func (s *step) hasAccess(id kra.AccessID) error {
	if _, ok := s.state().Access(id); !ok {
		return fmt.Errorf("there is no access identifier %q; make it with: access add %s", id, id)
	}
	return nil
}

// newKey makes a key current for an access identifier, and with it more changes. A key that cannot be certified or stored is destroyed again.
func (s *step) newKey(ctx context.Context, id kra.AccessID, how string, create func() (hsm.Key, hsm.Files, error), more ...store.Change) error {
	if err := s.hasAccess(id); err != nil {
		return err
	}
	now, _ := s.state().Access(id)
	s.depends(now) // where this waits, nothing else tells what it takes the place of
	if err := s.act(ctx); err != nil {
		return err
	}
	before, err := s.a.c.HSM.Status(ctx)
	if err != nil {
		return err
	}
	k, files, err := create()
	if err != nil {
		return err
	}
	chain, err := s.a.c.TPM.LeafKeyRelease(ctx, k.SPKI, string(id), usage(k.Suite))
	if err == nil {
		add := store.KeyAdd{Key: k, Made: time.Now(), Files: files, Access: id, Chain: chain}
		err = s.commit(ctx, append([]store.Change{add}, more...)...)
	}
	if err != nil {
		return s.undo(ctx, k, err)
	}
	if err := s.refresh(ctx, before); err != nil {
		return err
	}
	return s.say("Key %s was %s: %s, %s. It is the current key of %s.", k.ID, how, k.Suite, boundTo(store.Key{Key: k}), id)
}

// refresh gives the token's process the key again if it was lost between making the key and its commit: it was then opened
// without it.
func (s *step) refresh(ctx context.Context, before hsm.Instance) error {
	after, err := s.a.c.HSM.Status(ctx)
	if err != nil || after.ID == before.ID {
		return err
	}
	defer s.follow(ctx)
	return s.a.c.HSM.Refresh(ctx)
}

// undo destroys a key that did not get into the store, unless the store had it before.
func (s *step) undo(ctx context.Context, k hsm.Key, why error) error {
	if _, ok := s.a.c.Store.State().Key(k.ID); ok { // whosever it is
		return why
	}
	_, err := s.a.c.HSM.Destroy(ctx, k.ID)
	return errors.Join(why, err)
}

func usage(s hsm.Suite) tpm.Usage {
	if s == hsm.P256 || s == hsm.P384 {
		return tpm.Agreement
	}
	return tpm.Encipherment
}

// keyList prints the private-key repository: access identifiers, and for each its keys, the current one first.
func (s *step) keyList() error {
	st := s.state()
	used := map[block.KeyID]bool{}
	t := newTable("ACCESS", "KEY", "TYPE", "CUSTODY", "ORIGIN", "STATE")
	for _, a := range st.Accesses() {
		name := string(a.ID)
		for i, id := range a.Keys {
			k, _ := st.Key(id)
			used[id] = true
			t.row(name, short(id), k.Suite.String(), boundTo(k), origin(k), keyState(k, i))
			name = ""
		}
		if len(a.Keys) == 0 {
			t.row(name, "(no key)", "", "", "", "")
		}
	}
	for _, k := range st.Keys() {
		if !used[k.ID] {
			t.row("(none)", short(k.ID), k.Suite.String(), boundTo(k), origin(k), string(k.State))
		}
	}
	return t.print(s, "There are no access identifiers and no keys.")
}

// origin says where a key was made, or which box it is a copy of one of.
func origin(k store.Key) string {
	if k.From != nil {
		return "replica of " + k.From.Box
	}
	return k.Origin.String()
}

// lifeOf is a key's state and what time will bring.
func lifeOf(k store.Key) string {
	switch {
	case !k.Destroy.IsZero():
		return fmt.Sprintf("%s, opens nothing, is destroyed %s (key keep)", k.State, stamp(k.Destroy))
	case !k.Until.IsZero() && k.State == store.Suspended:
		return fmt.Sprintf("%s; its end stays %s", k.State, stamp(k.Until))
	case !k.Until.IsZero():
		return fmt.Sprintf("%s, until %s", k.State, stamp(k.Until))
	}
	return string(k.State)
}

// meaning says what a state lets a key do.
func meaning(s store.KeyState) string {
	switch s {
	case store.Suspended:
		return "It opens nothing until it is active again."
	case store.Active:
		return "It may be the current key of an access identifier."
	}
	return "It still opens what was encrypted to it, and can never be current again."
}

func keyState(k store.Key, place int) string {
	switch {
	case !k.Destroy.IsZero():
		return "to be destroyed"
	case k.State != store.Active:
		return string(k.State)
	case place == 0:
		return "current"
	}
	return "old"
}

func (s *step) keyShow(c console.KeyShow) error {
	k, err := s.key(c.Key)
	if err != nil {
		if gone, shown := s.destroyed(c.Key); gone {
			return shown
		}
		return err
	}
	field(s, "key", k.ID.String())
	field(s, "type", fmt.Sprintf("%s, %s, %s %s", k.Suite, boundTo(k), origin(k), stamp(k.Made)))
	field(s, "custody", leaving(k))
	field(s, "state", lifeOf(k))
	if k.Bound != nil {
		field(s, "label", fmt.Sprintf("%s, %s", k.Bound.Label, s.usableNow(k.ID)))
	}
	st := s.state()
	field(s, "stock age", orElse(st.Tag(k.ID), "has no recipient for it"))
	for _, a := range st.Accesses() {
		for i, id := range a.Keys {
			if id == k.ID {
				field(s, "access", fmt.Sprintf("%s (%s)", a.ID, keyState(k, i)))
				if err := s.certificate(st.Certificate(a.ID, id)); err != nil {
					return err
				}
			}
		}
	}
	return pem.Encode(s, &pem.Block{Type: "PUBLIC KEY", Bytes: k.SPKI})
}

func (s *step) keyMark(ctx context.Context, c console.KeyMark) error {
	k, err := s.key(c.Key)
	if err != nil {
		return err
	}
	mark := store.KeyMark{ID: k.ID, State: store.KeyState(c.State)}
	if _, err := store.Apply(s.state(), mark); err != nil {
		return err
	}
	what := meaning(mark.State)
	if now, err := s.a.trusted(); err == nil && mark.State == store.Active && !k.Until.IsZero() && !now.Before(k.Until) {
		what = fmt.Sprintf("Its end was %s: it is deactivated then, and opens what was encrypted to it.", stamp(k.Until))
	}
	if err := s.confirm("Mark key %s as %s? %s", short(k.ID), c.State, what); err != nil {
		return err
	}
	if err := s.commit(ctx, mark); err != nil {
		return err
	}
	return s.say("Key %s is %s.", short(k.ID), c.State)
}

func (s *step) keyTag(ctx context.Context, c console.KeyTag) error {
	k, err := s.key(c.Key)
	if err != nil {
		return err
	}
	if err := s.commit(ctx, store.KeyTag{ID: k.ID}); err != nil {
		return err
	}
	return s.say("Stock age encrypts to key %s by: %s", short(k.ID), s.state().Tag(k.ID))
}

func (s *step) keyUntag(ctx context.Context, c console.KeyUntag) error {
	k, err := s.key(c.Key)
	if err != nil {
		return err
	}
	untag := store.KeyUntag{ID: k.ID}
	if _, err := store.Apply(s.state(), untag); err != nil {
		return err
	}
	if err := s.confirm("Release no longer what stock age encrypted to key %s by its recipient?", short(k.ID)); err != nil {
		return err
	}
	if err := s.commit(ctx, untag); err != nil {
		return err
	}
	return s.say("Key %s has no recipient of stock age any more.", short(k.ID))
}

func (s *step) certificate(chain [][]byte) error {
	if len(chain) == 0 {
		return field(s, "certificate", "none")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	field(s, "certificate", fmt.Sprintf("%s, from %s to %s", leaf.Subject, stamp(leaf.NotBefore), stamp(leaf.NotAfter)))
	for _, der := range chain {
		if err := pem.Encode(s, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return err
		}
	}
	return nil
}

// key finds the one key that a reference means.
func (s *step) key(ref console.KeyRef) (store.Key, error) {
	var found []store.Key
	for _, k := range s.state().Keys() {
		if strings.HasPrefix(k.ID.String(), string(ref)) {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 0:
		return store.Key{}, fmt.Errorf("there is no key %s", ref)
	case 1:
		return found[0], nil
	}
	return store.Key{}, fmt.Errorf("%d keys begin with %s; give more digits", len(found), ref)
}
