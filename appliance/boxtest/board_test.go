package boxtest_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/appliance/peertest"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/board"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/label"
)

// A directory is a domain's board server, which can be switched off.
type directory struct {
	t    *testing.T
	box  *boxtest.Box
	dir  string
	addr string
	stop func()
}

func newBoardServer(t *testing.T, b *boxtest.Box) *directory {
	t.Helper()
	d := &directory{t: t, box: b, dir: t.TempDir()}
	d.start(fmt.Sprintf("127.0.0.1:%d", peertest.Port(t, "tcp")))
	t.Cleanup(func() { d.stop() })
	return d
}

func (d *directory) start(at string) {
	d.t.Helper()
	root, err := d.box.Desk.Domain().Certificate()
	if err != nil {
		d.t.Fatal(err)
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		d.t.Fatal(err)
	}
	d.addr = l.Addr().String()
	s, err := board.NewServer(board.Config{Root: root, Dir: d.dir, At: "https://board.test", Clock: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(ctx, l) }()
	d.stop = func() { cancel(); <-ended }
}

func (d *directory) url() string { return "http://" + d.addr }

// post gives the desk's newest permissions to the server.
func (d *directory) post(s label.SignedPermissions, err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
	a, err := http.Post(d.url()+board.PathPermissions, "application/json", strings.NewReader(string(s.Bytes())))
	if err != nil {
		d.t.Fatal(err)
	}
	defer a.Body.Close()
	if why, _ := io.ReadAll(a.Body); a.StatusCode != http.StatusNoContent {
		d.t.Fatalf("post permissions: %d %s", a.StatusCode, why)
	}
}

// providers are the boxes on the board that could release keys, as a reader concludes with the root alone.
func (d *directory) providers() string {
	d.t.Helper()
	a, err := http.Get(d.url() + board.PathBoard)
	if err != nil {
		d.t.Fatal(err)
	}
	defer a.Body.Close()
	doc, err := io.ReadAll(a.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	b, err := board.Parse(doc)
	if err != nil {
		d.t.Fatal(err)
	}
	r, err := b.Read(rootsOf(d.t, d.box).Roots(), time.Now(), nil)
	if err != nil {
		return err.Error()
	}
	var names []string
	for _, o := range r.Providers(label.KeyRelease) {
		names = append(names, o.Advert().Name)
	}
	return strings.Join(names, " ")
}

func rootsOf(t *testing.T, b *boxtest.Box) client.Trust {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(b.Domain, desk.RootFile))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := client.ParseTrust(text)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// within waits until something holds.
func within(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(soon); !holds(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", soon, what)
		}
	}
}

// A whole box advertises on its domain's board, and follows it: while it is revoked, not granted, of an old release, or has not seen the
// board for too long, it releases nothing, says why to its log and console and to nobody else, and is not on the board. Undone, it comes back.
func TestBoardOfABox(t *testing.T) {
	b := boxtest.Start(t)
	legalTeam(b)
	bob := b.Person("bob")
	agent := b.Agent(&bob)
	h, _ := header(t, agent, "for the board")
	releases := func() bool {
		st, err := agent.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return st.State == kra.StateReady
	}
	released := func(when string, want bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		answers, err := agent.Release(ctx, []block.Header{h})
		if got := err == nil && answers[0].Err == nil; got != want {
			t.Errorf("%s: released %v: %v", when, got, err)
		}
	}
	released("without a board", true)
	d := newBoardServer(t, b)
	d.post(b.Desk.Publish(desk.Terms{Valid: time.Hour}))
	b.Do("board add " + d.url() + " every 10s limit 20s")
	within(t, "the box is on the board", func() bool { return d.providers() == "box1" })
	within(t, "the box releases", releases)
	released("permitted", true)
	box := desk.Whom{Name: "box1", Reason: "stolen"}
	for _, c := range []struct {
		name     string
		do, undo func() (label.SignedPermissions, error)
		want     string
	}{
		{"revoked by name", func() (label.SignedPermissions, error) { return b.Desk.Revoke(box) },
			func() (label.SignedPermissions, error) { return b.Desk.Restore(box) }, "revoked by the domain"},
		{"not granted", func() (label.SignedPermissions, error) { return b.Desk.Publish(desk.Terms{Mode: label.Attest}) },
			func() (label.SignedPermissions, error) { return b.Desk.Grant(box) }, "not granted by the domain"},
		{"revoked where it had been granted", func() (label.SignedPermissions, error) { return b.Desk.Revoke(box) },
			func() (label.SignedPermissions, error) { // who is restored has what everybody has, which is nothing in this mode
				if _, err := b.Desk.Restore(box); err != nil {
					return label.SignedPermissions{}, err
				}
				return b.Desk.Grant(box)
			}, "revoked by the domain"},
	} {
		name := c.name
		d.post(c.do())
		within(t, name+": the box stops", func() bool { return !releases() })
		released(name, false)
		if got := b.Do("board show"); !strings.Contains(strings.Join(strings.Fields(got), " "), c.want) {
			t.Errorf("%s: the console says %s", name, got)
		}
		if !strings.Contains(b.Output(), c.want) {
			t.Errorf("%s: the log does not say why", name)
		}
		within(t, name+": the box leaves the board", func() bool { return d.providers() == "" })
		d.post(c.undo())
		within(t, name+": the box comes back", releases)
		within(t, name+": the box is on the board again", func() bool { return d.providers() == "box1" })
	}
	at := d.addr
	d.stop()
	within(t, "without the board: the box stops", func() bool { return !releases() })
	if got := b.Do("board show"); !strings.Contains(strings.Join(strings.Fields(got), " "), "has not seen its domain's board for too long") {
		t.Errorf("without the board the console says %s", got)
	}
	d.start(at)
	within(t, "with the board: the box comes back", releases)
	released("with the board", true)

	// permissions by hand: older ones are refused, also after a restart; a lowest epoch counts for the release that runs
	newest, err := b.Desk.Permissions()
	if err != nil {
		t.Fatal(err)
	}
	next, err := b.Desk.Publish(desk.Terms{})
	if err != nil {
		t.Fatal(err)
	}
	b.Do("board install", string(next.Armored()))
	if _, failed := b.Try("board install", string(newest.Armored())); !strings.Contains(strings.Join(strings.Fields(failed), " "), "older than ones seen before") {
		t.Errorf("older permissions by hand: %s", failed)
	}
	b.Reset()
	b.Login()
	agent = b.Agent(&bob)
	if _, failed := b.Try("board install", string(newest.Armored())); !strings.Contains(strings.Join(strings.Fields(failed), " "), "older than ones seen before") {
		t.Errorf("older permissions by hand after a restart: %s", failed)
	}
	d.post(next, nil)
	within(t, "after the restart the box releases", releases)
	d.post(b.Desk.Publish(desk.Terms{MinEpoch: 2}))
	within(t, "of an old release: the box stops", func() bool { return !releases() })
	if got := b.Do("board show"); !strings.Contains(strings.Join(strings.Fields(got), " "), "below the lowest epoch") {
		t.Errorf("of an old release the console says %s", got)
	}
	b.Do("board remove", "yes")
	if releases() {
		t.Error("without a board the box forgets what its domain permits")
	}
}

// The box's own page is there without a certificate, and says what a reader can check.
func TestPageOfABox(t *testing.T) {
	b := boxtest.Start(t)
	legalTeam(b)
	trust := rootsOf(t, b)
	within(t, "the page is there", func() bool { return strings.Contains(fetchPage(t, b, trust, "/"), "may provide the service") })
	page := fetchPage(t, b, trust, "/")
	for _, want := range []string{"box1", "key-release", "kra verify", "curl --cacert", "legal-team"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	doc, err := board.Parse([]byte(fetchPage(t, b, trust, board.PathBoard)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := doc.Read(trust.Roots(), time.Now(), nil)
	if err != nil || len(r.Providers(label.KeyRelease)) != 1 {
		t.Fatalf("board: %v, ignored %q", err, r.Ignored())
	}
	o := r.Providers(label.KeyRelease)[0]
	if !strings.Contains(o.Description(), "key release agent") || o.Values()[0].Release != "v0.0.1" {
		t.Errorf("offer %+v", o)
	}
}

func fetchPage(t *testing.T, b *boxtest.Box, trust client.Trust, path string) string {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust.Roots()}}}
	defer c.CloseIdleConnections()
	a, err := c.Get("https://" + b.Up().Release.String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
