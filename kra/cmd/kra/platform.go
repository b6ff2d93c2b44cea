package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
)

var platformCommand = command{
	name:  "platform",
	args:  "request|install|status|leaf -dir DIR [FLAG]... [FILE]",
	brief: "make this machine one that asks for keys as a machine",
	help: `
The machine's TPM makes keys that sign only in a state that the machine's domain has
approved. The domain certifies them for labels of the domain; rules of agents ask for
those. An identity has a folder of its own; one TPM may have several, which show nothing
of each other if the domain makes them so (-private).

  kra platform request -dir DIR -domain domain.json -label analysis >request.pem
      make the keys; give what is printed, and the fingerprint, to the domain
  kra platform install -dir DIR identity.pem
      take the domain's answer, or its approvals of other software; repeat at will
  kra platform status -dir DIR
      say what the identity is, and whether its labels can be used now
  kra platform leaf -dir DIR -o machine.pem
      write a client certificate of a day, with its key, for other programs
  kra decrypt -platform DIR contract.pdf.age
      ask for keys as this machine: it shows the agent its state, on the connection

-tpm names the TPM, /dev/tpmrm0 if nothing else is said; unix:/path is a software TPM. The
TPM's owner keeps all that is his: only the storage root key and one index, if they are
not there, take his authorization once.
`,
	run: runPlatform,
}

var (
	setPlatform = setting{"platform", "KRA_PLATFORM", "`FOLDER` of this machine's identity, from 'kra platform'"}
	setMutual   = "mutual"
)

// Files that 'kra platform request' leaves beside the TPM's blobs.
const (
	platformDomain = "domain.json"
	platformDevice = "device"
	defaultTPM     = "/dev/tpmrm0"
)

// platformArgs are what the verbs of 'kra platform' take.
type platformArgs struct {
	dir, device, domain, label, out string
}

func runPlatform(t *tool, ctx context.Context, fs *flag.FlagSet, args []string) error {
	var a platformArgs
	fs.StringVar(&a.dir, "dir", "", "`FOLDER` of the identity")
	fs.StringVar(&a.device, "tpm", "", "the TPM: a `DEVICE`, or unix:PATH")
	fs.StringVar(&a.domain, "domain", "", "`FILE` with the public part of the domain (domain.json)")
	fs.StringVar(&a.label, "label", "", "`LABELS` to ask for, separated by commas; of a leaf, the label")
	fs.StringVar(&a.out, "o", "", "write to `FILE`, '-' for standard output")
	operands, err := parse(fs, args)
	if err != nil {
		return err
	}
	verbs := map[string]func(*tool, context.Context, platformArgs, []string) error{"request": platformRequest, "install": platformInstall, "status": platformStatus, "leaf": platformLeaf}
	if len(operands) == 0 || verbs[operands[0]] == nil {
		return usagef("say request, install, status or leaf")
	}
	if a.dir == "" {
		return usagef("which identity? give its folder with -dir")
	}
	return verbs[operands[0]](t, ctx, a, operands[1:])
}

// openPlatform opens the identity in a folder.
func openPlatform(dir, device string) (*tpm.Platform, error) {
	raw, err := os.ReadFile(filepath.Join(dir, platformDomain))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint(fmt.Errorf("%s holds no identity", dir), "begin with: kra platform request -dir %s -domain domain.json -label LABEL", dir)
	}
	if err != nil {
		return nil, err
	}
	domain, err := label.ParseDomain(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if device == "" {
		was, err := os.ReadFile(filepath.Join(dir, platformDevice))
		if err != nil {
			return nil, err
		}
		device = strings.TrimSpace(string(was))
	}
	return tpm.OpenPlatform(tpm.PlatformConfig{Device: device, Folder: dir, Domain: domain, Software: "kra", Model: dmi("product_name"),
		Serial: dmi("product_serial"), EventLog: tpm.MachineLog(device), Now: time.Now})
}

// dmi is what the machine's firmware says of it: a claim, and nothing where it says nothing.
func dmi(what string) string {
	b, err := os.ReadFile(filepath.Join("/sys/class/dmi/id", what))
	if err != nil {
		return ""
	}
	return plain(strings.TrimSpace(string(b)))
}

