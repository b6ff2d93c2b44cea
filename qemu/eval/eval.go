// Package eval shows the product at work: it boots the image in QEMU, takes the box into service over its serial console,
// encrypts, is refused, is allowed, verifies the evidence, and restarts the box.
package eval

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/keyrelease/krabox/image"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/image/manifest"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/qemu"
	"github.com/keyrelease/krabox/qemu/operator"
)

// The throwaway box of an evaluation.
const (
	boxName    = "box1"
	boxDNS     = "box1.example"
	officer    = "olivia"
	passphrase = "throwaway passphrase"
	port       = 8443 // of the guest
	bigFile    = 256 << 20
)

// Options say what to evaluate.
type Options struct {
	Dist   string     // folder with the built image
	Domain string     // folder of the domain it was built for
	Dir    string     // where the evaluation leaves everything; emptied first
	KRA    string     // the kra program
	Readme string     // a real file to encrypt
	Host   *qemu.Host // nil: found out
}

// Main reads the command line and runs the evaluation.
func Main(ctx context.Context, args []string, out io.Writer) error {
	f := flag.NewFlagSet("eval", flag.ContinueOnError)
	dist := f.String("dist", "dist", "folder with the built image")
	domain := f.String("domain", "dist/domain", "folder of the domain it was built for")
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	o := Options{Dist: *dist, Domain: *domain, Dir: filepath.Join(*dist, "eval"), KRA: abs(filepath.Join(*dist, "bin", "kra")), Readme: "README.md"}
	r, err := Run(ctx, o, out)
	if err != nil {
		return err
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, string(line))
	return err
}

// A Result is what an evaluation found: the last line of its output.
type Result struct {
	Version       string            `json:"version"`
	Images        map[string]string `json:"images"`    // SHA-256 by file name in dist
	PCRsPredicted map[string]string `json:"predicted"` // by register, offline
	PCRsRead      map[string]string `json:"read"`      // by register, from the box's TPM
	KeyID         string            `json:"key_id"`    // SHA-256 of the SubjectPublicKeyInfo
	LogSize       int64             `json:"log_size"`
	LogRoot       string            `json:"log_root"` // base64
	Seconds       float64           `json:"seconds"`
}

// A run is an evaluation under way.
type run struct {
	o        Options
	out      io.Writer
	began    time.Time
	step     int
	manifest manifest.Image
	desk     *desk.Desk
	host     *qemu.Host
	box      qemu.Box
	vendor   qemu.Vendor
	machine  *qemu.Machine
	operator *operator.Operator
	result   Result
}

// Run runs the evaluation and tells out about it. What it made lies in o.Dir afterwards.
func Run(ctx context.Context, o Options, out io.Writer) (Result, error) {
	r := &run{o: o, out: out, began: time.Now()}
	defer func() {
		if r.machine != nil {
			r.machine.Cut()
		}
	}()
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"the image", r.built},
		{"the box boots", r.boot},
		{"the domain takes it into service, over the serial console", r.enrol},
		{"the officer makes a key and a rule", r.configure},
		{"two files are encrypted; the encryptor knows nothing of rules", r.encrypt},
		{"bob may not have the key", r.refused},
		{"one line on the console; the same files, the same bob", r.allowed},
		{"the evidence, verified without the box", r.evidence},
		{"the box restarts: its state is still there", r.restart},
		{"in another state there is no certificate to be had", r.maintained},
		{"where everything is", r.where},
	} {
		if err := ctx.Err(); err != nil {
			return Result{}, err
		}
		r.step++
		fmt.Fprintf(out, "\n%d. %s  [%s]\n", r.step, step.title, time.Since(r.began).Round(time.Second))
		if err := step.do(ctx); err != nil {
			return Result{}, fmt.Errorf("step %d, %s: %w", r.step, step.title, err)
		}
	}
	r.result.Seconds = time.Since(r.began).Round(100 * time.Millisecond).Seconds()
	return r.result, nil
}

func (r *run) say(format string, a ...any) { fmt.Fprintf(r.out, "   "+format+"\n", a...) }

func (r *run) path(name string) string { return filepath.Join(r.o.Dir, name) }

func (r *run) built(context.Context) error {
	raw, err := os.ReadFile(filepath.Join(r.o.Dist, image.FileManifest))
	if err != nil {
		return fmt.Errorf("%w (make image builds it)", err)
	}
	if r.manifest, err = manifest.ParseImage(raw); err != nil {
		return err
	}
	m := r.manifest
	r.result.Version, r.result.Images = m.Version, map[string]string{}
	r.say("version %s, commit %.12s, for domain %q", m.Version, m.Commit, m.Domain.Name)
	for _, name := range []string{image.FileInitramfs, image.FileUKI, image.FileSigned, image.FileDisk} {
		f := m.Files[name]
		r.result.Images[name] = f.SHA256.String()
		r.say("%-14s %6.1f MiB  sha256 %s", name, float64(f.Size)/(1<<20), f.SHA256)
	}
	r.result.PCRsPredicted = map[string]string{"4": m.PCR4.String(), "7": m.PCR7.String(), "11": m.PCR11.String()}
	for _, i := range []string{"4", "7", "11"} {
		r.say("PCR %-2s will be %s", i, r.result.PCRsPredicted[i])
	}
	if r.desk, err = desk.Open(r.o.Domain); err != nil {
		return err
	}
	if err := os.RemoveAll(r.o.Dir); err != nil {
		return err
	}
	return os.MkdirAll(r.o.Dir, 0o700)
}

