package boxtest_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/label"
)

// A challenger speaks to a box over one connection of its own.
type challenger struct {
	t     testing.TB
	url   string
	http  *http.Client
	roots *x509.CertPool
}

func newChallenger(t testing.TB, b *boxtest.Box) *challenger {
	t.Helper()
	root, err := os.ReadFile(filepath.Join(b.Domain, desk.RootFile))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxConnsPerHost: 1}
	t.Cleanup(tr.CloseIdleConnections)
	return &challenger{t, b.Agent(nil).URL(), &http.Client{Transport: tr, Timeout: time.Minute}, pool}
}

// ask sends a challenge and returns the answer with this end's channel.
func (c *challenger) ask(nonce []byte, l label.ID) (status int, answer, channel []byte) {
	c.t.Helper()
	body := label.Challenge{Nonce: nonce, Label: l}.Bytes()
	res, err := c.http.Post(c.url+kra.PathChallenge, kra.ContentType, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	if answer, err = io.ReadAll(io.LimitReader(res.Body, label.MaxConfirmation)); err != nil {
		c.t.Fatal(err)
	}
	if channel, err = res.TLS.ExportKeyingMaterial(label.Exporter, nonce, label.NonceSize); err != nil {
		c.t.Fatal(err)
	}
	return res.StatusCode, answer, channel
}

func (c *challenger) verify(answer, nonce, channel []byte) error {
	c.t.Helper()
	all, err := label.ParseConfirmations(answer)
	if err != nil {
		c.t.Fatalf("%v: %s", err, answer)
	}
	_, err = all.Confirmations[0].Verify(label.Asked{Roots: c.roots, Now: time.Now(), Nonce: nonce, Channel: channel})
	return err
}

func newNonce() []byte {
	n := make([]byte, label.NonceSize)
	rand.Read(n)
	return n
}

// Whoever knows the domain's root alone can have a whole box show what it runs; what it shows serves for this challenge on this
// connection only.
func TestChallenge(t *testing.T) {
	b := boxtest.Start(t)
	id, err := b.Agent(nil).Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if id.Label != "key-release" || id.Release == "" || id.Epoch != 1 || len(id.Checks) != 6 {
		t.Errorf("Verify() = %+v", id)
	}
	victim, thief := newChallenger(t, b), newChallenger(t, b)
	nonce := newNonce()
	status, answer, channel := victim.ask(nonce, label.KeyRelease)
	if status != http.StatusOK {
		t.Fatalf("%d: %s", status, answer)
	}
	if err := victim.verify(answer, nonce, channel); err != nil {
		t.Fatal(err)
	}
	if err := victim.verify(answer, newNonce(), channel); err == nil || !strings.Contains(err.Error(), "another challenge") {
		t.Errorf("replayed: %v", err)
	}
	_, relayed, _ := thief.ask(nonce, label.KeyRelease)
	if err := victim.verify(relayed, nonce, channel); err == nil || !strings.Contains(err.Error(), "relays") {
		t.Errorf("relayed: %v", err)
	}
	if status, answer, _ := victim.ask(newNonce(), "maintenance"); status != http.StatusConflict || bytes.Contains(answer, []byte("signature")) {
		t.Errorf("label that the box is not: %d %s", status, answer)
	}
	if status, answer, channel = victim.ask(nonce, ""); status != http.StatusOK {
		t.Fatalf("all that it can be: %d %s", status, answer)
	}
	all, err := label.ParseConfirmations(answer)
	if err != nil {
		t.Fatal(err)
	}
	var can []label.ID
	for _, c := range all.Confirmations {
		if _, err := c.Verify(label.Asked{Roots: victim.roots, Now: time.Now(), Nonce: nonce, Channel: channel}); err != nil {
			t.Errorf("all that it can be: %s: %v", c.Statement.Label, err)
		}
		can = append(can, c.Statement.Label)
	}
	if !slices.Equal(can, []label.ID{label.KeyRelease, label.Root}) {
		t.Errorf("it shows that it can be %q", can)
	}
}

// A storm of challenges is turned away in part, and nobody else notices but by waiting for one of them.
func TestChallengeStorm(t *testing.T) {
	b := boxtest.Start(t)
	legalTeam(b)
	bob := b.Person("bob")
	agent := b.Agent(&bob)
	h, _ := header(t, agent, "privileged")
	stop := make(chan struct{})
	var storm sync.WaitGroup
	var answered, turnedAway atomic.Int64
	for range 6 {
		c := newChallenger(t, b)
		storm.Go(func() { c.storm(stop, &answered, &turnedAway) })
	}
	for range 20 {
		if !asks(t, agent, h) {
			t.Error("refused beside a storm of challenges")
		}
	}
	b.Do("access add board")
	b.Do("key generate p256 for board") // takes a leaf of the label key, and the record
	close(stop)
	storm.Wait()
	if answered.Load() == 0 || turnedAway.Load() == 0 {
		t.Errorf("%d answered, %d turned away: no storm", answered.Load(), turnedAway.Load())
	}
}

func (c *challenger) storm(stop <-chan struct{}, answered, turnedAway *atomic.Int64) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		res, err := c.http.Post(c.url+kra.PathChallenge, kra.ContentType, bytes.NewReader(label.Challenge{Nonce: newNonce(), Label: label.KeyRelease}.Bytes()))
		if err != nil {
			c.t.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		switch res.StatusCode {
		case http.StatusOK:
			answered.Add(1)
		case http.StatusServiceUnavailable:
			turnedAway.Add(1)
		default:
			c.t.Errorf("challenge: %d", res.StatusCode)
			return
		}
	}
}
