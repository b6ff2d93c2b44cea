// Package boxtest runs a whole box on this host for a test: a fresh swtpm, tpmd, hsmd and krad under the supervisor of the
// image, taken into service by a throwaway domain.
package boxtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyrelease/krabox/boot"
	"github.com/keyrelease/krabox/boot/compartment"
	"github.com/keyrelease/krabox/boot/disks/diskstest"
	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/tpmtest"
)

// The first officer of every box.
const (
	Officer    = "alice"
	Passphrase = "a passphrase for tests only"
)

// patience bounds every step: a loaded machine is slow.
const patience = 2 * time.Minute

// programs are built once for a test's process, under one name in the user's cache: tests leave nothing behind.
var programs = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "krabox-test", "box")
	fresh := dir + "-" + time.Now().Format("150405.000000000")
	if err := build(fresh, nil); err != nil {
		return "", err
	}
	old, err := os.MkdirTemp(cache, "krabox-old-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(old)
	one, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600) // tests of other packages do the same
	if err != nil {
		return "", err
	}
	defer one.Close()
	if err := unix.Flock(int(one.Fd()), unix.LOCK_EX); err != nil {
		return "", err
	}
	_ = os.Rename(dir, filepath.Join(old, "box")) // absent the first time
	return dir, os.Rename(fresh, dir)
})

// build builds the programs of a box into a folder, with settings of the go command.
func build(dir string, env []string, flags ...string) error {
	const m = "github.com/keyrelease/krabox/"
	args := append(append([]string{"build"}, flags...), "-o", dir+"/", m+"tpm/cmd/tpmd", m+"hsm/cmd/hsmd", m+"appliance/cmd/krad", m+"boot/cmd/stage1")
	c := exec.Command("go", args...)
	c.Env = append(os.Environ(), env...)
	if out, err := c.CombinedOutput(); err != nil {
		return &buildError{string(out), err}
	}
	return nil
}

type buildError struct {
	out string
	err error
}

func (e *buildError) Error() string { return "build daemons: " + e.err.Error() + ": " + e.out }

// A Box is a running box. It ends with the test.
type Box struct {
	TPM    *tpmtest.TPM
	Domain string // folder of the domain
	State  string // folder: tpm/, krad/store.db, krad/log/
	Desk   *desk.Desk

	Disks   *diskstest.Rack // what is plugged in
	Sensors string          // folder, such as /sys/class: what is felt

	t       testing.TB
	name    string
	bin     string // folder of its programs
	dir     string
	up      chan boot.Up
	now     boot.Up
	admin   *wire.Client
	session wire.Session
	request []byte // that it was enrolled by
	output  *output
	stop    context.CancelFunc
	ended   chan error
}

// New starts a factory box, of programs with edits.
func New(t testing.TB, edits ...Edit) *Box {
	t.Helper()
	domain := filepath.Join(hsmtest.Dir(t), "domain")
	if err := desk.Init(domain, "test"); err != nil {
		t.Fatal(err)
	}
	d, err := desk.Open(domain)
	if err != nil {
		t.Fatal(err)
	}
	return factory(t, programsOf(t, edits), domain, d, "box1")
}

