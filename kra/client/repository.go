package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/repository"
)

// ErrNoEntry means that the repository has no key for an access identifier.
var ErrNoEntry = errors.New("the repository has no such access identifier")

// A Repository is where an encryptor looks up keys without asking an agent: a folder or a web server, believed nothing.
// Each entry is signed by the repository's key, and each certificate in it leads up to the domain root.
type Repository struct {
	key    repository.Key
	trust  Trust
	folder string       // "" if it is a web server
	base   string       // of its address
	http   *http.Client // nil if it is a folder
}

// NewRepository prepares a repository in a folder, or at an address such as https://keys.example/kra. It reads nothing yet.
func NewRepository(where string, key repository.Key, t Trust) (*Repository, error) {
	if !key.Valid() {
		return nil, errors.New("prepare repository: no key to believe it by")
	}
	if !t.Valid() {
		return nil, errors.New("prepare repository: no domain root to believe its keys by")
	}
	if !strings.Contains(where, "://") {
		return &Repository{key: key, trust: t, folder: where}, nil
	}
	u, err := url.Parse(where)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("prepare repository: address %.100q: want https://HOST/PATH", where)
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	return &Repository{key: key, trust: t, base: strings.TrimSuffix(where, "/") + "/", http: &http.Client{
		Timeout: answerTimeout,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, TLSHandshakeTimeout: dialTimeout,
			ResponseHeaderTimeout: answerTimeout, IdleConnTimeout: idleTimeout, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Lookup returns the keys of access, of one box or of several: any of them opens. It returns ErrNoEntry if there are none.
func (r *Repository) Lookup(ctx context.Context, access kra.AccessID) ([]Key, error) {
	raw, err := r.read(ctx, repository.AccessFile(access), repository.MaxAccess)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", access, err)
	}
	now := time.Now()
	found, err := r.key.ParseAccess(raw, access, now)
	if err != nil {
		return nil, untrusted("%w", err)
	}
	return r.trust.keys(found, now)
}

// Keys returns the keys of all access identifiers.
func (r *Repository) Keys(ctx context.Context) ([]Key, error) {
	raw, err := r.read(ctx, repository.AllFile, repository.MaxImage)
	if err != nil {
		return nil, fmt.Errorf("read repository: %w", err)
	}
	now := time.Now()
	image, err := r.key.Parse(raw)
	if err == nil {
		err = image.ValidAt(now)
	}
	if err != nil {
		return nil, untrusted("%w", err)
	}
	return r.trust.keys(image.Access(), now)
}

// read returns a file of the repository.
func (r *Repository) read(ctx context.Context, name string, limit int64) ([]byte, error) {
	var in io.ReadCloser
	var err error
	if r.http == nil {
		in, err = os.Open(filepath.Join(r.folder, filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) && name != repository.AllFile {
			return nil, ErrNoEntry
		}
	} else {
		in, err = r.fetch(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) > limit:
		return nil, untrusted("%s is longer than %d bytes", name, limit)
	}
	return b, nil
}

func (r *Repository) fetch(ctx context.Context, name string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+name, nil)
	if err != nil {
		return nil, err
	}
	answer, err := r.http.Do(req)
	if err != nil {
		return nil, &Unreachable{URL: r.base, Err: err}
	}
	switch {
	case answer.StatusCode == http.StatusOK:
		return answer.Body, nil
	case answer.StatusCode == http.StatusNotFound && name != repository.AllFile:
		err = ErrNoEntry
	default:
		err = &Unreachable{URL: r.base, Err: fmt.Errorf("answer %d for %s", answer.StatusCode, name)}
	}
	return nil, errors.Join(err, answer.Body.Close())
}

// keys verifies entries as a directory's are.
func (t Trust) keys(entries []kra.PublicKey, now time.Time) ([]Key, error) {
	var out []Key
	for _, e := range entries {
		k, err := t.key(e, now)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// key verifies an entry's certificate, and that the entry says nothing else than it.
func (t Trust) key(e kra.PublicKey, now time.Time) (Key, error) {
	c, err := t.releaseKey(e.Certificate, now)
	if err != nil {
		return Key{}, untrusted("verify key of %s: %w", e.Access, err)
	}
	if said, err := kra.NewPublicKey(c.access, e.Title, c.pub, e.Certificate); err != nil || !e.Words(said) {
		return Key{}, untrusted("verify key of %s: the directory says other than the certificate", e.Access)
	}
	return Key{c, e.Title}, nil
}
