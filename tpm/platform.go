package tpm

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

const platformFile = "platform.pem"

// clientLife is how long a platform's TLS client certificate is good for.
const clientLife = 24 * time.Hour

// A Platform is one identity of a machine that asks for keys as a machine: a folder, and keys under the TPM's SRK that sign in approved
// states only. It takes nothing of the TPM for itself but the domain's epoch index: no authorization is changed, nothing is sealed. Several
// identities share a TPM. Its methods may be called concurrently.
type Platform struct {
	agent  *Agent
	bundle *label.PlatformBundle // nil: not enrolled
}

// PlatformConfig says where an identity is.
type PlatformConfig struct {
	Device string // see OpenDevice; on Linux best the resource manager's, /dev/tpmrm0
	Folder string // of this identity alone
	Domain label.Domain

	Software, Model, Serial string // claims; may be empty
	EventLog                func() ([]byte, error)
	Now                     func() time.Time
}

// OpenPlatform opens the TPM and reads what the folder holds.
func OpenPlatform(cfg PlatformConfig) (*Platform, error) {
	f, err := openFolder(cfg.Folder)
	if err != nil {
		return nil, err
	}
	d, err := OpenDevice(cfg.Device)
	if err != nil {
		return nil, err
	}
	p := &Platform{agent: &Agent{plan: plan{cfg.Domain, label.KeyRelease}, folder: f, device: d, words: map[label.ID]*word{},
		cfg: Config{Domain: cfg.Domain, Software: cmp.Or(cfg.Software, unknown), Model: cfg.Model, Serial: cfg.Serial, EventLog: cfg.EventLog, Now: cfg.Now}}}
	if err := p.start(); err != nil {
		_ = d.Close()
		return nil, err
	}
	return p, nil
}

func (p *Platform) start() error {
	a := p.agent
	switch srk, err := a.device.persistentSRK(); {
	case err == nil:
		a.srk = &srk
	case errors.Is(err, errOtherKey):
		return wire.Refused{Reason: err.Error() + ": have the owner of this TPM put it there"}
	case !errors.Is(err, tpm2.TPMRCHandle):
		return err
	}
	if err := a.reload(); err != nil {
		return err
	}
	text, err := a.folder.read(platformFile)
	if err != nil || text == nil {
		return err
	}
	b, err := label.OpenPlatformBundle(text, a.domain)
	if err != nil {
		return wire.Refused{Reason: err.Error()}
	}
	return p.use(b)
}

// use takes an identity that is for this TPM and these keys.
func (p *Platform) use(b label.PlatformBundle) error {
	a := p.agent
	if a.srk == nil || string(a.srk.name.Buffer) != string(b.SRK[:]) {
		return wire.Refused{Reason: fmt.Sprintf("the identity is of another TPM: it names storage root key %s", b.SRK.Short())}
	}
	for file, want := range p.names(b) {
		_, k, err := a.folder.readBlob(file)
		if err != nil {
			return wire.Refused{Reason: "the bundle is for another folder: " + err.Error()}
		}
		if n, err := keyName(k); err != nil || n != want {
			return errors.Join(wire.Refused{Reason: fmt.Sprintf("the bundle is for another platform: it names key %s", want.Short())}, err)
		}
	}
	a.enrolment = &label.Enrolment{SRK: *b.SRK, Labels: b.Labels, Authority: b.Authority, Platform: b.Platform, Box: label.Box{Name: b.Name}}
	p.bundle = &b
	return nil
}

func (p *Platform) names(b label.PlatformBundle) map[string]label.Name {
	out := map[string]label.Name{akFile: *b.AK}
	for _, l := range b.Labels {
		out[labelFile(l.Label)] = l.Key
	}
	return out
}

// Close lets go of the TPM.
func (p *Platform) Close() error { return p.agent.Close() }

// Request makes what the identity needs, as far as it is not there, and says what the desk must know.
func (p *Platform) Request(ctx context.Context, labels ...label.ID) ([]byte, error) {
	a := p.agent
	leave, err := a.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := p.prepare(labels); err != nil {
		return nil, owned(err)
	}
	r := label.NewPlatformRequest(label.EnrolRequest{Domain: a.domain.Hash(), Software: a.cfg.Software,
		Model: cmp.Or(a.cfg.Model, unknown), Serial: cmp.Or(a.cfg.Serial, unknown), SRK: tpm2.Marshal(a.srk.public)})
	if r.EK, err = a.device.endorsed(); err != nil {
		return nil, err
	}
	log, err := a.cfg.EventLog()
	if err != nil {
		return nil, fmt.Errorf("read event log: %w", err)
	}
	if r.EventLog, err = label.PackLog(log); err != nil {
		return nil, err
	}
	if r.PCRs, err = a.device.readPCRs(); err != nil {
		return nil, err
	}
	_, ak, err := a.folder.readBlob(akFile)
	if err != nil {
		return nil, err
	}
	r.AK = ak.public.Bytes()
	for _, l := range labels {
		k, err := a.vouch(ak, l)
		if err != nil {
			return nil, refuse(err)
		}
		r.Keys = append(r.Keys, k)
	}
	if r.Quote, err = a.attest(ak, r.Statement(), reported()); err != nil {
		return nil, err
	}
	text := r.PEM()
	if _, err := label.ParsePlatformRequest(text); err != nil {
		return nil, wire.Refused{Reason: err.Error()}
	}
	return text, nil
}

