package release

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// A ledger is one group of one maintainer, in memory; what becomes of a real one, package admin tests.
type ledger struct {
	mu    sync.Mutex
	group kra.GroupState
}

func newLedger() *ledger {
	return &ledger{group: kra.GroupState{Group: "legal", Version: 1, Size: 1, Members: []string{"corp:CN=z"}}}
}

func (l *ledger) Show(who kra.Decryptor, group, _ string) (kra.GroupState, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if group != l.group.Group || who.String() != alice {
		return kra.GroupState{}, errors.New("not yours")
	}
	return l.group, nil
}

func (l *ledger) Edit(_ context.Context, who kra.Decryptor, cert *x509.Certificate, e kra.GroupEdit) (kra.GroupState, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := e.Verify("example", "box1", cert); err != nil {
		return kra.GroupState{}, err
	}
	if e.Group() != l.group.Group || who.String() != alice || e.Version() != l.group.Version {
		return kra.GroupState{}, errors.New("not yours, or not now")
	}
	all := slices.DeleteFunc(append(slices.Clone(l.group.Members), e.Add()...), func(m string) bool { return slices.Contains(e.Remove(), m) })
	slices.Sort(all)
	l.group = kra.GroupState{Group: "legal", Version: l.group.Version + 1, Size: len(all), Members: all}
	return kra.GroupState{Group: "legal", Version: l.group.Version, Size: len(all)}, nil
}

// groupEditOf is a statement of a client, by the key of its certificate.
func groupEditOf(t testing.TB, c *http.Client, group string, version uint64) []byte {
	t.Helper()
	return groupEditBy(t, c.Transport.(*http.Transport).TLSClientConfig.Certificates[0].PrivateKey.(crypto.Signer), group, version)
}

func groupEditBy(t testing.TB, key crypto.Signer, group string, version uint64) []byte {
	t.Helper()
	bob, err := kra.ParseDecryptor("corp:CN=bob")
	if err != nil {
		t.Fatal(err)
	}
	e, err := kra.SignGroupEdit("example", "box1", group, []kra.Decryptor{bob}, nil, version, key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGroupsRefuseAlike: who asks for a group that is not his, or that is not there, and who states what was not signed by
// the key of the channel, learn nothing from the answer, nor from when it leaves.
func TestGroupsRefuseAlike(t *testing.T) {
	w := newWorld(t)
	w.server.delay = 20 * time.Millisecond
	own := w.corp.issue(t, pkix.Name{CommonName: "alice", Organization: []string{"Example"}}, x509.ExtKeyUsageClientAuth)
	other := w.corp.issue(t, pkix.Name{CommonName: "alice", Organization: []string{"Example"}}, x509.ExtKeyUsageClientAuth)
	signer := func(c tls.Certificate) crypto.Signer { return c.PrivateKey.(crypto.Signer) }
	c := w.client(own)
	var first []byte
	for what, ask := range map[string]func() (*http.Response, error){
		"no such group": func() (*http.Response, error) { return c.Get("https://" + w.addr + kra.PathGroups + "?group=nobody") },
		"another's group": func() (*http.Response, error) {
			return w.mallory().Get("https://" + w.addr + kra.PathGroups + "?group=legal")
		},
		"another key": func() (*http.Response, error) {
			return c.Post("https://"+w.addr+kra.PathGroups, kra.ContentType, bytes.NewReader(groupEditBy(t, signer(other), "legal", 1)))
		},
		"another version": func() (*http.Response, error) {
			return c.Post("https://"+w.addr+kra.PathGroups, kra.ContentType, bytes.NewReader(groupEditBy(t, signer(own), "legal", 2)))
		},
		"of no such group": func() (*http.Response, error) {
			return c.Post("https://"+w.addr+kra.PathGroups, kra.ContentType, bytes.NewReader(groupEditBy(t, signer(own), "nobody", 1)))
		},
	} {
		begun := time.Now()
		resp, err := ask()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusForbidden || time.Since(begun) < w.server.delay {
			t.Errorf("%s: %s after %v", what, resp.Status, time.Since(begun))
		}
		if first == nil {
			first = body
		}
		if !bytes.Equal(body, first) {
			t.Errorf("%s: %s; another refusal is %s", what, body, first)
		}
	}
	if g, err := w.groups.Show(mustDecryptor(t, alice), "legal", ""); err != nil || g.Version != 1 {
		t.Errorf("the group is %+v, %v", g, err)
	}
	resp, err := c.Post("https://"+w.addr+kra.PathGroups, kra.ContentType, bytes.NewReader(groupEditBy(t, signer(own), "legal", 1)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("her own statement: %s", resp.Status)
	}
}

func mustDecryptor(t testing.TB, s string) kra.Decryptor {
	t.Helper()
	d, err := kra.ParseDecryptor(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
