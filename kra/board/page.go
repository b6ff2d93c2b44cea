package board

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	_ "embed" // the page and its style
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

//go:embed page.html
var pageText string

//go:embed page.css
var styleText string

// style is what stands between the tags; its hash is in the policy below, so that nothing else styles the page.
var style = strings.TrimSpace(styleText)

var page = template.Must(template.New("page").Parse(pageText))

// contentPolicy lets the page do nothing but be read: no script, no frame, no form, no image, no other origin.
var contentPolicy = func() string {
	h := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(h[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}()

// Headers are those of every answer of a board, with its kind.
func Headers(h http.Header, kind string) {
	for k, v := range map[string]string{"Content-Type": kind, "Content-Security-Policy": contentPolicy, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
		"Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		"Permissions-Policy": "interest-cohort=()", "Cache-Control": "no-store"} {
		h[k] = []string{v}
	}
}

// Kinds of answers.
const (
	kindPage = "text/html; charset=utf-8"
	kindJSON = "application/json"
	kindText = "text/plain; charset=utf-8"
	kindPEM  = "application/x-pem-file"
)

// A Document is one answer of a board, ready to be sent.
type Document struct {
	Kind string
	Body []byte
}

// A Key is a key-release key, as the page of a box shows it.
type Key struct{ Access, Title, Suite, ID string }

// A View is what a board is made of for its readers.
type View struct {
	Box     string // whose board it is; empty: the domain's
	At      string // https://HOST:PORT, as the page's examples say it
	Root    *x509.Certificate
	Reading Reading
	Keys    []Key
	Revoked []byte // the root's list of revoked certificates, PEM; may be empty
	Board   Board
}

// Draw reads a board and makes all that it answers. Permissions that are stale are shown as that, and nothing is offered.
func Draw(v View, roots *x509.CertPool, now time.Time) (map[string]Document, error) {
	r, err := v.Board.read(roots, now, nil)
	if err != nil {
		return nil, fmt.Errorf("make page: %w", err)
	}
	v.Reading = r
	return v.Documents()
}

// Documents are all that a board answers, by path. They do not change: who serves them copies nothing.
func (v View) Documents() (map[string]Document, error) {
	text, err := v.page()
	if err != nil {
		return nil, err
	}
	out := map[string]Document{PathPage: {kindPage, text}, PathBoard: {kindJSON, v.Board.Bytes()}, PathRoot: {kindPEM, pemOf("CERTIFICATE", v.Root.Raw)}}
	if s, ok := v.Reading.Permissions(); ok {
		out[PathPermissions] = Document{kindJSON, s.Bytes()}
	}
	if len(v.Revoked) > 0 {
		out[PathRevoked] = Document{kindPEM, v.Revoked}
	}
	for _, o := range v.Reading.offers {
		out[label.DescriptionPath(sha256.Sum256([]byte(o.Description())))] = Document{kindText, []byte(o.Description())}
	}
	return out, nil
}

type shown struct {
	Title, Domain, Box, RootFingerprint, Verify, Curl, Find, Made, Stale string

	Style       template.CSS
	Entries     []shownEntry
	Ignored     int
	Keys        []Key
	Permissions *shownPermissions
	Revoked     bool
}

type shownEntry struct {
	Name, Label, Offer, Key, Attester, Issued, Until, Document, Description string

	Addresses []string
	Values    []shownValue
}

type shownValue struct {
	Release, Commit, Image string
	Version                uint64
	PCRs                   []shownPCR
}

type shownPCR struct {
	Index int
	Value string
}

type shownPermissions struct {
	Rule, Issued, Until, Stale string
	Sequence, MinEpoch         uint64
	Entries                    []shownPermission
}

type shownPermission struct{ State, Name, Key, Label, Since, Reason string }

const clock = "2006-01-02 15:04 UTC"

func (v View) page() ([]byte, error) {
	r := v.Reading
	s := shown{Title: r.domain, Domain: r.domain, Box: v.Box, RootFingerprint: fingerprint(v.Root.Raw), Made: r.at.UTC().Format("2006-01-02 15:04"), Style: template.CSS(style),
		Ignored: len(r.ignored), Keys: v.Keys, Revoked: len(v.Revoked) > 0,
		Verify: "kra verify -root root.pem " + v.At, Curl: "curl --cacert root.pem " + v.At + "/v1/status", Find: "kra board find -root root.pem -label key-release \\\n  -at " + v.At}
	if v.Box != "" {
		s.Title = v.Box + " of " + r.domain
	}
	for _, o := range r.offers {
		s.Entries = append(s.Entries, showOffer(o))
	}
	if r.signed != nil {
		s.Permissions = showPermissions(r)
		s.Stale = s.Permissions.Stale
	}
	var out bytes.Buffer
	if err := page.Execute(&out, s); err != nil {
		return nil, fmt.Errorf("write page: %w", err)
	}
	return out.Bytes(), nil
}

func showOffer(o label.Offered) shownEntry {
	a := o.Advert()
	e := shownEntry{Name: a.Name, Label: string(a.Label), Offer: "may provide the service", Key: o.Key().String(), Attester: o.Attester().String(), Issued: a.Issued.Format(clock),
		Until: o.Until().UTC().Format(clock), Document: label.DescriptionPath(sha256.Sum256([]byte(o.Description()))), Description: o.Description(), Addresses: a.Addresses}
	if a.Offer == label.TakePart {
		e.Offer = "may take part in the service, as " + a.Part.String()
	}
	for _, v := range o.Values() {
		e.Values = append(e.Values, showValue(v))
	}
	return e
}

func showValue(v label.Value) shownValue {
	s := shownValue{Release: v.Release, Commit: v.Commit, Version: v.Version}
	if v.Image != (label.Digest{}) {
		s.Image = v.Image.String()
	}
	for _, i := range label.ApprovedPCRs() {
		s.PCRs = append(s.PCRs, shownPCR{i, v.PCRs[i].String()})
	}
	return s
}

func showPermissions(r Reading) *shownPermissions {
	p := r.permissions
	s := &shownPermissions{Rule: "Whoever is not revoked may be what the domain has certified.", Issued: p.Issued.Format(clock), Until: p.Until.Format(clock), Sequence: p.Sequence, MinEpoch: p.MinEpoch}
	if p.Mode == label.Attest {
		s.Rule = "Only who is granted may be what the domain has certified."
	}
	if err := p.Current(r.at); err != nil {
		s.Stale = err.Error()
	}
	for _, e := range p.Entries {
		x := shownPermission{State: string(e.State), Name: e.Name, Label: string(e.Label), Since: e.Since.Format(clock), Reason: e.Reason}
		if e.Key != (label.Digest{}) {
			x.Key = e.Key.Short()
		}
		if x.Label == "" {
			x.Label = "all"
		}
		s.Entries = append(s.Entries, x)
	}
	return s
}

// fingerprint is a SHA-256 in two lines of eight groups.
func fingerprint(der []byte) string {
	var b strings.Builder
	for i, c := range sha256.Sum256(der) {
		switch {
		case i == 16:
			b.WriteByte('\n')
		case i > 0 && i%2 == 0:
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%02x", c)
	}
	return b.String()
}

// Serve answers a GET or HEAD from documents, and says whether the path is one.
func Serve(w http.ResponseWriter, r *http.Request, all map[string]Document) bool {
	d, ok := all[r.URL.Path]
	if !ok {
		return false
	}
	Headers(w.Header(), d.Kind)
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(d.Body))}
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(d.Body) // a reader who has gone cannot be told
	}
	return true
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
