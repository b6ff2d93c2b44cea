package qemu_test

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/image"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/image/manifest"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/qemu"
	"github.com/keyrelease/krabox/qemu/operator"
)

// committedStarts is how many machines a full run with -vm starts at least.
// A change that leaves machines out fails here, and not by silence.
const committedStarts = 36

var (
	vm     = flag.Bool("vm", false, "run the tests that boot the image, those named TestBox…")
	dist   = flag.String("dist", "../dist", "folder with the built image")
	domain = flag.String("domain", "../dist/domain", "folder of the domain that the image was built for")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if !*vm {
		fmt.Println("qemu: without -vm, no test that boots the image is run")
		if err := flag.Set("test.skip", "^TestBox"); err != nil {
			panic(err)
		}
	}
	os.Exit(run(m))
}

// run runs the tests, says how many machines they started and holds that against the committed number.
func run(m *testing.M) int {
	code := m.Run()
	if !*vm {
		return code
	}
	defer os.RemoveAll(scratch())
	l, err := theLab()
	if err != nil {
		fmt.Println("qemu:", err)
		return 1
	}
	fmt.Printf("qemu: %d machines started (%s)\n", l.host.Starts(), l.host.Accelerator())
	if flag.Lookup("test.run").Value.String() == "" && l.host.Starts() < committedStarts {
		fmt.Printf("qemu: %d are committed\n", committedStarts)
		return 1
	}
	return code
}

// The box of the lab, and who uses it.
const (
	boxName     = "box1"
	boxAddress  = "127.0.0.1"
	officer     = "olivia"
	passphrase  = "throwaway passphrase"
	releasePort = 8443
	anyMoment   = 20 * time.Second
)

// scratch is the folder of all boxes of this run.
var scratch = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "boxes-")
	if err != nil {
		panic(err)
	}
	return dir
})

// theLab is made for the first test that asks.
var theLab = sync.OnceValues(newLab)

// A lab is a host, a domain and an image.
type lab struct {
	host     *qemu.Host
	domain   string // a copy of the domain's folder
	desk     *desk.Desk
	manifest manifest.Image
	keys     image.SecureBoot // of the machines' firmware
	trust    client.Trust
}

func newLab() (*lab, error) {
	l := &lab{domain: filepath.Join(scratch(), "domain")}
	var err error
	if l.host, err = qemu.Probe(context.Background()); err != nil {
		return nil, err
	}
	if err := os.CopyFS(l.domain, os.DirFS(*domain)); err != nil {
		return nil, err
	}
	if l.desk, err = desk.Open(l.domain); err != nil {
		return nil, err
	}
	if l.keys, err = image.ReadSecureBoot(l.domain); err != nil {
		return nil, err
	}
	if l.manifest, err = readManifest(*dist); err != nil {
		return nil, err
	}
	root, err := os.ReadFile(filepath.Join(l.domain, desk.RootFile))
	if err != nil {
		return nil, err
	}
	l.trust, err = client.ParseTrust(root)
	return l, err
}

func readManifest(dir string) (manifest.Image, error) {
	data, err := os.ReadFile(filepath.Join(dir, image.FileManifest))
	if err != nil {
		return manifest.Image{}, err
	}
	return manifest.ParseImage(data)
}

// release is a built image as the desk approves it.
func release(m manifest.Image) (desk.Release, error) {
	r, err := desk.ParseManifest(m.Bytes())
	return desk.Release{Manifest: r, Trust: desk.AsPredicted, FirmwareAsSeen: true}, err
}

// identity issues a client certificate of the domain's people.
func (l *lab) identity(who string) (*tls.Certificate, error) {
	cert, key, err := desk.IssuePerson(l.domain, pkix.Name{CommonName: who, Organization: []string{"Example"}})
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	return &pair, err
}

// enrolled is a box in service that has released a key, switched off, and a
// message that it opens for alice. Every attack begins with a copy of it.
var enrolled = sync.OnceValues(func() (*inService, error) {
	l, err := theLab()
	if err != nil {
		return nil, err
	}
	s := &inService{}
	if s.alice, err = l.identity("alice"); err != nil {
		return nil, err
	}
	if s.box, err = qemu.NewBox(filepath.Join(scratch(), "enrolled"), filepath.Join(*dist, image.FileDisk), l.keys); err != nil {
		return nil, err
	}
	g := &guest{lab: l, box: s.box}
	defer g.cut()
	for _, step := range []func() error{
		func() error { return g.up("factory") },
		g.enrol,
		g.configure,
		func() (err error) { s.message, err = g.encrypt("the message"); return err },
		func() error { return g.decrypt(s) },
		g.off,
		func() error { s.request = g.request; return nil },
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("take a box into service: %w", err)
		}
	}
	return s, nil
})

// inService is what tests share. Nobody changes it: they work on copies of the box.
type inService struct {
	box     qemu.Box
	alice   *tls.Certificate
	message []byte
	request []byte // that it was enrolled on
}

