package release

import (
	"fmt"
	"strings"

	"github.com/keyrelease/krabox/kra"
)

// A Directory is the answer of kra.PathKeys, encoded once for each snapshot.
type Directory struct {
	whole []byte
	empty kra.Directory // without keys
	keys  map[kra.AccessID]kra.PublicKey
}

// NewDirectory encodes d.
func NewDirectory(d kra.Directory) (*Directory, error) {
	whole, err := d.Encode()
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	dir := &Directory{whole, kra.Directory{Domain: d.Domain, Box: d.Box}, make(map[kra.AccessID]kra.PublicKey, len(d.Keys))}
	for _, k := range d.Keys {
		dir.keys[k.Access] = k
	}
	return dir, nil
}

// some returns the directory of the access identifiers in a comma-separated list; who is not there is left out.
func (d *Directory) some(list string) ([]byte, error) {
	part := d.empty
	for name := range strings.SplitSeq(list, ",") {
		id, err := kra.ParseAccessID(name)
		if err != nil {
			return nil, err
		}
		if len(part.Keys) == kra.MaxHeaders {
			return nil, fmt.Errorf("more than %d access identifiers", kra.MaxHeaders)
		}
		if k, ok := d.keys[id]; ok {
			part.Keys = append(part.Keys, k)
		}
	}
	return part.Encode()
}
