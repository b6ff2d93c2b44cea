package store

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

// Limits of keys and token files.
const (
	MaxTotalKeys  = 100_000
	maxSPKI       = 4096
	maxTokenFile  = 1 << 20
	maxTokenFiles = 400_000
	maxChain      = 8
	maxChainBytes = 32 << 10
	maxPIN        = 255
	maxKeyNames   = 256 // that certificates gave one key; the latest stay

	maxLabelSecret = 4 << 10 // bytes of a blob of the TPM
)

// KeyAdd takes a key that the token has made or imported, together with the token files that changed by it: the key is
// not acknowledged before they are durable. With Access it becomes that identifier's current key, certified by Chain.
type KeyAdd struct {
	Key    hsm.Key           `json:"key"`
	Made   time.Time         `json:"made"`
	Files  map[string][]byte `json:"files"` // nil value: removed
	Access kra.AccessID      `json:"access,omitempty"`
	Chain  [][]byte          `json:"chain,omitempty"`
	Bound  *Binding          `json:"bound,omitempty"` // of a Labelled key
}

func (KeyAdd) kind() string { return "key-add" }

func (c KeyAdd) apply(d *State) error {
	k := c.Key
	if err := (TokenSet{c.Files}).apply(d); err != nil {
		return err
	}
	if err := d.putKey(Key{Key: k, State: Active, Made: c.Made, Bound: c.Bound}); err != nil {
		return err
	}
	if c.Access == "" {
		return nil
	}
	err := d.changeAccess(c.Access, func(a *Access) error {
		return d.setKeys(a, append([]block.KeyID{k.ID}, a.Keys...))
	})
	if err != nil || len(c.Chain) == 0 {
		return err
	}
	return CertificateSet{Access: c.Access, Key: k.ID, Chain: c.Chain}.apply(d)
}

// putKey takes a key that is not there yet, and never was destroyed here: it would open again, and copies of the state from before its
// end with it. Stock age can encrypt to it while there is room.
func (s *State) putKey(k Key) error {
	id := k.ID.String()
	switch {
	case k.ID != block.KeyID(sha256.Sum256(k.SPKI)) || len(k.SPKI) > maxSPKI:
		return invalid("key %s: id and public key do not belong together", id)
	case s.WasDestroyed(k.ID):
		return invalid("key %s was destroyed here, and stays so: it is not taken again", id)
	case s.keys.has(id):
		return invalid("key %s exists already", id)
	case s.keys.size() >= MaxTotalKeys:
		return invalid("there are %d keys already, which is the limit", MaxTotalKeys)
	case k.Suite < hsm.P256 || k.Suite > hsm.SuiteLast, k.Custody < hsm.Bound || k.Custody > hsm.Labelled,
		k.Origin < hsm.Generated || k.Origin > hsm.OriginLast, k.Mode < hsm.Resident || k.Mode > hsm.Vault:
		return invalid("key %s: suite, custody, origin or mode is not set", id)
	}
	if err := s.checkBinding(k); err != nil {
		return err
	}
	k.Made = k.Made.UTC().Truncate(time.Second)
	s.keys.put(id, k)
	if r, ok := recipientOf(k.SPKI); ok && s.tags.size() < block.MaxTagged {
		s.tags.put(id, Tag{r})
	}
	return nil
}

// checkBinding wants a binding of the keys that are nowhere else, and of no others.
func (s *State) checkBinding(k Key) error {
	b := k.Bound
	switch {
	case (k.Custody == hsm.Labelled) != (b != nil):
		return invalid("key %s: only a key that is bound to a label has what opens it, and each of those", k.ID)
	case b == nil:
		return nil
	case len(b.Secret) == 0 || len(b.Secret) > maxLabelSecret || len(b.Sealed) == 0 || len(b.Sealed) > hsm.MaxEnclosed:
		return invalid("key %s: what opens it is missing or too long", k.ID)
	case len(s.Labelled()) >= hsm.MaxLoaded:
		return invalid("%d keys are bound to labels already, which is the limit", hsm.MaxLoaded)
	}
	if _, err := label.ParseID(string(b.Label)); err != nil {
		return invalid("key %s: it is bound to no label", k.ID)
	}
	return nil
}