// copyOf returns a guest that is a copy of the box in service, switched off. The test runs beside others from here on: a machine
// keeps one processor busy.
func copyOf(t *testing.T) (*guest, *inService) {
	t.Helper()
	t.Parallel()
	s, err := enrolled()
	if err != nil {
		t.Fatal(err)
	}
	l, err := theLab()
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{lab: l}
	if g.box, err = s.box.Copy(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.cut)
	return g, s
}

// A guest is a box that may be running, and the operator at its console.
type guest struct {
	lab *lab
	box qemu.Box

	firmware qemu.Firmware
	drive    string // in place of the box's disk; empty: that
	card     string
	disk     []string
	more     []int  // ports that are forwarded besides
	stick    string // raw image of a stick, or empty
	machine  *qemu.Machine
	operator *operator.Operator
	greeting operator.Greeting
	request  []byte // for enrolment
}

// power switches the box on.
func (g *guest) power() (err error) {
	g.machine, err = g.lab.host.Start(qemu.Config{Box: g.box, Forward: append([]int{releasePort}, g.more...), Firmware: g.firmware, Drive: g.drive, Card: g.card,
		Disk: g.disk, Stick: g.stick})
	return err
}

// start switches the box on and waits for its console.
func (g *guest) start() (err error) {
	if err := g.power(); err != nil {
		return err
	}
	g.operator = operator.At(g.machine, nil)
	g.greeting, err = g.operator.Up()
	return err
}

// restarted waits until the firmware has started again, and then for the console.
func (g *guest) restarted() (err error) {
	if _, err := g.machine.Expect(`BdsDxe: starting`, anyMoment); err != nil {
		return err
	}
	g.greeting, err = g.operator.Up()
	return err
}

// up starts the box, which must come up in that mode.
func (g *guest) up(mode string) error {
	if err := g.start(); err != nil {
		return err
	}
	return g.mode(mode)
}

func (g *guest) mode(mode string) error {
	if g.greeting.Mode != mode {
		return fmt.Errorf("the box is %s, not %s:\n%s", g.greeting.Mode, mode, g.greeting.Text)
	}
	return nil
}

func (g *guest) cut() {
	if g.machine != nil {
		g.machine.Cut()
	}
}

// off switches the box off at its console, where nobody is logged in.
func (g *guest) off() error {
	if err := g.operator.Leave("poweroff", "yes"); err != nil {
		return err
	}
	return g.machine.Wait(anyMoment)
}

func (g *guest) login() error { return g.operator.Login(officer, passphrase) }

// enrol takes a factory box into service and logs its officer in.
func (g *guest) enrol() error {
	request, err := g.operator.PEM("enrol request")
	if err != nil {
		return err
	}
	g.request = request
	if err := g.predicted(request); err != nil {
		return err
	}
	who, err := desk.NewOfficer(officer, []byte(passphrase))
	if err != nil {
		return err
	}
	r, err := release(g.lab.manifest)
	if err != nil {
		return err
	}
	seen, err := desk.Fingerprint(request)
	if err != nil {
		return err
	}
	bundle, err := g.lab.desk.Enrol(desk.Admission{Request: request, Release: r, Officer: who, Seen: seen, Replace: true,
		Box: label.Box{Name: boxName, DNS: []string{"box1.example"}, IP: []netip.Addr{netip.MustParseAddr(boxAddress)}}})
	if err != nil {
		return err
	}
	if err := g.operator.Leave("enrol install", string(bundle)); err != nil {
		return err
	}
	if err := g.restarted(); err != nil {
		return err
	}
	return errors.Join(g.mode("enrolled"), g.login())
}

// predicted holds the registers that the TPM reports against those that the build predicted.
func (g *guest) predicted(request []byte) error {
	q, err := label.ParseRequest(request)
	if err != nil {
		return err
	}
	m := g.lab.manifest
	for pcr, want := range map[int]manifest.Digest{4: m.PCR4, 7: m.PCR7, 11: m.PCR11, 12: {}, 13: {}} {
		if found := manifest.Digest(q.PCRs[pcr]); found != want {
			return fmt.Errorf("PCR %d is %s, predicted was %s", pcr, found, want)
		}
	}
	return nil
}

func (g *guest) configure() error {
	people, err := os.ReadFile(filepath.Join(g.lab.domain, desk.PeopleFile))
	if err != nil {
		return err
	}
	for _, c := range [][]string{
		{"was made", `access add legal-team "Legal team"`},
		{"was made", "key generate p256 for legal-team"},
		{"SHA-256", "trust add corp", string(people)},
		{"is in group counsel", "group add counsel corp:CN=alice,O=Example"},
		{"Rule counsel was made", "rule add counsel group counsel"},
		{"legal-team", "access lists legal-team is counsel"},
		{"Allowed", "access test legal-team as corp:CN=alice,O=Example from 10.0.2.2"},
	} {
		if err := g.operator.Must(c[0], c[1], c[2:]...); err != nil {
			return err
		}
	}
	return nil
}
