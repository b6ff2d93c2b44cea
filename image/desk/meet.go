package desk

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/keyrelease/krabox/kra/enrol"
)

// byCode is said instead of a fingerprint: the code was read where the fingerprint would have been.
const byCode = "code"

// MetWarning is what a caller must tell who takes the code for the fingerprint.
const MetWarning = "no maker vouches for this TPM: the one-time code stands for the fingerprint. The desk speaks to the box whose console showed it,\n" +
	"and to nobody between. A software TPM can be copied, and a false one can claim anything about the box."

const codeUsed = "the code is used: for another try, have the box show a new one (enrol listen)"

// errNotInstalled ends a command that has answered a box which has not taken the answer.
var errNotInstalled = errors.New("enrol: the domain has answered, and the box has not installed it")

const meetWithin = time.Minute

// meet enters a meeting with the box whose console shows the code.
func (o order) meet(f *flag.FlagSet) (*enrol.Desk, error) {
	text := o.code
	if s := seatOf(f.Output()); text == "" && s.manned() {
		line, err := s.hidden("Code at the console of the box")
		if err != nil {
			return nil, err
		}
		text = string(line)
	}
	if text == "" {
		return nil, errors.New("enrol: -code is missing: the box shows it (enrol listen)")
	}
	code, err := enrol.ParseCode(text)
	if err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), meetWithin)
	defer cancel()
	return enrol.Meet(ctx, o.at, code)
}

// metAt takes the request of the box that was met, and the code for its fingerprint if that was said.
func (a *Admission) metAt(box *enrol.Desk) error {
	a.Request = box.Request
	if a.Seen != byCode {
		return nil
	}
	var err error
	a.Seen, err = Fingerprint(a.Request)
	return err
}

// handOver gives the box its bundle over the channel. One that did not arrive is printed, since the domain has answered: it may be pasted.
func (o order) handOver(talk, out io.Writer, box *enrol.Desk, bundle []byte) error {
	name, err := box.Answer(context.Background(), bundle)
	if err != nil {
		fmt.Fprintf(talk, "%v\nthe bundle is printed: paste it at the console (enrol install), if it still shows the same fingerprint\n", err)
		_, bad := out.Write(bundle)
		return errors.Join(errNotInstalled, bad)
	}
	_, err = fmt.Fprintf(talk, "%s has installed its bundle and restarts\n", name)
	return err
}
