package desk

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"filippo.io/age"
	"golang.org/x/term"

	"github.com/keyrelease/krabox/kra/hidden"
)

// Flags that every verb has.
const (
	flagPassphrase = "key-passphrase-file"
	flagIdentity   = "identity"
	flagPIN        = "pin-file"
	flagHelper     = "hsmd"
	flagYes        = "yes"
)

const handsText = `every verb, where the domain's keys ask for it:
  -key-passphrase-file FILE   passphrase of the key files; without it, it is asked for on the terminal
  -identity FILE              age identity that opens the key files
  -pin-file FILE              PIN of the token; without it, it is asked for on the terminal
  -hsmd FILE                  the program that opens tokens (otherwise beside this one, or on the path)
  -yes                        do not ask before doing; only a terminal is asked
`

// hands adds the flags of every verb.
func handsFlags(f *flag.FlagSet) {
	f.String(flagPassphrase, "", "")
	f.String(flagIdentity, "", "")
	f.String(flagPIN, "", "")
	f.String(flagHelper, "", "")
	f.Bool(flagYes, false, "")
}

func given(f *flag.FlagSet, name string) string { return f.Lookup(name).Value.String() }

// handsOf are those that a command line, and the terminal, give.
func handsOf(f *flag.FlagSet) (Hands, error) {
	s := seatOf(f.Output())
	h := Hands{Helper: given(f, flagHelper), Passphrase: s.secret(given(f, flagPassphrase), "Passphrase"), PIN: s.secret(given(f, flagPIN), "PIN")}
	if path := given(f, flagIdentity); path != "" {
		text, err := readFile(path, maxKeyFile)
		if err != nil {
			return h, fmt.Errorf("read identity: %w", err)
		}
		defer clear(text)
		if h.Identities, err = age.ParseIdentities(bytes.NewReader(text)); err != nil {
			return h, fmt.Errorf("read identity: %s holds none", path)
		}
	}
	return h, nil
}

// openDesk opens the desk that a command line names.
func openDesk(f *flag.FlagSet, dir string) (*Desk, error) {
	h, err := handsOf(f)
	if err != nil {
		return nil, err
	}
	return OpenWith(dir, h)
}

// A seat is the terminal at which an officer sits. The zero one is a script, which nobody can ask.
type seat struct {
	in   *os.File
	talk io.Writer
}

func seatOf(talk io.Writer) seat {
	t, ok := talk.(*os.File)
	if !ok || !term.IsTerminal(int(t.Fd())) || !term.IsTerminal(int(os.Stdin.Fd())) {
		return seat{}
	}
	return seat{os.Stdin, talk}
}

func (s seat) manned() bool { return s.in != nil }

// secret reads a file, or asks; it is nil where neither can be.
func (s seat) secret(path, what string) func(string) ([]byte, error) {
	switch {
	case path != "":
		return func(string) ([]byte, error) {
			text, err := readFile(path, maxKeyFile)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", strings.ToLower(what), err)
			}
			return bytes.TrimRight(text, "\r\n"), nil
		}
	case s.manned():
		return func(of string) ([]byte, error) { return s.hidden(what + " of " + of) }
	}
	return nil
}

// hidden asks for a line that is not shown. An interrupted program leaves a terminal that shows again.
func (s seat) hidden(prompt string) ([]byte, error) {
	fd := int(s.in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt)
	done := make(chan struct{})
	defer func() { signal.Stop(stop); close(done) }()
	go func() {
		select {
		case <-stop:
			_ = term.Restore(fd, before)
			fmt.Fprintln(s.talk)
			os.Exit(130)
		case <-done:
		}
	}()
	return hidden.Ask(s.in, s.talk, prompt+" (not shown): ")
}

// fresh asks for a new passphrase, twice.
func (s seat) fresh() ([]byte, error) {
	one, err := s.hidden("New passphrase for the domain's keys")
	if err != nil {
		return nil, err
	}
	two, err := s.hidden("The same again")
	if err != nil {
		return nil, err
	}
	defer clear(two)
	if subtle.ConstantTimeCompare(one, two) != 1 {
		clear(one)
		return nil, errors.New("the two passphrases differ")
	}
	return one, nil
}

var errNotAgreed = errors.New("not done: nothing was signed, nothing was written")

// agree has the officer at the terminal read what will happen, and say yes. A script has said so by its command line.
func agree(f *flag.FlagSet) error {
	s := seatOf(f.Output())
	if given(f, flagYes) == "true" || !s.manned() {
		return nil
	}
	fmt.Fprint(s.talk, "Do this? [y/N] ")
	var line []byte
	for one := make([]byte, 1); ; {
		n, err := s.in.Read(one)
		if err != nil || n == 0 || one[0] == '\n' || len(line) > 8 {
			break
		}
		line = append(line, one[0])
	}
	switch strings.ToLower(strings.TrimSpace(string(line))) {
	case "y", "yes":
		return nil
	}
	return errNotAgreed
}