func platformRequest(t *tool, ctx context.Context, a platformArgs, _ []string) error {
	if a.label == "" {
		return usagef("which labels? give them with -label")
	}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	if a.domain != "" {
		raw, err := os.ReadFile(a.domain)
		if err != nil {
			return err
		}
		d, err := label.ParseDomain(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", a.domain, err)
		}
		if was, err := os.ReadFile(filepath.Join(a.dir, platformDomain)); err == nil && string(was) != string(d.Bytes()) {
			return fmt.Errorf("%s holds an identity of another domain: take another folder", a.dir)
		}
		if err := os.WriteFile(filepath.Join(a.dir, platformDomain), d.Bytes(), modePlain); err != nil {
			return err
		}
	}
	device := a.device
	if device == "" {
		device = defaultTPM
	}
	if err := os.WriteFile(filepath.Join(a.dir, platformDevice), []byte(device+"\n"), modePlain); err != nil {
		return err
	}
	p, err := openPlatform(a.dir, device)
	if err != nil {
		return err
	}
	defer p.Close()
	var labels []label.ID
	for _, w := range strings.Split(a.label, ",") {
		l, err := label.ParseID(strings.TrimSpace(w))
		if err != nil {
			return usagef("%v", err)
		}
		labels = append(labels, l)
	}
	text, err := p.Request(ctx, labels...)
	if err != nil {
		return err
	}
	r, err := label.ParsePlatformRequest(text)
	if err != nil {
		return err
	}
	fmt.Fprintf(t.stderr, "fingerprint %s: tell it to the domain beside this request\n", r.Fingerprint())
	_, err = t.stdout.Write(text)
	return err
}

func platformInstall(t *tool, ctx context.Context, a platformArgs, files []string) error {
	if len(files) != 1 {
		return usagef("which file? give the domain's answer")
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return err
	}
	p, err := openPlatform(a.dir, a.device)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.Install(ctx, text); err != nil {
		return err
	}
	return t.showIdentity(ctx, p)
}

func platformStatus(t *tool, ctx context.Context, a platformArgs, _ []string) error {
	p, err := openPlatform(a.dir, a.device)
	if err != nil {
		return err
	}
	defer p.Close()
	return t.showIdentity(ctx, p)
}

// showIdentity says of each label whether it can be used now: it has a leaf made, which is the only way to know.
func (t *tool) showIdentity(ctx context.Context, p *tpm.Platform) error {
	id, ok := p.Identity()
	if !ok {
		return hint(errors.New("the domain has not answered yet"), "give the request to the domain, then: kra platform install")
	}
	fmt.Fprintf(t.stdout, "platform  %s of %s\n", id.Name, id.Domain)
	for _, l := range id.Labels {
		can := "can be used now"
		if _, err := newLeaf(ctx, p, l); err != nil {
			can = "cannot be used now: " + plain(err.Error())
		}
		if _, err := fmt.Fprintf(t.stdout, "label     %s %s\n", l, can); err != nil {
			return err
		}
	}
	return nil
}

// newLeaf makes a key for TLS and has it certified.
func newLeaf(ctx context.Context, p *tpm.Platform, l label.ID) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	chain, err := p.Leaf(ctx, l, &key.PublicKey)
	return tls.Certificate{Certificate: chain, PrivateKey: key}, err
}

func platformLeaf(t *tool, ctx context.Context, a platformArgs, _ []string) error {
	p, err := openPlatform(a.dir, a.device)
	if err != nil {
		return err
	}
	defer p.Close()
	leaf, err := newLeaf(ctx, p, label.ID(a.label))
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		return err
	}
	defer clear(der)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(text)
	for _, c := range leaf.Certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	if a.out == "" || a.out == stdio {
		_, err = t.stdout.Write(text)
		return err
	}
	return os.WriteFile(a.out, text, modePlain)
}

// shower is a platform as package client wants it.
type shower struct{ *tpm.Platform }

// Show answers a box's nonce with the identity's label for clients.
func (s shower) Show(ctx context.Context, nonce, channel []byte) (label.Showing, error) {
	return s.Platform.Show(ctx, "", nonce, channel)
}

// asPlatform has an agent asked as this machine.
func (s settings) asPlatform(conf *client.Config) error {
	dir := s.get(setPlatform)
	if dir == "" {
		if s.mutual != nil && *s.mutual {
			return usagef("-mutual goes with -%s: a machine shows itself", setPlatform.flag)
		}
		return nil
	}
	if s.get(setCert) != "" {
		return usagef("-%s says who asks, and so does -%s", setPlatform.flag, setCert.flag)
	}
	p, err := openPlatform(dir, "")
	if err != nil {
		return err
	}
	leaf, err := newLeaf(context.Background(), p, "")
	if err != nil {
		return errors.Join(err, p.Close())
	}
	conf.Certificate, conf.Platform, conf.Mutual = &leaf, shower{p}, s.mutual != nil && *s.mutual
	return nil
}
