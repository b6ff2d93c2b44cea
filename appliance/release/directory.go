package release

import (
	"fmt"
	"strings"
	"sync"

	"github.com/keyrelease/krabox/kra"
)

// published are the keys that encryptors use now. They do not change.
type published interface {
	// PublicKey returns the key of an access identifier, if it has one.
	PublicKey(id kra.AccessID) (kra.PublicKey, bool)
	// PublicKeys returns all keys in the order of access identifiers.
	PublicKeys() []kra.PublicKey
}

// A Directory is the answer of kra.PathKeys. It is encoded when somebody first asks for it: a box whose keys are made
// one after another would otherwise spend its time on directories that nobody reads.
type Directory struct {
	domain, box string
	keys        published
	whole       func() ([]byte, error)
}

// NewDirectory returns the directory of these keys.
func NewDirectory(domain, box string, keys published) *Directory {
	d := &Directory{domain: domain, box: box, keys: keys}
	d.whole = sync.OnceValues(func() ([]byte, error) { return d.of(keys.PublicKeys()) })
	return d
}

func (d *Directory) of(keys []kra.PublicKey) ([]byte, error) {
	return kra.Directory{Domain: d.domain, Box: d.box, Keys: keys}.Encode()
}

// Encode returns the whole directory, which the caller must not change.
func (d *Directory) Encode() ([]byte, error) { return d.whole() }

// some returns the directory of the access identifiers in a comma-separated list; who is not there is left out.
func (d *Directory) some(list string) ([]byte, error) {
	var part []kra.PublicKey
	for name := range strings.SplitSeq(list, ",") {
		id, err := kra.ParseAccessID(name)
		if err != nil {
			return nil, err
		}
		if len(part) == kra.MaxHeaders {
			return nil, fmt.Errorf("more than %d access identifiers", kra.MaxHeaders)
		}
		if k, ok := d.keys.PublicKey(id); ok {
			part = append(part, k)
		}
	}
	return d.of(part)
}
