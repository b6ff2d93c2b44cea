package appliance

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"
)

// inherited are the descriptors that krad is started with, by name. Only admin is always there.
type inherited struct {
	admin   net.Listener
	release net.Listener // enrolled mode
	health  net.Listener // nil: no health port
	enrol   net.Listener // factory mode; nil: there is no port to meet the desk on
	machine net.Conn     // nil on an ordinary host
	store   [32]byte     // key of the store, enrolled mode
}

// inherit takes over the descriptors of LISTEN_FDS. A name that is not known is refused: nothing is open by accident.
func inherit() (in inherited, err error) {
	for _, f := range activation.Files(true) {
		if err := in.take(f); err != nil {
			return in, fmt.Errorf("take descriptor %q: %w", f.Name(), err)
		}
	}
	if in.admin == nil {
		return in, errors.New("take descriptors: no listener named admin; krad is started by init or by systemd")
	}
	return in, nil
}

func (in *inherited) take(f *os.File) (err error) {
	defer f.Close()
	switch f.Name() {
	case "admin":
		in.admin, err = net.FileListener(f)
	case "release":
		in.release, err = net.FileListener(f)
	case "health":
		in.health, err = net.FileListener(f)
	case "enrol":
		in.enrol, err = net.FileListener(f)
	case "machine":
		in.machine, err = net.FileConn(f)
	case "secret":
		_, err = io.ReadFull(f, in.store[:])
	default:
		err = errors.New("not a name that krad knows")
	}
	return err
}
