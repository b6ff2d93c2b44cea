package client

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

// An ImportKey is what private keys are wrapped to for one box.
type ImportKey struct {
	Domain, Box string // zero: nobody vouched for it
	Public      *rsa.PublicKey
	ID          block.KeyID
}

// ImportKey reads the certificates of a box's import key, leaf first, and believes them by the domain's root: kra://DOMAIN/import/BOX,
// certified by the key of label key-release of that box. permitted is what the domain permits now, verified; nil if that is not asked.
func (t Trust) ImportKey(text []byte, permitted *label.Permissions, now time.Time) (ImportKey, error) {
	fail := func(err error) (ImportKey, error) { return ImportKey{}, fmt.Errorf("verify import key: %w", err) }
	k, err := UnverifiedImportKey(text)
	if err != nil {
		return ImportKey{}, err
	}
	certs, err := parsePEM(text, maxPath)
	if err != nil {
		return fail(err)
	}
	leaf := certs[0]
	path, by, err := t.path(certs, now)
	if err != nil {
		return fail(err)
	}
	if want := scheme + by.domain + "/import/" + by.box; leaf.URIs[0].String() != want {
		return fail(fmt.Errorf("%.120q is not the import key of box %s, which certified it", leaf.URIs[0], by.box))
	}
	if permitted != nil {
		if err := allows(*permitted, by, path[1], now); err != nil {
			return fail(err)
		}
	}
	k.Domain, k.Box = by.domain, by.box
	return k, nil
}

// UnverifiedImportKey reads the key only: for who compares its id with what the box's console shows.
func UnverifiedImportKey(text []byte) (ImportKey, error) {
	certs, err := parsePEM(text, maxPath)
	if err != nil {
		return ImportKey{}, fmt.Errorf("read import key: %w", err)
	}
	pub, ok := certs[0].PublicKey.(*rsa.PublicKey)
	if u := certs[0].URIs; !ok || len(u) != 1 || !strings.HasPrefix(u[0].Path, "/import/") {
		return ImportKey{}, errors.New("read import key: the certificate is not that of a box's import key (key import-key)")
	}
	return ImportKey{Public: pub, ID: block.KeyIDOfSPKI(certs[0].RawSubjectPublicKeyInfo)}, nil
}
