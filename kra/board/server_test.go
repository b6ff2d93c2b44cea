package board

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/board/boardtest"
	"github.com/keyrelease/krabox/kra/label"
)

// A site is a domain's server in a test.
type site struct {
	t   *testing.T
	f   fleet
	dir string
	log *bytes.Buffer
	now time.Time
	*Server
	http *httptest.Server
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, f: newFleet(t), dir: t.TempDir(), log: &bytes.Buffer{}, now: time.Now()}
	s.start()
	return s
}

// start is a start of the server, on the folder as it is.
func (s *site) start() {
	s.t.Helper()
	if s.http != nil {
		s.http.Close()
	}
	var err error
	s.Server, err = NewServer(Config{Root: s.f.Root, Dir: s.dir, At: "https://board.example.org", Clock: func() time.Time { return s.now }, Log: slog.New(slog.NewTextHandler(s.log, nil))})
	if err != nil {
		s.t.Fatal(err)
	}
	s.http = httptest.NewServer(s.Server)
	s.t.Cleanup(s.http.Close)
}

func (s *site) send(path string, body []byte) (int, string) {
	s.t.Helper()
	a, err := http.Post(s.http.URL+path, kindJSON, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer a.Body.Close()
	b, _ := io.ReadAll(a.Body)
	return a.StatusCode, strings.TrimSpace(string(b))
}

// want posts, and compares the answer.
func (s *site) want(what, path string, body []byte, status int, word string) {
	s.t.Helper()
	if got, text := s.send(path, body); got != status || !strings.Contains(text, word) {
		s.t.Errorf("%s: %d %q; want %d %q", what, got, text, status, word)
	}
}

func (s *site) get(path string) (int, string) {
	s.t.Helper()
	a, err := http.Get(s.http.URL + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer a.Body.Close()
	b, _ := io.ReadAll(a.Body)
	return a.StatusCode, string(b)
}

// offers are who is on the board, as a reader verifies it.
func (s *site) offers() string {
	s.t.Helper()
	_, text := s.get(PathBoard)
	b, err := Parse([]byte(text))
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := b.Read(s.f.Roots, s.now, nil)
	if err != nil {
		return err.Error()
	}
	return names(r.Offers())
}

// Boxes and peers post and take back; what was taken back does not return, nor after a restart of the server.
func TestPostAndRetract(t *testing.T) {
	s := newSite(t)
	one := s.f.one.Advert(5, addr1)
	s.want("advert", PathAdverts, one.Bytes(), 204, "")
	s.want("of a client", PathAdverts, s.f.client.Advert(1).Bytes(), 204, "")
	if got := s.offers(); got != "box1 laptop7" {
		t.Errorf("board: %s", got)
	}
	s.want("the same again", PathAdverts, one.Bytes(), 403, "older than what is here")
	s.want("an older one", PathAdverts, s.f.one.Advert(4, addr1).Bytes(), 403, "older than what is here")
	s.want("a newer one", PathAdverts, s.f.one.Advert(6, addr1).Bytes(), 204, "")
	s.want("retraction of older ones", PathRetractions, s.f.one.Retract(5).Bytes(), 204, "")
	if got := s.offers(); got != "box1 laptop7" {
		t.Errorf("after a retraction of older ones: %s", got)
	}
	s.want("retraction", PathRetractions, s.f.one.Retract(6).Bytes(), 204, "")
	if got := s.offers(); got != "laptop7" {
		t.Errorf("after the retraction: %s", got)
	}
	s.want("retracted", PathAdverts, s.f.one.Advert(6, addr1).Bytes(), 403, "retracted")
	s.start()
	s.want("retracted, after a restart", PathAdverts, s.f.one.Advert(6, addr1).Bytes(), 403, "retracted")
	if got := s.offers(); got != "laptop7" {
		t.Errorf("after a restart: %s", got)
	}
	s.want("a new one", PathAdverts, s.f.one.Advert(7, addr1).Bytes(), 204, "")
	if got := s.offers(); got != "box1 laptop7" {
		t.Errorf("advertised again: %s", got)
	}
	s.now = s.now.Add(2 * time.Hour)
	if got := s.offers(); got != "" {
		t.Errorf("two hours later: %s", got)
	}
	if left, err := os.ReadDir(filepath.Join(s.dir, advertsDir)); err != nil || len(left) != 0 {
		t.Errorf("what is over stays on the disk: %v, %v", left, err)
	}
}

// Only what the domain's root vouches for is taken.
func TestServerRefuses(t *testing.T) {
	s := newSite(t)
	other := boardtest.New(t, "example.org")
	theirs := other.Platform("box1", label.KeyRelease, label.Server, "box1.example.org")
	unsigned := s.f.one.Advert(5, addr1)
	unsigned.Signature = make([]byte, 64)
	mixed := s.f.one.Advert(5, addr1)
	mixed.Chain = s.f.two.Advert(5, addr2).Chain
	stale := s.f.PermissionsAt(s.now.Add(-2*time.Hour), 9, label.Revoke, 0)
	for name, c := range map[string]struct {
		path string
		body []byte
		want string
	}{
		"nothing":                           {PathAdverts, nil, "parse advert"},
		"unsigned":                          {PathAdverts, unsigned.Bytes(), "not signed by the label key"},
		"mixed from two":                    {PathAdverts, mixed.Bytes(), "not one for"},
		"another domain's advert":           {PathAdverts, theirs.Advert(5, addr1).Bytes(), "certificate"},
		"another form":                      {PathAdverts, append(s.f.one.Advert(5, addr1).Bytes(), ' '), "canonical"},
		"a retraction as advert":            {PathAdverts, s.f.one.Retract(5).Bytes(), "parse advert"},
		"an advert as retraction":           {PathRetractions, s.f.one.Advert(5, addr1).Bytes(), "parse retraction"},
		"another domain's retraction":       {PathRetractions, theirs.Retract(9).Bytes(), "certificate"},
		"another domain's permissions":      {PathPermissions, other.Permissions(1, label.Revoke, 0).Bytes(), "authority certificate"},
		"stale permissions":                 {PathPermissions, stale.Bytes(), "stale"},
		"another root's list":               {PathRevoked, pemOf("X509 CRL", other.RevocationList(1)), "not the root's"},
		"a certificate as a list":           {PathRevoked, pemOf("CERTIFICATE", s.f.Root.Raw), "not PEM of one"},
		"retraction by somebody else's key": {PathRetractions, func() []byte { r := s.f.one.Retract(9); r.Chain = s.f.two.Retract(9).Chain; return r.Bytes() }(), "not one for"},
	} {
		s.want(name, c.path, c.body, 403, c.want)
	}
	if got := s.offers(); got != "" {
		t.Errorf("on the board: %s", got)
	}
	if !strings.Contains(s.log.String(), "refused") {
		t.Error("the log does not say what was refused")
	}
}

// The desk's permissions go forward only, and what they forbid leaves the board.
func TestServerPermissions(t *testing.T) {
	s := newSite(t)
	s.want("advert", PathAdverts, s.f.one.Advert(1, addr1).Bytes(), 204, "")
	s.want("advert", PathAdverts, s.f.two.Advert(1, addr2).Bytes(), 204, "")
	second := s.f.Permissions(2, label.Revoke, 0, label.Permission{Name: "box1", State: label.Revoked, Reason: "stolen"})
	s.want("permissions", PathPermissions, second.Bytes(), 204, "")
	if got := s.offers(); got != "box2" {
		t.Errorf("box1 is revoked: %s", got)
	}
	s.want("advert of a revoked box", PathAdverts, s.f.one.Advert(2, addr1).Bytes(), 403, "revoked by the domain")
	s.want("older permissions", PathPermissions, s.f.Permissions(1, label.Revoke, 0).Bytes(), 403, "older than ones seen")
	s.want("others of the same number", PathPermissions, s.f.Permissions(2, label.Revoke, 0).Bytes(), 403, "there are two")
	s.start()
	s.want("older permissions, after a restart", PathPermissions, s.f.Permissions(1, label.Revoke, 0).Bytes(), 403, "older than ones seen")
	if _, text := s.get(PathPermissions); text != string(second.Bytes()) {
		t.Errorf("permissions: %s", text)
	}
	third := s.f.Permissions(3, label.Revoke, 0)
	s.want("permissions that take the revocation back", PathPermissions, third.Bytes(), 204, "")
	if got := s.offers(); got != "box1 box2" {
		t.Errorf("box1 is revoked no longer: %s", got)
	}
	second = s.f.Permissions(4, label.Revoke, 0, label.Permission{Name: "box1", State: label.Revoked, Reason: "stolen"})
	s.want("revoked again", PathPermissions, second.Bytes(), 204, "")
	list := s.f.RevocationList(2, s.f.one)
	s.want("list", PathRevoked, pemOf("X509 CRL", list), 204, "")
	s.want("older list", PathRevoked, pemOf("X509 CRL", s.f.RevocationList(1)), 403, "older than what is here")
	_, text := s.get(PathRevoked)
	if p, _ := pem.Decode([]byte(text)); p == nil || !bytes.Equal(p.Bytes, list) {
		t.Errorf("list: %s", text)
	}
	_, page := s.get(PathPage)
	for _, w := range []string{"revoked", "stolen", "box1", "box2", "/v1/root.crl"} {
		if !strings.Contains(page, w) {
			t.Errorf("the page lacks %q", w)
		}
	}
	s.now = s.now.Add(2 * time.Hour)
	if got := s.offers(); !strings.Contains(got, "stale") {
		t.Errorf("two hours later: %s", got)
	}
	if status, page := s.get(PathPage); status != 200 || !strings.Contains(page, "stale") {
		t.Errorf("two hours later the page says: %d %s", status, page)
	}
	spoilt := append(second.Bytes(), ' ')
	if err := os.WriteFile(filepath.Join(s.dir, permissionsFile), spoilt, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := NewServer(Config{Root: s.f.Root, Dir: s.dir, Clock: time.Now, Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a folder with spoilt permissions is served: who is revoked is forgotten")
	}
}

// What cannot be kept is not taken: the poster is told, and nothing is shown that would be gone after a restart.
func TestServerKeepsBeforeItAnswers(t *testing.T) {
	s := newSite(t)
	if err := os.RemoveAll(filepath.Join(s.dir, advertsDir)); err != nil {
		t.Fatal(err)
	}
	s.want("advert", PathAdverts, s.f.one.Advert(1, addr1).Bytes(), 500, "could not be kept")
	if got := s.offers(); got != "" {
		t.Errorf("on the board: %s", got)
	}
	if err := os.Mkdir(filepath.Join(s.dir, advertsDir), 0o755); err != nil {
		t.Fatal(err)
	}
	s.want("advert", PathAdverts, s.f.one.Advert(1, addr1).Bytes(), 204, "")
	// something that was changed on the disk is left out at a start
	path := filepath.Join(s.dir, advertsDir, place{"box1", label.KeyRelease}.file())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte("box1.example.org"), []byte("box9.example.org"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	s.start()
	if got := s.offers(); got != "" || !strings.Contains(s.log.String(), "left out") {
		t.Errorf("changed on the disk: %s", got)
	}
}

// Size, number and pace are limited; many readers and posters at once end well.
func TestServerLimits(t *testing.T) {
	s := newSite(t)
	s.want("too long", PathAdverts, make([]byte, label.MaxAdvert+1), 413, "at most")
	s.want("not a place", PathBoard, nil, 404, "")
	if status, _ := s.get("/nothing"); status != 404 {
		t.Errorf("nothing: %d", status)
	}
	q, err := http.NewRequest(http.MethodDelete, s.http.URL+PathBoard, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := http.DefaultClient.Do(q); err != nil || a.StatusCode != 405 || a.Header.Get("Allow") == "" {
		t.Errorf("DELETE: %v", err)
	}
	for i := range MaxAdverts {
		s.shelf.adverts[place{fmt.Sprint("x", i), "y"}] = s.f.one.Advert(1, addr1)
	}
	if err := s.shelf.put(s.f.two.Advert(1, addr2), s.now); err != errFull {
		t.Errorf("a full board: %v", err)
	}
	clear(s.shelf.adverts)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			s.send(PathAdverts, s.f.one.Advert(uint64(10+i), addr1).Bytes())
			s.get(PathPage)
			s.get(PathBoard)
		})
	}
	all.Wait()
	if got := s.offers(); got != "box1" {
		t.Errorf("board: %s", got)
	}
	var slow int
	for range maxPosts + 5 {
		if status, _ := s.send(PathAdverts, nil); status == http.StatusTooManyRequests {
			slow++
		}
	}
	if slow == 0 {
		t.Error("a source posts as often as it likes")
	}
	s.now = s.now.Add(window)
	s.want("a minute later", PathAdverts, nil, 403, "parse advert")
}

func TestPace(t *testing.T) {
	p := pace{seen: map[netip.Prefix]int{}}
	now := time.Now()
	for i := range maxSources {
		if !p.enter(sourceOf(net.JoinHostPort(net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)).String(), "1")), now) {
			t.Fatalf("source %d waits", i)
		}
	}
	if p.enter(sourceOf("192.0.2.1:1"), now) {
		t.Error("more sources than are counted")
	}
	if !p.enter(sourceOf("10.0.0.1:1"), now) {
		t.Error("one that is counted waits for others")
	}
	if sourceOf("[2001:db8::1]:1") != sourceOf("[2001:db8::2]:9") || sourceOf("[2001:db8:0:1::1]:1") == sourceOf("[2001:db8::2]:9") {
		t.Error("an IPv6 source is not its /64")
	}
}

// Stock programs read what a board publishes.
func TestStockReaders(t *testing.T) {
	s := newSite(t)
	s.want("list", PathRevoked, pemOf("X509 CRL", s.f.RevocationList(1, s.f.one)), 204, "")
	dir := t.TempDir()
	for file, text := range map[string]string{"crl": get(t, s, PathRevoked), "root": get(t, s, PathRoot),
		"box1": string(pemOf("CERTIFICATE", s.f.one.Advert(1, addr1).Chain[0])), "box2": string(pemOf("CERTIFICATE", s.f.two.Advert(1, addr2).Chain[0]))} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for box, ok := range map[string]bool{"box1": false, "box2": true} {
		c := exec.Command("openssl", "verify", "-crl_check", "-CAfile", "root", "-CRLfile", "crl", box)
		c.Dir = dir
		if out, err := c.CombinedOutput(); (err == nil) != ok {
			t.Errorf("openssl verify %s: %v\n%s", box, err, out)
		}
	}
	if p, _ := pem.Decode([]byte(get(t, s, PathRoot))); p == nil {
		t.Error("no root")
	} else if c, err := x509.ParseCertificate(p.Bytes); err != nil || !c.Equal(s.f.Root) {
		t.Errorf("root: %v", err)
	}
}

func get(t *testing.T, s *site, path string) string {
	t.Helper()
	status, text := s.get(path)
	if status != 200 {
		t.Errorf("GET %s: %d", path, status)
	}
	return text
}
