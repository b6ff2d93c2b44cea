package inform

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/policy"
)

// A Subject is whom a source is asked about: a decryptor whose chain was verified up to its anchor.
type Subject struct {
	Decryptor kra.Decryptor
	Leaf      *x509.Certificate
	Aliases   []policy.Item // names in the leaf besides its subject, on the word of the decryptor's anchor
}

// A Server is a directory server, read as a whole in the background.
type Server interface {
	// Sync reads the directory as it is now. It ends soon after ctx does. An error, also one of a part, means that
	// there is no new image; the last one serves until it is too old.
	Sync(ctx context.Context) (Image, error)
}

// An Image is what a directory said at one time. It never changes, and is asked by many goroutines at once, without I/O.
type Image interface {
	// Lookup returns what the directory says of s; nothing if it does not know s. Authority and Via of the items are
	// left empty: the World sets them, and drops kinds that the source may not assert.
	Lookup(s Subject) []policy.Item
}

// A Verifier knows the keys of one token issuer. It is asked by many goroutines at once, without I/O.
type Verifier interface {
	// Issued reports whether the token says to be of this issuer; nothing is verified yet. At most one verifier of a
	// World should say so.
	Issued(token string) bool

	// Verify checks form, signature, issuer, audience and that the token is bound to the leaf, and returns what it
	// says of its holder. It looks at no clock: the token's nbf and exp become From and Until of the items, and the
	// decision judges them. Authority and Via are left empty. Any error refuses the whole request.
	Verify(token string, leaf *x509.Certificate) ([]policy.Item, error)
}

// A Directory is a directory server whose images a World uses.
type Directory struct {
	Alias  kra.Anchor
	May    []policy.Kind
	Of     kra.Anchor // the anchor whose decryptors it knows: the same name under another anchor is somebody else
	Server Server
	Stamp  string        // changes when the source's configuration does; while it stays, its image does
	Every  time.Duration // between two looks
	MaxAge time.Duration // an older image is none
}

// An Issuer is a token issuer.
type Issuer struct {
	Alias    kra.Anchor
	May      []policy.Kind
	Verifier Verifier
}