func programsOf(t testing.TB, edits []Edit) string {
	t.Helper()
	if len(edits) > 0 {
		return edited(t, edits)
	}
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// Beside starts another factory box of the same domain.
func (b *Box) Beside(name string) *Box {
	b.t.Helper()
	return factory(b.t, b.bin, b.Domain, b.Desk, name)
}

// Another starts another box of the same domain and takes it into service.
func (b *Box) Another(name string) *Box {
	b.t.Helper()
	o := b.Beside(name)
	o.Enrol()
	o.Login()
	return o
}

// StartIn takes a box of a copy of a domain's folder into service.
func StartIn(t testing.TB, domain, name string) *Box {
	t.Helper()
	folder := filepath.Join(hsmtest.Dir(t), "domain")
	if err := os.CopyFS(folder, os.DirFS(domain)); err != nil {
		t.Fatal(err)
	}
	d, err := desk.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	b := factory(t, programsOf(t, nil), folder, d, name)
	b.Enrol()
	b.Login()
	return b
}

func factory(t testing.TB, bin, domain string, d *desk.Desk, name string) *Box {
	t.Helper()
	b := &Box{t: t, TPM: tpmtest.New(t), Domain: domain, Desk: d, name: name, bin: bin, dir: hsmtest.Dir(t), output: &output{}, Disks: diskstest.New(t), Sensors: t.TempDir()}
	b.State = filepath.Join(t.TempDir(), "state")
	b.Power()
	t.Cleanup(func() {
		b.Stop()
		if t.Failed() {
			t.Logf("what the daemons said:\n%s", b.output)
		}
	})
	return b
}

// Start starts a box, of programs with edits, and takes it into service.
func Start(t testing.TB, edits ...Edit) *Box {
	t.Helper()
	b := New(t, edits...)
	b.Enrol()
	b.Login()
	return b
}

// StartCertified starts a box, of programs that compute with Go's validated FIPS 140 module, and takes it into service.
func StartCertified(t testing.TB) *Box {
	t.Helper()
	b := New(t)
	b.Stop()
	b.bin = t.TempDir()
	if err := build(b.bin, []string{"GOFIPS140=certified"}); err != nil {
		t.Fatal(err)
	}
	b.Power()
	b.Enrol()
	b.Login()
	return b
}

// Power starts the daemons of a stopped box, or fails the test. The mode is then in Up.
func (b *Box) Power() {
	b.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	b.stop, b.ended, b.up = stop, make(chan error, 1), make(chan boot.Up, 8)
	o := boot.Options{Kind: compartment.Open, Run: b.run(), State: b.State, BinDir: b.bin, TPM: b.TPM.Device(),
		Domain: filepath.Join(b.Domain, desk.DomainFile), Module: hsmtest.Module, Release: "127.0.0.1:0", Health: "127.0.0.1:0",
		Disks:   &b.Disks.Drawer,
		Sensors: b.Sensors,
		Restart: 200 * time.Millisecond,
		Reset:   func(context.Context) error { b.TPM.Restart(b.t); return nil },
		Up:      func(u boot.Up) { b.up <- u },
		Say:     func(line string) { b.output.add("init: " + line) },
		Output:  b.output}
	go func() {
		defer close(b.ended) // whoever asks after the first hears that it has ended
		b.ended <- boot.Run(ctx, o)
	}()
	b.Wait()
}

// Wait waits until krad answers after a start, a restart or a lock.
func (b *Box) Wait() boot.Up {
	b.t.Helper()
	select {
	case b.now = <-b.up:
	case err := <-b.ended:
		b.t.Fatalf("box ended: %v\n%s", err, b.output)
	case <-time.After(patience):
		b.t.Fatalf("box does not come up\n%s", b.output)
	}
	b.admin = wire.NewClient(b.now.Admin)
	return b.now
}

func (b *Box) run() string { return filepath.Join(b.dir, "run") }

// Socket is where a daemon listens for others on this host: tpm, hsm or admin.
func (b *Box) Socket(name string) string { return filepath.Join(b.run(), name+".sock") }

// Up says what runs.
func (b *Box) Up() boot.Up { return b.now }

// Stop ends all daemons.
func (b *Box) Stop() {
	if b.stop == nil {
		return
	}
	b.stop()
	b.stop = nil
	if err := <-b.ended; err != nil {
		b.t.Errorf("box: %v\n%s", err, b.output)
	}
}

// Reset cuts the power of box and TPM and starts again.
func (b *Box) Reset() {
	b.t.Helper()
	b.Stop()
	b.TPM.Restart(b.t)
	b.Power()
}

// Rebuild has the next start run programs with these edits, and no others.
func (b *Box) Rebuild(edits ...Edit) {
	b.t.Helper()
	b.bin = programsOf(b.t, edits)
}

// Do runs a console line as the officer and returns what it shows. A failure fails the test.
func (b *Box) Do(line string, answers ...string) string {
	b.t.Helper()
	out, err := b.Try(line, answers...)
	if err != "" {
		b.t.Fatalf("%s: %s\n%s", line, out, err)
	}
	return out
}

// Try runs a console line and returns what it shows and why it failed, if it did.
func (b *Box) Try(line string, answers ...string) (shown, failure string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out bytes.Buffer
	o, err := b.admin.Do(ctx, wire.Request{Session: b.session, Line: line, Answers: answers}, &out)
	if err != nil {
		return out.String(), err.Error()
	}
	if o.Ask != nil {
		return out.String(), "asks " + o.Ask.Prompt
	}
	return out.String(), o.Error
}

// Enrol takes a factory box into service: request, desk, bundle, restart.
func (b *Box) Enrol() {
	b.t.Helper()
	request := b.Do("enrol request")
	officer, err := desk.NewOfficer(Officer, []byte(Passphrase))
	if err != nil {
		b.t.Fatal(err)
	}
	r := desk.Release{Manifest: desk.Manifest{Version: "v0.0.1", Epoch: 1, Commit: "test"}, Trust: desk.AsObserved}
	seen, err := desk.Fingerprint(pemOf(b.t, request))
	if err != nil {
		b.t.Fatal(err)
	}
	bundle, err := b.Desk.Enrol(desk.Admission{Request: pemOf(b.t, request), Release: r, Officer: officer, Seen: seen, Replace: b.request != nil, Box: label.Box{Name: b.name, DNS: []string{b.name + ".test"}, IP: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}})
	if err != nil {
		b.t.Fatal(err)
	}
	b.request = pemOf(b.t, request)
	b.Do("enrol install", string(bundle))
	if up := b.Wait(); up.Mode != "enrolled" {
		b.t.Fatalf("after enrolment the box is %s: %s\n%s", up.Mode, up.Reason, b.output)
	}
}

// Presence is the passphrase of the box's operators, which the domain has in escrow.
func (b *Box) Presence() string {
	b.t.Helper()
	s, err := b.Desk.Escrow(b.request)
	if err != nil {
		b.t.Fatal(err)
	}
	return s.Presence
}

// pemOf cuts the PEM block out of what the console showed.
func pemOf(t testing.TB, shown string) []byte {
	t.Helper()
	i := bytes.Index([]byte(shown), []byte("-----BEGIN "))
	j := bytes.LastIndex([]byte(shown), []byte("-----\n"))
	if i < 0 || j < i {
		t.Fatalf("no PEM block in %q", shown)
	}
	return []byte(shown)[i : j+len("-----\n")]
}

// Login logs the officer in.
func (b *Box) Login() {
	b.t.Helper()
	b.LoginAs(Officer, Passphrase)
}

// LoginAs logs somebody in.
func (b *Box) LoginAs(officer, passphrase string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := b.admin.Login(ctx, wire.Credentials{Officer: officer, Passphrase: passphrase})
	if err != nil {
		b.t.Fatal(err)
	}
	b.session = s
}

// Trust lets the box know the domain's people under an alias.
func (b *Box) Trust(alias string) {
	b.t.Helper()
	b.Person("nobody")
	ca, err := os.ReadFile(filepath.Join(b.Domain, desk.PeopleFile))
	if err != nil {
		b.t.Fatal(err)
	}
	b.Do("trust add "+alias, string(ca))
}

// Person issues a client certificate.
func (b *Box) Person(cn string) tls.Certificate {
	b.t.Helper()
	cert, key, err := desk.IssuePerson(b.Domain, pkix.Name{CommonName: cn, Organization: []string{"Example"}})
	if err != nil {
		b.t.Fatal(err)
	}
	c, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// Agent is a client of the release port; a nil certificate is nobody's.
func (b *Box) Agent(cert *tls.Certificate) *client.Agent {
	b.t.Helper()
	root, err := os.ReadFile(filepath.Join(b.Domain, desk.RootFile))
	if err != nil {
		b.t.Fatal(err)
	}
	trust, err := client.ParseTrust(root)
	if err != nil {
		b.t.Fatal(err)
	}
	a, err := client.NewAgent(client.Config{URL: "https://" + b.now.Release.String(), Trust: trust, Certificate: cert})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(a.Close)
	return a
}

// Service is one daemon as the supervisor sees it.
func (b *Box) Service(name string) machine.Service {
	b.t.Helper()
	for _, s := range b.now.Status().Services {
		if s.Name == name {
			return s
		}
	}
	b.t.Fatalf("no service %s", name)
	return machine.Service{}
}

// Output is what the daemons said.
func (b *Box) Output() string { return b.output.String() }

// An output collects lines of all daemons.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) add(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b.WriteString(line + "\n")
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
