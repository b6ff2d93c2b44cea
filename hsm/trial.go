package hsm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
)

// Whoever has an HSM wants to know what a box could do with it, before there is a box:
//
//	hsmd probe -module FILE -label TOKEN -pin-file FILE
//
// It opens the token as hsmd does, makes keys of each kind as officers' commands do, each of which is attacked, and destroys them.
// See PROBE.md.
const probeCommand = "probe"

var (
	errUsage = errors.New("want hsmd probe -module FILE -label TOKEN -pin-file FILE, and -parameters TEXT for a library that takes some (NSS)")
	errUnfit = errors.New("a box cannot work with this token")
	errStray = errors.New("the token has not as many objects as before")
)

// A trial is a token that is tried, and what was found.
type trial struct {
	*token
	ctx    context.Context // ends between two keys, by a signal or when the module is beyond help
	config Config

	asked []wire.Check // as hsmd asks at its start
	made  []tried

	refused error // why hsmd would not serve
	stray   error // something stayed in the token, or it is not known
}

// A tried is one kind of key that was made, attacked and destroyed, and what failed of it.
type tried struct {
	kind
	err error
}

// A kind is a way in which a key comes to be.
type kind struct {
	suite   wire.Suite
	custody wire.Custody
	origin  wire.Origin
	mode    wire.Mode
}

// kinds are what is tried. The parts of a key by which modules differ are those of its suite, not of its size: few are imported.
func kinds() (all []kind) {
	suites := []wire.Suite{wire.P256, wire.P384, wire.RSA3072, wire.RSA4096, wire.Hybrid}
	for _, m := range []wire.Mode{wire.Resident, wire.Vault} {
		for _, c := range []wire.Custody{wire.Bound, wire.Replicable} {
			for _, s := range suites {
				all = append(all, kind{s, c, wire.Generated, m})
			}
		}
	}
	for _, s := range []wire.Suite{wire.P256, wire.P384, wire.RSA2048} {
		all = append(all, kind{s, wire.Bound, wire.Imported, wire.Resident})
	}
	return append(all, kind{wire.P256, wire.Bound, wire.Wrapped, wire.Resident})
}

// runProbe is the command. It says on out what it found.
func runProbe(args []string, out io.Writer) error {
	c, file, err := probeFlags(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	pin, err := readPIN(file)
	if err != nil {
		return err
	}
	defer clear(pin)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // whoever says it twice means it, though a key may stay
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	lib, err := load(c)
	if err != nil {
		return err
	}
	t := &trial{ctx: ctx, config: c, token: &token{lib: lib, folder: &folder{}, index: newIndex(), cache: newCache(0), vaultChanges: wire.Files{},
		giveUp: func() { fail(errFailed) }}}
	if err = t.run(pin); err == nil {
		err = errors.Join(t.report(out), t.verdict())
	}
	return errors.Join(err, t.close())
}

func probeFlags(args []string) (c Config, pin string, err error) {
	f := flag.NewFlagSet("hsmd probe", flag.ContinueOnError)
	f.StringVar(&c.Module, "module", "", "PKCS#11 library")
	f.StringVar(&c.Parameters, "parameters", "", "for C_Initialize, if the library takes some there (NSS)")
	f.StringVar(&c.Label, "label", "", "token label")
	f.StringVar(&pin, "pin-file", "", "file with the user's PIN")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return c, pin, err
	case err != nil:
		return c, pin, fmt.Errorf("%w: %w", errUsage, err)
	case f.NArg() > 0 || c.Module == "" || c.Label == "" || pin == "":
		return c, pin, errUsage // and not what was too much: it may be the PIN
	}
	return c, pin, nil
}

// readPIN reads the first line of a file.
func readPIN(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read PIN: %w", err)
	}
	defer f.Close()
	b := make([]byte, maxPIN+2)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read PIN: %w", err)
	}
	pin, rest, _ := bytes.Cut(b[:n], []byte("\n"))
	if pin = bytes.TrimSuffix(pin, []byte("\r")); len(pin) == 0 || len(pin) > maxPIN || len(rest) > 0 {
		clear(b)
		return nil, fmt.Errorf("read PIN: want one line of 1 to %d bytes in %s", maxPIN, file)
	}
	return pin, nil
}