// prepare makes SRK, epoch index, AK and label keys. The first two need the owner's authorization where they are not there yet.
func (p *Platform) prepare(labels []label.ID) error {
	a := p.agent
	if err := a.ensureSRK(); err != nil {
		return err
	}
	switch c, err := a.device.condition(a.epoch()); {
	case err != nil:
		return err
	case c == foreign:
		return wire.Refused{Reason: fmt.Sprintf("index %#x of this TPM is another domain's: one TPM serves one domain", uint32(epochHandle))}
	case c == absent:
		if err := a.device.define(*a.srk, a.epoch(), nil); err != nil {
			return err
		}
	}
	if err := a.ensureKey(akFile, akTemplate()); err != nil {
		return err
	}
	for _, l := range labels {
		t, err := a.of(l).labelTemplate()
		if err != nil {
			return err
		}
		if err := a.ensureKey(labelFile(l), t); err != nil {
			return err
		}
	}
	return nil
}

// owned says what to do where the TPM has an owner who is asked for.
func owned(err error) error {
	var refused wire.Refused
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) || errors.As(err, &refused) && strings.Contains(refused.Reason, "another owner") {
		return wire.Refused{Reason: fmt.Sprintf("this TPM has an owner: storage root key (%#x) and epoch index (%#x) take the owner's authorization once; have him make the request while it is empty (%v)",
			uint32(srkHandle), uint32(epochHandle), err)}
	}
	return err
}

// Install takes the desk's answer: an identity, which opens in this TPM only, or approvals of further software. It may be repeated.
func (p *Platform) Install(ctx context.Context, text []byte) error {
	a := p.agent
	leave, err := a.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	text, sealed, err := a.unwrap(text)
	if err != nil {
		return err
	}
	b, err := label.OpenPlatformBundle(text, a.domain)
	if err != nil {
		return wire.Refused{Reason: err.Error()}
	}
	for _, x := range b.Approvals {
		if err := a.check(x); err != nil {
			return wire.Refused{Reason: err.Error()}
		}
	}
	if b.Enrols() {
		if !sealed {
			return wire.Refused{Reason: "an identity comes sealed to its TPM, this one does not"}
		}
		if err := p.enrol(b, text); err != nil {
			return err
		}
	}
	if _, err := a.addApprovals(b.Approvals); err != nil {
		return err
	}
	if err := a.addValues(b.Values); err != nil {
		return err
	}
	return a.refresh()
}

// refresh reads approvals and values again, and keeps the identity.
func (a *Agent) refresh() error {
	e := a.enrolment
	err := a.reload()
	a.enrolment = e
	return err
}

// enrol writes the epoch index, if it was never written, and then the identity.
func (p *Platform) enrol(b label.PlatformBundle, text []byte) error {
	a := p.agent
	if err := a.check(*b.Epoch); err != nil {
		return wire.Refused{Reason: err.Error()}
	}
	if err := p.use(b); err != nil {
		return err
	}
	c, err := a.device.condition(a.epoch())
	if err != nil {
		return err
	}
	if c == defined {
		if err := a.device.write(*a.srk, a.epoch(), unwritten, granted{Approval: *b.Epoch}, u64(b.Epoch.Version)); err != nil {
			return refuse(err)
		}
	}
	return a.folder.write(platformFile, text)
}

// An Identity is what a platform is to others.
type Identity struct {
	Name   string
	Domain string
	Labels []label.ID
}

// Identity says what the folder holds; false: nothing yet.
func (p *Platform) Identity() (Identity, bool) {
	if p.bundle == nil {
		return Identity{}, false
	}
	i := Identity{Name: p.bundle.Name, Domain: p.agent.domain.Name}
	for _, l := range p.bundle.Labels {
		i.Labels = append(i.Labels, l.Label)
	}
	return i, true
}

