package board

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/board/boardtest"
	"github.com/keyrelease/krabox/kra/label"
)

const (
	addr1 = "https://box1.example.org:8443"
	addr2 = "https://192.0.2.7:8443"
)

// fleet is a domain with two boxes and a client.
type fleet struct {
	*boardtest.Domain
	one, two, client *boardtest.Platform
}

func newFleet(t testing.TB) fleet {
	d := boardtest.New(t, "example.org")
	return fleet{d, d.Platform("box1", label.KeyRelease, label.Server, "box1.example.org"), d.Platform("box2", label.KeyRelease, label.Server, "192.0.2.7"),
		d.Platform("laptop7", "finance", label.Client)}
}

func (f fleet) adverts() []label.SignedAdvert {
	return []label.SignedAdvert{f.one.Advert(1, addr1), f.two.Advert(1, addr2), f.client.Advert(1)}
}

// read goes by the bytes, as a reader does.
func read(t testing.TB, f fleet, b Board, known *label.SignedPermissions) (Reading, error) {
	t.Helper()
	p, err := Parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return p.Read(f.Roots, time.Now(), known)
}

func names(all []label.Offered) string {
	var out []string
	for _, o := range all {
		out = append(out, o.Advert().Name)
	}
	return strings.Join(out, " ")
}