// Labelled returns the keys that are bound to labels, by id.
func (s *State) Labelled() (out []Key) {
	for _, k := range s.keys.all() {
		if k.Custody == hsm.Labelled {
			out = append(out, *k)
		}
	}
	slices.SortFunc(out, func(a, b Key) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return out
}

// KeyMark changes what a key may be used for. A current key cannot be marked: give its identifiers another one first.
type KeyMark struct {
	ID    block.KeyID `json:"id"`
	State KeyState    `json:"state"`
}

func (KeyMark) kind() string { return "key-mark" }

func (c KeyMark) apply(d *State) error {
	k, ok := d.keys.get(c.ID.String())
	if !ok {
		return invalid("there is no key %s", c.ID)
	}
	may, known := transitions[k.State]
	switch {
	case transitions[c.State] == nil:
		return invalid("key %s: unknown state %.40q", c.ID, c.State)
	case !known || !slices.Contains(may, c.State):
		return invalid("key %s is %s and stays so: it cannot become %s", c.ID, k.State, c.State)
	case !k.Destroy.IsZero():
		return invalid("key %s is to be destroyed; keep it first (key keep)", c.ID)
	}
	if users := d.usersOfKey(c.ID, 1); c.State != Active && len(users) > 0 {
		return invalid("key %s is the current key of %s; give it another one first (key rotate, or access keys)", c.ID, strings.Join(users, ", "))
	}
	k.State = c.State
	d.keys.put(c.ID.String(), k)
	return nil
}

// recipientOf returns the recipient by which stock age encrypts to a key, if there is one for its kind.
func recipientOf(spki []byte) (string, bool) {
	pub, err := block.ParsePublicKey(spki)
	if err != nil {
		return "", false
	}
	r, err := block.AgeRecipient(pub)
	return r, err == nil
}

// KeyTag lets stock age encrypt to a key. New keys can be encrypted to so while there are few of them.
type KeyTag struct {
	ID block.KeyID `json:"id"`
}

func (KeyTag) kind() string { return "key-tag" }

func (c KeyTag) apply(d *State) error {
	k, ok := d.keys.get(c.ID.String())
	switch {
	case !ok:
		return invalid("there is no key %s", c.ID)
	case d.tags.has(c.ID.String()):
		return invalid("stock age encrypts to key %s already", c.ID)
	case d.tags.size() >= block.MaxTagged:
		return invalid("stock age encrypts to %d keys already, which is the limit: untag one", block.MaxTagged)
	}
	r, ok := recipientOf(k.SPKI)
	if !ok {
		return invalid("stock age cannot encrypt to key %s, which is of type %s", c.ID, k.Suite)
	}
	d.tags.put(c.ID.String(), Tag{r})
	return nil
}

// KeyUntag has what stock age encrypts to a key no longer be released.
type KeyUntag struct {
	ID block.KeyID `json:"id"`
}

func (KeyUntag) kind() string { return "key-untag" }

func (c KeyUntag) apply(d *State) error {
	if !d.tags.has(c.ID.String()) {
		return invalid("stock age does not encrypt to key %s", c.ID)
	}
	d.tags.remove(c.ID.String())
	return nil
}

// usersOfKey names the access identifiers that have the key among their first n, a few of them.
func (s *State) usersOfKey(id block.KeyID, n int) (users []string) {
	for _, a := range s.access.all() {
		if slices.Contains(a.Keys[:min(n, len(a.Keys))], id) {
			users = append(users, string(a.ID))
		}
	}
	return few(users)
}

// CertificateSet sets the path, leaf first, that certifies a key for an access identifier that has it.
type CertificateSet struct {
	Access kra.AccessID `json:"access"`
	Key    block.KeyID  `json:"key"`
	Chain  [][]byte     `json:"chain"` // DER
}

func (CertificateSet) kind() string { return "certificate-set" }

func (c CertificateSet) apply(d *State) error {
	a, ok := d.access.get(string(c.Access))
	if !ok {
		return invalid("there is no access identifier %.80q", c.Access)
	}
	if !slices.Contains(a.Keys, c.Key) {
		return invalid("access identifier %q has no key %s", c.Access, c.Key)
	}
	leaf, err := checkChain(c.Chain)
	if err != nil {
		return err
	}
	if block.KeyIDOfSPKI(leaf.RawSubjectPublicKeyInfo) != c.Key {
		return invalid("the certificate is not for key %s", c.Key)
	}
	k, ok := d.keys.get(c.Key.String())
	if !ok {
		return invalid("there is no key %s", c.Key)
	}
	if err := k.called(leaf); err != nil {
		return err
	}
	d.keys.put(c.Key.String(), k)
	d.certs.put(certKey(c.Access, c.Key), Certificate(c))
	return nil
}

func checkChain(chain [][]byte) (leaf *x509.Certificate, err error) {
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, invalid("a certificate path of %d certificates; want 1 to %d", len(chain), maxChain)
	}
	size := 0
	for i := len(chain) - 1; i >= 0; i-- {
		if leaf, err = x509.ParseCertificate(chain[i]); err != nil {
			return nil, invalid("certificate %d of the path does not parse", i+1)
		}
		size += len(chain[i])
	}
	if size > maxChainBytes {
		return nil, invalid("the certificate path is longer than %d bytes", maxChainBytes)
	}
	return leaf, nil
}

// TokenSet changes the token's files; a nil value removes one.
type TokenSet struct {
	Files map[string][]byte `json:"files"`
}

func (TokenSet) kind() string { return "token-set" }

func (c TokenSet) apply(d *State) error {
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		data := c.Files[name]
		if !isFileName(name) {
			return invalid("token file %.80q: not a plain relative path", name)
		}
		if len(data) > maxTokenFile {
			return invalid("token file %q is longer than %d bytes", name, maxTokenFile)
		}
		if data == nil {
			d.files.remove(name)
			continue
		}
		d.files.put(name, tokenFile{size: len(data), data: slices.Clone(data)})
	}
	if d.files.size() > maxTokenFiles {
		return invalid("the token has more than %d files", maxTokenFiles)
	}
	return nil
}

func isFileName(s string) bool {
	return s != "" && len(s) <= 255 && path.Clean(s) == s && !path.IsAbs(s) && s != ".." && !strings.HasPrefix(s, "../") &&
		isText(s, 255)
}

// PINSet sets what opens the token.
type PINSet struct {
	User Secret `json:"user"`
	SO   Secret `json:"so"`
}

func (PINSet) kind() string { return "pin-set" }

func (c PINSet) apply(d *State) error {
	for _, s := range []Secret{c.User, c.SO} {
		b := s.Bytes()
		n := len(b)
		clear(b)
		if n > maxPIN {
			return invalid("a PIN is longer than %d bytes", maxPIN)
		}
	}
	d.pins.put(only, PINs(c))
	return nil
}