// client is the identity's label certificate for TLS clients; no label stands for the only one.
func (p *Platform) client(l label.ID) (label.OfLabel, *x509.Certificate, error) {
	if p.bundle == nil {
		return label.OfLabel{}, nil, wire.Refused{Reason: "the folder holds no identity yet: install what the desk answers"}
	}
	for _, of := range p.bundle.Labels {
		if l != "" && of.Label != l || l == "" && len(p.bundle.Labels) > 1 && of.AsClient() == nil {
			continue
		}
		der := of.AsClient()
		if der == nil {
			return of, nil, wire.Refused{Reason: fmt.Sprintf("label %q is not for a client's part", of.Label)}
		}
		c, err := x509.ParseCertificate(der)
		return of, c, err
	}
	return label.OfLabel{}, nil, wire.Refused{Reason: fmt.Sprintf("the identity has no label %q", l)}
}

// Leaf certifies a TLS client key for this platform and nobody else: if the TPM is in a state approved for the label, and in no other. It
// gives the leaf and the label certificate.
func (p *Platform) Leaf(ctx context.Context, l label.ID, pub crypto.PublicKey) ([][]byte, error) {
	a := p.agent
	leave, err := a.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	of, issuer, err := p.client(l)
	if err != nil {
		return nil, err
	}
	h := label.Holder{Domain: a.domain.Name, Label: of.Label, Name: p.bundle.Name}
	u, err := url.Parse(h.URI())
	if err != nil {
		return nil, fmt.Errorf("name leaf: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("number leaf: %w", err)
	}
	t := a.lasting(&x509.Certificate{SerialNumber: serial, Subject: h.Subject(), URIs: []*url.URL{u}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, clientLife)
	der, err := x509.CreateCertificate(rand.Reader, t, issuer, pub, platformSigner{a, of.Label, issuer.PublicKey})
	if err != nil {
		return nil, refuse(fmt.Errorf("certify key: %w", err))
	}
	return [][]byte{der, issuer.Raw}, nil
}

// platformSigner is a label key as crypto/x509 wants it. It never leaves this file.
type platformSigner struct {
	agent  *Agent
	label  label.ID
	public crypto.PublicKey
}

// Public is the key in the label certificate.
func (s platformSigner) Public() crypto.PublicKey { return s.public }

// Sign has the TPM sign, if it is in an approved state.
func (s platformSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if opts.HashFunc() != crypto.SHA256 {
		return nil, errors.New("sign with label key: want SHA-256")
	}
	sig, err := s.agent.signLabel(*s.agent.srk, s.label, digest)
	if err != nil {
		return nil, err
	}
	return derSignature(sig)
}

// Show answers a box's nonce on a channel: what the platform is, now, and what its label means here.
func (p *Platform) Show(ctx context.Context, l label.ID, nonce, channel []byte) (label.Showing, error) {
	a := p.agent
	leave, err := a.enter(ctx)
	if err != nil {
		return label.Showing{}, err
	}
	defer leave()
	of, cert, err := p.client(l)
	if err != nil {
		return label.Showing{}, err
	}
	one, err := a.confirm(*a.srk, of.Label, nonce, channel)
	if err != nil {
		return label.Showing{}, err
	}
	one.Chain = [][]byte{cert.Raw} // for a client's part
	uri, _, err := label.Description(cert)
	if err != nil {
		return label.Showing{}, wire.Refused{Reason: err.Error()}
	}
	m, err := label.Holder{Domain: a.domain.Name, Label: of.Label, Name: p.bundle.Name}.Mean(uri, nonce, channel)
	if err != nil {
		return label.Showing{}, wire.Refused{Reason: err.Error()}
	}
	digest := sha256.Sum256(m.Bytes())
	sig, err := a.signLabel(*a.srk, of.Label, digest[:])
	if err != nil {
		return label.Showing{}, refuse(err)
	}
	i := label.Interpretation{Meaning: m}
	if i.Signature, err = rawSignature(sig); err != nil {
		return label.Showing{}, err
	}
	return label.Showing{Confirmation: &one, Interpretation: &i}, nil
}

// eventLogFile is where Linux has the firmware's event log.
const eventLogFile = "/sys/kernel/security/tpm0/binary_bios_measurements"

// MachineLog reads the event log of the machine that this runs on; nothing where there is none, or for a TPM that is not the machine's.
func MachineLog(device string) func() ([]byte, error) {
	return func() ([]byte, error) {
		if strings.HasPrefix(device, "unix:") {
			return nil, nil
		}
		b, err := os.ReadFile(filepath.Clean(eventLogFile))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
			return nil, nil
		}
		return b, err
	}
}

// VerifyPlatform is VerifyRequest for a platform.
func VerifyPlatform(r label.PlatformRequest, d label.Domain) (Verified, error) {
	return verifyRequest(r.EnrolRequest, r.Statement(), d)
}
