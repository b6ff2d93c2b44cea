package client

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// An Identity is what a box showed of itself, each part verified to the domain root.
type Identity struct {
	URL      string    `json:"url"`
	Domain   string    `json:"domain"`
	Box      string    `json:"box"`
	Label    string    `json:"label"` // whose key certified the box's TLS key
	Names    []string  `json:"names"` // DNS names and addresses of the box
	RootName string    `json:"root_name"`
	Root     string    `json:"root"` // SHA-256 of the root certificate, hexadecimal
	From     time.Time `json:"from"` // of the TLS key's certificate
	Until    time.Time `json:"until"`
	State    string    `json:"state"` // the box's own word, a kra.State… constant

	// What runs, by the registers that its TPM quoted for this challenge and the domain's signed word of what they stand for.
	Release string     `json:"release"`
	Commit  string     `json:"commit"`
	Epoch   uint64     `json:"epoch"` // orders releases
	Image   string     `json:"image"` // SHA-256 of the UKI, hexadecimal; zero where no image of the product was booted
	PCRs    label.PCRs `json:"pcrs"`
	Checks  []Check    `json:"checks"`  // all that was checked, in order; each of them held
	Unshown []string   `json:"unshown"` // what nobody should conclude
}

// A Check is one thing that was verified, and what it means.
type Check struct {
	Name  string `json:"name"`
	Means string `json:"means"`
}

// Names of checks, for scripts.
const (
	CheckPath      = "path"
	CheckLabel     = "label"
	CheckChallenge = "challenge"
	CheckChannel   = "channel"
	CheckQuote     = "quote"
	CheckValue     = "value"
	CheckEpoch     = "epoch"     // only if Config.MinEpoch asks for it
	CheckPermitted = "permitted" // only where the domain's permissions were given
)

// unshown is what a box cannot show by any of the checks.
func unshown() []string {
	return []string{
		"which rules the box has, and whether they are the ones you would want",
		"that nobody who holds the machine tampers with the TPM or its wires",
		"that the domain's own keys were not misused, by those who hold enough of them",
		"that the program that answers was not taken over since it started",
		"what the box did before now, and does after: its log shows that (kra log verify)",
	}
}

func checks(id Identity) []Check {
	return []Check{
		{CheckPath, fmt.Sprintf("the root that you gave certified, for domain %s, the key that this connection used", id.Domain)},
		{CheckLabel, fmt.Sprintf("that key is certified by the key of label %q of box %s, which lives in the box's TPM and signs only in a state that the domain approved", id.Label, id.Box)},
		{CheckChallenge, "the label key signed a number that was made up just now: this is no recording"},
		{CheckChannel, "the signature is bound to this connection: nobody stands between"},
		{CheckQuote, "the attestation key that the domain certified for this box quotes the TPM's registers, for the same number"},
		{CheckValue, fmt.Sprintf("these registers are those that the domain signed for release %s of this label", id.Release)},
	}
}

// Verify connects to the agent, validates its certificate path up to the domain root, and challenges it to show which of the
// domain's releases it runs. It needs no network but the agent's.
func (a *Agent) Verify(ctx context.Context) (Identity, error) {
	return a.identify(ctx, label.Challenge{Label: releaseLabel})
}

// Instantiate is Verify with a challenge that starts the agent's service, where its officers have it start on challenge. Verify is
// rejected there with kra.CodeLabel while it is not started.
func (a *Agent) Instantiate(ctx context.Context) (Identity, error) {
	return a.identify(ctx, label.Challenge{Label: releaseLabel, Instantiate: true})
}

func (a *Agent) identify(ctx context.Context, c label.Challenge) (Identity, error) {
	v, channel, err := a.challenge(ctx, c)
	if err != nil {
		return Identity{}, err
	}
	id, err := identityOf(a.URL(), channel)
	if err != nil {
		return Identity{}, untrusted("believe %s: %w", a.URL(), err)
	}
	st, err := a.Status(ctx)
	if err != nil {
		return Identity{}, err
	}
	if st.Domain != id.Domain || st.Box != id.Box {
		return Identity{}, untrusted("believe %s: it calls itself box %q of %q, its certificate says %q of %q", a.URL(), st.Box, st.Domain, id.Box, id.Domain)
	}
	r := v.Value()
	id.State, id.Release, id.Commit, id.Epoch, id.Image, id.PCRs = st.State, r.Release, r.Commit, r.Version, r.Image.String(), r.PCRs
	id.Checks, id.Unshown = checks(id), unshown()
	if a.least > 0 {
		id.Checks = append(id.Checks, Check{CheckEpoch, fmt.Sprintf("that release is of epoch %d, and you wanted %d at least", id.Epoch, a.least)})
	}
	if p := a.permissions; p != nil {
		id.Checks = append(id.Checks, Check{CheckPermitted, fmt.Sprintf("the domain's permissions number %d, good until %s UTC, allow this box and a release of epoch %d", p.Sequence, p.Until.Format(time.DateTime), id.Epoch)})
	}
	return id, nil
}

func identityOf(url string, s *tls.ConnectionState) (Identity, error) {
	by, err := peerOf(s)
	if err != nil {
		return Identity{}, err
	}
	path := s.VerifiedChains[0]
	leaf, root := path[0], path[len(path)-1]
	sum := sha256.Sum256(root.Raw)
	return Identity{URL: url, Domain: by.domain, Box: by.box, Label: by.label, Names: namesOf(leaf), RootName: root.Subject.String(),
		Root: hex.EncodeToString(sum[:]), From: leaf.NotBefore, Until: leaf.NotAfter}, nil
}

func namesOf(leaf *x509.Certificate) []string {
	names := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}