func (r *run) boot(ctx context.Context) (err error) {
	if r.host = r.o.Host; r.host == nil {
		if r.host, err = qemu.Probe(ctx); err != nil {
			return err
		}
	}
	keys, err := image.ReadSecureBoot(r.o.Domain)
	if err != nil {
		return err
	}
	if r.box, err = qemu.NewBox(r.path("box"), filepath.Join(r.o.Dist, image.FileDisk), keys); err != nil {
		return err
	}
	if r.vendor, err = qemu.NewVendor(r.path("vendor")); err != nil {
		return err
	}
	if err := r.vendor.Equip(r.box); err != nil {
		return err
	}
	r.say("QEMU with %s, UEFI firmware that starts only what the domain's db key signed (Secure Boot), a software TPM that has never run", r.host.Accelerator())
	r.say("its maker, swtpm's authority in %s, has certified its endorsement key", r.path("vendor"))
	began := time.Now()
	if r.machine, err = r.host.Start(qemu.Config{Box: r.box, Forward: []int{port}}); err != nil {
		return err
	}
	r.operator = operator.At(r.machine, r.out)
	if _, err := r.operator.UpAs("factory"); err != nil {
		return err
	}
	r.say("at its console after %s: a factory box", time.Since(began).Round(100*time.Millisecond))
	return nil
}

func (r *run) enrol(context.Context) error {
	request, err := r.operator.PEM("enrol request")
	if err != nil {
		return err
	}
	if err := r.compare(request); err != nil {
		return err
	}
	who, err := desk.NewOfficer(officer, []byte(passphrase))
	if err != nil {
		return err
	}
	release, err := r.release()
	if err != nil {
		return err
	}
	box := label.Box{Name: boxName, DNS: []string{boxDNS}, IP: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	admission := desk.Admission{Request: request, Release: release, Box: box, Officer: who, Replace: true}
	if err := r.believe(admission); err != nil {
		return err
	}
	bundle, err := r.desk.Enrol(admission)
	if err != nil {
		return err
	}
	r.say("the desk verified keys, event log and quote, and signed; only this TPM can open the answer")
	if err := r.operator.Leave("enrol install", string(bundle)); err != nil {
		return err
	}
	if _, err := r.operator.RestartedAs("enrolled"); err != nil {
		return err
	}
	r.say("restarted, measured, unsealed")
	return r.operator.Login(officer, passphrase)
}

// believe makes the two decisions that a desk takes once for a make of TPM and for a machine model, and shows what follows.
func (r *run) believe(a desk.Admission) error {
	if _, err := r.desk.Preview(a); err != nil {
		r.say("the desk refuses: %v", err)
	}
	authorities, err := r.vendor.Certificates()
	if err != nil {
		return err
	}
	if err := r.desk.TrustVendor("swtpm-eval", authorities); err != nil {
		return err
	}
	r.say("domain vendor add: the domain now believes this maker of TPMs. It is made by this evaluation, and no other TPM is under it")
	if _, err := r.desk.Preview(a); err != nil {
		r.say("the desk refuses: %v", err)
		f, err := r.desk.ApproveFirmware(a.Request, "QEMU and OVMF of this evaluation", "")
		if err != nil {
			return err
		}
		r.say("domain firmware approve: %s. A real desk compares it with a machine that it trusts", f)
	}
	lines, err := r.desk.Preview(a)
	for _, l := range lines {
		r.say("  %s", l)
	}
	return err
}

func (r *run) release() (desk.Release, error) {
	m, err := desk.ParseManifest(r.manifest.Bytes())
	return desk.Release{Manifest: m, Trust: desk.AsPredicted}, err
}

// compare shows the registers that the box found against those that the build predicted.
func (r *run) compare(request []byte) error {
	q, err := label.ParseRequest(request)
	if err != nil {
		return err
	}
	r.result.PCRsRead = map[string]string{}
	for _, i := range []int{4, 7, 11} {
		name := fmt.Sprint(i)
		found := q.PCRs[i].String()
		r.result.PCRsRead[name] = found
		if found != r.result.PCRsPredicted[name] {
			return fmt.Errorf("PCR %d is %s, predicted was %s", i, found, r.result.PCRsPredicted[name])
		}
		r.say("PCR %-2d is      %s, as predicted", i, found)
	}
	return nil
}

func (r *run) where(context.Context) error {
	if err := r.machine.Wait(time.Minute); err != nil && !errors.Is(err, qemu.ErrEnded) {
		return err
	}
	r.say("image      %s", filepath.Join(r.o.Dist, image.FileDisk))
	r.say("box        %s  (disk, TPM, everything it said: serial.log)", r.path("box"))
	r.say("domain     %s  (throwaway keys)", r.o.Domain)
	r.say("files      %s", r.o.Dir)
	r.say("next       make run: the console on your terminal; kra -h: the command")
	return nil
}
