package appliance

import (
	"errors"

	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/appliance/store"
)

func directoryOf(store.Source, string) (inform.Directory, error) {
	return inform.Directory{}, errors.New("this software reads no directories yet")
}

func issuerOf(store.Source) (inform.Issuer, error) {
	return inform.Issuer{}, errors.New("this software reads no tokens yet")
}
