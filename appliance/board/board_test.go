package board

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/board"
	"github.com/keyrelease/krabox/kra/board/boardtest"
	"github.com/keyrelease/krabox/kra/label"
)

const at = "https://box1.example.org:8443"

// A world is a keeper with a domain, a clock that can be set, and its domain's server.
type world struct {
	t      *testing.T
	domain *boardtest.Domain
	box    *boardtest.Platform
	dir    string
	log    bytes.Buffer
	*Keeper

	mu     sync.Mutex // guards what follows
	now    time.Time
	serial uint64
	mute   error // why the box has no label
	unable error
	saved  []label.SignedPermissions
	server *httptest.Server
	lie    http.Handler // in place of the domain's server
}

func newWorld(t *testing.T) *world {
	t.Helper()
	d := boardtest.New(t, "example.org")
	w := &world{t: t, domain: d, box: d.Platform("box1", label.KeyRelease, label.Server, "box1.example.org"), dir: t.TempDir(), now: time.Now(), serial: 1}
	key, err := label.NewKey(&d.Key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	s, err := board.NewServer(board.Config{Root: d.Root, Dir: w.dir, Clock: w.clock, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		lie := w.lie
		w.mu.Unlock()
		if lie != nil {
			lie.ServeHTTP(rw, r)
			return
		}
		s.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.server.Close)
	w.Keeper, err = New(Config{Domain: label.Domain{Name: d.Name, Root: d.Root.Raw, Label: key}, Box: "box1", Addresses: []string{at}, TPM: w, Clock: w.clock,
		Able: func() error { w.mu.Lock(); defer w.mu.Unlock(); return w.unable }, Keys: func() []board.Key { return nil }, Dial: (&net.Dialer{}).DialContext,
		Save: func(_ context.Context, p label.SignedPermissions) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.saved = append(w.saved, p)
			return nil
		}, Log: slog.New(slog.NewTextHandler(&w.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) clock() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }

func (w *world) later(d time.Duration) { w.mu.Lock(); defer w.mu.Unlock(); w.now = w.now.Add(d) }

func (w *world) lies(h http.Handler) { w.mu.Lock(); defer w.mu.Unlock(); w.lie = h }

func (w *world) state(mute, unable error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mute, w.unable = mute, unable
}

// Advertise signs as the box's label key does.
func (w *world) Advertise(_ context.Context, addresses []string, _ time.Duration) ([]label.SignedAdvert, error) {
	now := w.clock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serial++
	if w.mute != nil {
		return nil, w.mute
	}
	return []label.SignedAdvert{w.box.AdvertAt(now, w.serial, addresses...)}, nil
}

func (w *world) Retract(context.Context, label.ID) (label.SignedRetraction, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serial++
	return w.box.Retract(w.serial), w.mute
}

// permit posts permissions on the server.
func (w *world) permit(p label.SignedPermissions) {
	w.t.Helper()
	a, err := http.Post(w.server.URL+board.PathPermissions, "application/json", bytes.NewReader(p.Bytes()))
	if err != nil || a.StatusCode != http.StatusNoContent {
		w.t.Fatalf("post permissions: %v %v", a, err)
	}
	_ = a.Body.Close()
}

func (w *world) want(when string, want error) {
	w.t.Helper()
	if err := w.Health(); !errors.Is(err, want) || (err == nil) != (want == nil) {
		w.t.Errorf("%s: Health() = %v; want %v", when, err, want)
	}
}

// onBoard says whether the box is on its domain's board.
func (w *world) onBoard() bool {
	w.t.Helper()
	a, err := http.Get(w.server.URL + board.PathBoard)
	if err != nil {
		w.t.Fatal(err)
	}
	defer a.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(a.Body); err != nil {
		w.t.Fatal(err)
	}
	return strings.Contains(b.String(), `"name":"box1","label":"key-release"`)
}

func (w *world) settings() Settings {
	return Settings{URL: w.server.URL, Every: time.Minute, Limit: 10 * time.Minute}
}

// A box that follows a board stops when it has not seen it within the limit, when what it sees is stale, and comes back with a good look.
func TestStaleBoardCloses(t *testing.T) {
	w := newWorld(t)
	w.want("without a board", nil)
	w.Configure(w.settings(), nil)
	w.want("before the first look", ErrStale)
	w.permit(w.domain.Permissions(1, label.Revoke, 0))
	w.round(t.Context())
	w.want("seen", nil)
	if len(w.saved) != 1 || w.Permissions() == nil {
		t.Errorf("remembered %d permissions", len(w.saved))
	}
	w.lies(http.NotFoundHandler())
	w.later(9 * time.Minute)
	w.round(t.Context())
	w.want("within the limit", nil)
	w.later(2 * time.Minute)
	w.round(t.Context())
	w.want("beyond the limit", ErrStale)
	if !strings.Contains(strings.Join(w.Lines(), "\n"), "NOTHING IS RELEASED: the box has not seen") {
		t.Errorf("the console says %q", w.Lines())
	}
	w.lies(nil)
	w.later(time.Minute)
	w.round(t.Context())
	w.want("seen again", nil)
	w.later(45 * time.Minute)
	w.round(t.Context())
	w.want("shortly before the permissions end", nil)
	w.later(4 * time.Minute)
	w.round(t.Context())
	w.want("the permissions themselves have ended", label.ErrStale)
	if err := w.Health(); errors.Is(err, ErrStale) {
		t.Errorf("within the limit: Health() = %v; want that the permissions have ended", err)
	}
	w.permit(w.domain.PermissionsAt(w.clock(), 2, label.Revoke, 0))
	w.later(time.Minute)
	w.round(t.Context())
	w.want("renewed", nil)
}

// A board that lies moves nothing: what is unsigned, another domain's, or older than what was seen is as if it had not answered.
func TestLyingBoardMovesNothing(t *testing.T) {
	w := newWorld(t)
	other := boardtest.New(t, "example.org")
	revoked := label.Permission{Name: "box1", State: label.Revoked, Reason: "stolen"}
	first, second := w.domain.Permissions(1, label.Revoke, 0), w.domain.Permissions(2, label.Revoke, 0, revoked)
	w.permit(second)
	w.Configure(w.settings(), nil)
	w.round(t.Context())
	w.want("revoked", label.ErrRevoked)
	if !strings.Contains(w.log.String(), "stolen") {
		t.Errorf("the log does not say why: %s", w.log.String())
	}
	unsigned := w.domain.Permissions(3, label.Revoke, 0)
	unsigned.Signature = make([]byte, 64)
	stale := w.domain.PermissionsAt(w.clock().Add(-2*time.Hour), 3, label.Revoke, 0)
	for name, answer := range map[string][]byte{"older": first.Bytes(), "unsigned": unsigned.Bytes(), "another domain's": other.Permissions(9, label.Revoke, 0).Bytes(),
		"stale": stale.Bytes(), "too long": make([]byte, label.MaxDocument+1), "nothing": nil} {
		w.lies(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(answer) }))
		w.later(time.Minute)
		w.round(t.Context())
		w.want(name, label.ErrRevoked)
		if n := w.Permissions().Permissions.Sequence; n != 2 || len(w.saved) != 1 {
			t.Errorf("%s: the box knows number %d, and saved %d", name, n, len(w.saved))
		}
	}
	w.lies(nil)
	w.permit(w.domain.PermissionsAt(w.clock(), 3, label.Revoke, 0))
	w.later(time.Minute)
	w.round(t.Context())
	w.want("undone", nil)
	w.Configure(Settings{}, nil)
	w.want("without the board it keeps what it knows", nil)
	w.Configure(Settings{}, &second)
	if n := w.Permissions().Permissions.Sequence; n != 3 {
		t.Errorf("told older ones, it knows number %d", n)
	}
	w.Configure(Settings{}, pointer(w.domain.PermissionsAt(w.clock(), 4, label.Revoke, 9)))
	w.want("of an old release", label.ErrOldRelease)
	w.Configure(Settings{}, pointer(w.domain.PermissionsAt(w.clock(), 5, label.Attest, 0)))
	w.want("not granted", label.ErrNotGranted)
	w.Configure(Settings{}, pointer(w.domain.PermissionsAt(w.clock(), 6, label.Attest, 0, label.Permission{Name: "box1", State: label.Granted})))
	w.want("granted", nil)
	w.Configure(Settings{}, pointer(w.domain.PermissionsAt(w.clock(), 7, label.Revoke, 0, label.Permission{Key: w.box.Attester(), State: label.Revoked})))
	w.want("its attestation key is revoked", label.ErrRevoked)
}

func pointer[V any](v V) *V { return &v }

// The box is on the board while it could do what it says: it leaves with the service or the domain's permission, comes back, renews, and leaves at the end.
func TestAdvertsFollowTheService(t *testing.T) {
	w := newWorld(t)
	w.permit(w.domain.Permissions(1, label.Revoke, 0))
	w.Configure(w.settings(), nil)
	w.round(t.Context())
	if !w.onBoard() {
		t.Fatal("the box is not on the board")
	}
	if page := string(w.Documents()["/"].Body); !strings.Contains(page, "may provide the service") {
		t.Errorf("its own page: %s", page)
	}
	w.state(nil, errors.New("the log is full"))
	w.round(t.Context())
	if page := string(w.Documents()["/"].Body); w.onBoard() || strings.Contains(page, "may provide the service") {
		t.Error("a box that cannot release advertises that it could")
	}
	w.state(nil, nil)
	w.later(time.Second)
	w.round(t.Context())
	w.round(t.Context())
	if !w.onBoard() {
		t.Error("able again, the box is not on the board")
	}
	before := w.serial
	w.later(renewEvery)
	w.permit(w.domain.PermissionsAt(w.clock(), 2, label.Revoke, 0))
	w.round(t.Context())
	w.later(time.Minute)
	w.round(t.Context())
	if w.serial <= before || !w.onBoard() {
		t.Errorf("not renewed: serial %d after %d", w.serial, before)
	}
	w.state(errors.New("PCR 4 is not the approved one"), nil)
	w.later(renewEvery)
	w.round(t.Context())
	if err := w.Health(); err == nil {
		t.Error("a box that has its label no longer is permitted by its domain")
	}
	w.state(nil, nil)
	w.permit(w.domain.PermissionsAt(w.clock(), 3, label.Revoke, 0))
	for range 3 {
		w.later(time.Minute)
		w.round(t.Context())
	}
	if !w.onBoard() {
		t.Error("with its label again, the box is not on the board")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.Run(ctx)
	if w.onBoard() {
		t.Error("the box ended, and is still on the board")
	}
}