// From a board one learns who could provide a service and who may take part, with nothing but the root.
func TestDiscovery(t *testing.T) {
	f := newFleet(t)
	p := f.Permissions(1, label.Revoke, 0)
	r, err := read(t, f, New("example.org", f.adverts(), &p), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(r.Providers(label.KeyRelease)); got != "box1 box2" {
		t.Errorf("providers: %s", got)
	}
	if got := names(r.Participants("finance")) + "," + names(r.Participants("")) + "," + names(r.Participants("x")); got != "laptop7,laptop7," {
		t.Errorf("participants: %s", got)
	}
	if got := names(r.Providers("finance")); got != "" {
		t.Errorf("a client provides: %s", got)
	}
	if o := r.Providers(label.KeyRelease)[1]; o.Advert().Addresses[0] != addr2 || o.Values()[0].Release != "v0.1.0" || o.Description() != boardtest.Explanation {
		t.Errorf("box2 offers %+v", o)
	}
	if len(r.Ignored()) != 0 || r.Domain() != "example.org" {
		t.Errorf("ignored %q of %q", r.Ignored(), r.Domain())
	}
}

// A board may lie as it likes: an entry that is not what it should be is ignored, by its reason, and spoils no other.
func TestLyingBoard(t *testing.T) {
	f := newFleet(t)
	other := newFleet(t) // of the same name, with other keys
	foreign := boardtest.New(t, "example.com")
	lie := func(change func(*label.SignedAdvert)) label.SignedAdvert {
		a := f.two.Advert(1, addr2)
		change(&a)
		return a
	}
	for name, c := range map[string]struct {
		entry label.SignedAdvert
		want  string
	}{
		"unsigned":                 {lie(func(a *label.SignedAdvert) { a.Signature = make([]byte, 64) }), "not signed by the label key"},
		"no label certificate":     {lie(func(a *label.SignedAdvert) { a.Chain = nil }), "label certificates"},
		"no platform certificate":  {lie(func(a *label.SignedAdvert) { a.Platform = nil }), "certificate is missing"},
		"no authority":             {lie(func(a *label.SignedAdvert) { a.Authority = nil }), "certificate is missing"},
		"no value":                 {lie(func(a *label.SignedAdvert) { a.Values = []label.SignedValue{} }), "label values"},
		"no description":           {lie(func(a *label.SignedAdvert) { a.Description = "" }), "description"},
		"another's description":    {lie(func(a *label.SignedAdvert) { a.Description = "trust me" }), "not the one that the label certificate refers to"},
		"another's address":        {f.two.Advert(1, addr1), "does not permit"},
		"another platform's":       {lie(func(a *label.SignedAdvert) { a.Platform = f.one.Advert(1, addr1).Platform }), "platform certificate"},
		"two boxes mixed":          {lie(func(a *label.SignedAdvert) { a.Chain = f.one.Advert(1, addr1).Chain }), "not one for"},
		"signed by another root":   {other.two.Advert(1, addr2), "certificate"},
		"of another domain":        {foreign.Platform("box2", label.KeyRelease, label.Server, "192.0.2.7").Advert(1, addr2), "certificate"},
		"over":                     {f.two.AdvertAt(time.Now().Add(-2*time.Hour), 1, addr2), "it ended"},
		"a second of the same box": {f.one.Advert(2, addr1), "a second one"},
	} {
		r, err := read(t, f, New("example.org", []label.SignedAdvert{f.one.Advert(1, addr1), c.entry}, nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := names(r.Offers()); got != "box1" || len(r.Ignored()) != 1 || !strings.Contains(r.Ignored()[0], c.want) {
			t.Errorf("%s: offers %q, ignored %q; want %q", name, got, r.Ignored(), c.want)
		}
	}
	b := New("example.org", []label.SignedAdvert{f.one.Advert(1, addr1)}, nil)
	b.Adverts = append(b.Adverts, []byte(`{"statement":{}}`), []byte(`3`), []byte(` {}`))
	if r, err := read(t, f, b, nil); err != nil || names(r.Offers()) != "box1" || len(r.Ignored()) != 3 {
		t.Errorf("entries that are none: %v, %q", err, r.Ignored())
	}
}

// The domain's permissions count against every entry; a reader takes none that are unsigned, foreign, stale, or older than he knows.
func TestPermissionsOfABoard(t *testing.T) {
	f := newFleet(t)
	other := boardtest.New(t, "example.org")
	const on, off = label.Granted, label.Revoked
	for name, c := range map[string]struct {
		p    label.SignedPermissions
		want string // who is left
	}{
		"nobody revoked":     {f.Permissions(1, label.Revoke, 3), "box1 box2 laptop7"},
		"box1 revoked":       {f.Permissions(1, label.Revoke, 0, label.Permission{Name: "box1", State: off}), "box2 laptop7"},
		"a label key":        {f.Permissions(1, label.Revoke, 0, label.Permission{Key: f.two.Key(), State: off}), "box1 laptop7"},
		"an attestation key": {f.Permissions(1, label.Revoke, 0, label.Permission{Key: f.client.Attester(), State: off}), "box1 box2"},
		"nobody granted":     {f.Permissions(1, label.Attest, 0), ""},
		"box2 granted":       {f.Permissions(1, label.Attest, 0, label.Permission{Name: "box2", State: on}), "box2"},
		"too old releases":   {f.Permissions(1, label.Revoke, 4), ""},
	} {
		r, err := read(t, f, New("example.org", f.adverts(), &c.p), nil)
		if err != nil || names(r.Offers()) != c.want {
			t.Errorf("%s: %q, %v; want %q", name, names(r.Offers()), err, c.want)
		}
	}
	unsigned := f.Permissions(1, label.Revoke, 0)
	unsigned.Signature = make([]byte, 64)
	foreign := other.Permissions(1, label.Revoke, 0)
	stale := f.PermissionsAt(time.Now().Add(-2*time.Hour), 1, label.Revoke, 0)
	first, second := f.Permissions(1, label.Revoke, 0), f.Permissions(2, label.Revoke, 0)
	for name, c := range map[string]struct {
		p, known *label.SignedPermissions
		want     string
	}{
		"unsigned":                     {&unsigned, nil, "not signed by the label key"},
		"of another root":              {&foreign, nil, "authority certificate"},
		"stale":                        {&stale, nil, "stale"},
		"older than known":             {&first, &second, "older than ones seen"},
		"left out, though there are":   {nil, &first, "has no permissions"},
		"known ones are another's too": {&first, &foreign, "authority certificate"},
	} {
		if _, err := read(t, f, New("example.org", f.adverts(), c.p), c.known); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	if _, err := read(t, f, New("example.org", nil, &stale), nil); !errors.Is(err, label.ErrStale) {
		t.Errorf("stale: %v", err)
	}
	if _, err := read(t, f, New("example.org", nil, &second), &first); err != nil {
		t.Errorf("newer than known: %v", err)
	}
	if _, err := read(t, f, New("example.net", nil, &second), nil); err == nil {
		t.Error("a board of one domain has permissions of another")
	}
}

func TestParse(t *testing.T) {
	for name, doc := range map[string]string{"nothing": "", "null byte": "\x00", "two": `{"domain":"a","adverts":[]}{}`, "unknown": `{"domain":"a","adverts":[],"x":1}`,
		"too long": strings.Repeat(" ", MaxBoard+1), "too many": string(Board{Domain: "a", Adverts: many(MaxAdverts + 1)}.Bytes())} {
		if _, err := Parse([]byte(doc)); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
	if _, err := Parse(Board{Domain: "a", Adverts: many(MaxAdverts)}.Bytes()); err != nil {
		t.Error(err)
	}
}

func many(n int) (out []json.RawMessage) {
	for range n {
		out = append(out, json.RawMessage("{}"))
	}
	return out
}

func FuzzBoard(f *testing.F) {
	seeds, err := os.ReadDir("testdata/fuzz/FuzzBoard")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	d := boardtest.New(f, "example.org")
	f.Fuzz(func(t *testing.T, doc []byte) {
		b, err := Parse(doc)
		if err != nil {
			return
		}
		if r, err := b.Read(d.Roots, time.Now(), nil); err == nil && len(r.Offers()) > 0 {
			t.Errorf("believed without the root: %q", doc)
		}
		if again, err := Parse(b.Bytes()); err != nil || !bytes.Equal(again.Bytes(), b.Bytes()) {
			t.Errorf("read otherwise the second time: %v", err)
		}
	})
}
