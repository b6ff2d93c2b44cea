package main

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/board"
	"github.com/keyrelease/krabox/kra/board/boardtest"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/label"
)

// TestAdvertIsOnlyAPromise: a box that advertises, by a board that is right in all, and does not show itself when it is challenged, is asked
// for nothing.
func TestAdvertIsOnlyAPromise(t *testing.T) {
	d := boardtest.New(t, "example.org")
	box := d.Platform("box1", label.KeyRelease, label.Server, "127.0.0.1")
	var mu sync.Mutex
	var asked []string
	agent := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.Path)
		mu.Unlock()
		http.Error(w, "{}", http.StatusConflict)
	}))
	agent.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{box.Leaf()}}
	agent.StartTLS()
	defer agent.Close()
	b, err := board.NewServer(board.Config{Root: d.Root, Dir: t.TempDir(), Clock: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	page := httptest.NewServer(b)
	defer page.Close()
	if a, err := http.Post(page.URL+board.PathAdverts, "application/json", bytes.NewReader(box.Advert(1, agent.URL).Bytes())); err != nil || a.StatusCode != http.StatusNoContent {
		t.Fatalf("post advert: %v, %v", a, err)
	}
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.Root.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"HOME": t.TempDir(), setRoot.env: root, setBoard.env: page.URL}
	set := (&tool{env: func(name string) string { return env[name] }}).settings(flag.NewFlagSet("test", flag.ContinueOnError), setURL, setRoot, setCert, setKey, setBoard, setPermissions)
	r, err := set.readBoard(t.Context(), page.URL)
	if err != nil || !slices.Equal(addressesOn(r, label.KeyRelease), []string{agent.URL}) {
		t.Fatalf("control: the board offers %q, %v", addressesOn(r, label.KeyRelease), err)
	}
	a, err := set.reach(t.Context(), client.Delivery{})
	var no *client.Unreachable
	if a != nil || !errors.As(err, &no) {
		t.Errorf("reach() = %v, %v; want nobody", a, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(asked, []string{kra.PathChallenge}) {
		t.Errorf("it was asked for %q; want a challenge", asked)
	}
}