// run tries all there is to try. An error is one with which there is nothing to report.
func (t *trial) run(pin []byte) error {
	s, err := t.enter(t.config.Label, pin)
	if errors.Is(err, wire.ErrPIN) {
		err = errors.New("the token refuses the PIN: it locks after a few wrong ones")
	}
	if err != nil {
		return err
	}
	before, err := s.find(lasting())
	if err != nil {
		return err
	}
	if t.refused = t.start(s); t.refused == nil {
		done := make(chan struct{})
		t.pool.submit(call(func(s *session) { defer close(done); t.tryAll(s) }), 1)
		<-done
	}
	after, err := s.find(lasting())
	if err == nil && len(after) != len(before) {
		err = fmt.Errorf("%w: %d, and there were %d; destroy what is labelled %s, %s or %s and was not there", errStray, len(after), len(before), keyLabel, cameLabel, importLabel)
	}
	t.stray = err
	return nil
}

// lasting is every object that is there for the next log-in.
func lasting() []*p11.Attribute { return []*p11.Attribute{attr(p11.CKA_TOKEN, true)} }

// start is what hsmd does with a token before it serves: see token.start.
func (t *trial) start(s *session) error {
	r, err := s.probe()
	t.asked = r.Checks
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"index of the keys that are there", func() (err error) { t.index, err = s.scan(); return err }},
		{"index of import keys", func() error { _, err := s.importObjects(); return err }},
		{fmt.Sprintf("%d sessions, 2 for each processor and 1", 1+sessionsPerCore*runtime.NumCPU()), func() (err error) { t.pool, err = newPool(t.token); return err }},
	} {
		err := c.do()
		check := wire.Check{Name: c.name}
		if err != nil {
			check.Failure = err.Error()
		}
		if t.asked = append(t.asked, check); err != nil {
			return err
		}
	}
	return nil
}

// tryAll makes a key of each kind. It has the token to itself.
func (t *trial) tryAll(s *session) {
	t.objects.Lock()
	s.alone = true
	defer func() { s.alone = false; t.objects.Unlock() }()
	for _, k := range kinds() {
		err := context.Cause(t.ctx)
		if err != nil {
			err = fmt.Errorf("not tried: %w", err)
		} else if err = s.revive(); err == nil {
			err = s.try(k)
		}
		t.made = append(t.made, tried{k, err})
	}
}

// try makes a key of a kind, and destroys it.
func (s *session) try(k kind) error {
	var made wire.Key
	var err error
	switch k.origin {
	case wire.Generated:
		made, err = s.generate(k.suite, k.custody, k.mode)
	case wire.Imported:
		made, err = s.tryImport(k)
	default:
		return s.tryWrapped(k)
	}
	if err != nil {
		return err
	}
	return s.ending(made)
}

// ending destroys a key that was made to be tried.
func (s *session) ending(k wire.Key) error {
	if k.Mode == wire.Vault {
		s.forgetKept(k.ID)
		return nil
	}
	return s.destroy(k.ID)
}

func (s *session) tryImport(k kind) (wire.Key, error) {
	der, err := foreign(k.suite)
	if err != nil {
		return wire.Key{}, err
	}
	defer clear(der)
	return s.importKey(der, k.custody, k.mode)
}

// foreign is a private key that was made outside of the token, in PKCS#8. It protects nothing.
func foreign(suite wire.Suite) ([]byte, error) {
	var key any
	var err error
	switch suite {
	case wire.P256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case wire.P384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	default:
		key, err = rsa.GenerateKey(rand.Reader, rsaBits(suite))
	}
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

// tryWrapped makes an import key, beside that which may be there, and takes in a key that was wrapped to it.
func (s *session) tryWrapped(k kind) (err error) {
	e, err := s.makeImportKey()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.discard(e.at())) }()
	wrapped, err := wrapTo(e, k.suite)
	if err != nil {
		return err
	}
	made, err := s.openWrapped(e, wrapped, k.custody, k.mode)
	if err != nil {
		return err
	}
	return s.ending(made)
}

// wrapTo wraps a foreign key to an import key.
func wrapTo(e *entry, suite wire.Suite) ([]byte, error) {
	der, err := foreign(suite)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	pub, err := block.ParsePublicKey(e.key.SPKI)
	if err != nil {
		return nil, err
	}
	value := make([]byte, aesKeySize)
	rand.Read(value)
	defer clear(value)
	outer, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub.(*rsa.PublicKey), value, nil)
	if err != nil {
		return nil, err
	}
	inner, err := block.WrapPadded(value, der)
	return append(outer, inner...), err
}
