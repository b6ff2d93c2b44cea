package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/attrcert"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/repository"
)

// Limits of what is published.
const (
	defaultValid = 7 * 24 * time.Hour
	backdated    = 5 * time.Minute // clocks differ
)

// runPublish is 'kra directory publish'.
func runPublish(t *tool, flags *flag.FlagSet, args []string) error {
	to := flags.String("o", "", "write to the folder `DIR`, and take away what is no longer published there")
	sign := flags.String("sign", "", "PEM `FILE` of the repository's private key, Ed25519 or P-256")
	valid := flags.Duration("valid", defaultValid, "`TIME` after which readers refuse what is not published anew")
	set := t.settings(flags, setRoot)
	files, err := parse(flags, args)
	if err != nil {
		return err
	}
	if *to == "" || *sign == "" || *valid <= 0 {
		return usagef("want 'kra directory publish -o DIR -sign KEY FILE...'")
	}
	key, err := readSigner(*sign)
	if err != nil {
		return err
	}
	var entries []repository.Entry
	for _, path := range files {
		more, err := set.entriesOf(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		entries = append(entries, more...)
	}
	now := time.Now()
	out, err := key.Publish(entries, now.Add(-backdated), now.Add(*valid))
	if err != nil {
		return err
	}
	if err := t.publish(*to, out); err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.stdout, "%s: %d entries, until %s UTC\n", *to, len(entries), now.Add(*valid).UTC().Format(time.DateTime))
	return err
}

func readSigner(path string) (repository.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return repository.Signer{}, err
	}
	defer clear(text)
	s, err := repository.ParseSigner(text)
	if err != nil {
		return repository.Signer{}, hint(fmt.Errorf("%s: %w", path, err), "openssl genpkey -algorithm ed25519 -out %s", path)
	}
	return s, nil
}

// entriesOf tells by looking what a file is: a kept directory, an attribute certificate, or a decryptor's certificate.
func (s settings) entriesOf(path string) ([]repository.Entry, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(b, []byte("{")) {
		return s.accessEntries(b)
	}
	if p, _ := pem.Decode(b); p != nil && p.Type == pemCertificate {
		return chainEntry(b)
	}
	c, err := attrcert.Decode(b)
	if err != nil {
		return nil, hint(err, "a file holds a directory (kra directory -json), certificates in PEM, or one attribute certificate")
	}
	e, err := repository.Attributes(c)
	return []repository.Entry{e}, err
}

// accessEntries takes a directory's keys, which must be those of the domain.
func (s settings) accessEntries(b []byte) (out []repository.Entry, err error) {
	tr, err := s.trust()
	if err != nil {
		return nil, err
	}
	if _, err := client.ParseDirectory(b, tr, time.Now()); err != nil {
		return nil, err
	}
	d, err := kra.ParseDirectory(b)
	if err != nil {
		return nil, err
	}
	for _, k := range d.Keys {
		e, err := repository.Access(k)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

const pemCertificate = "CERTIFICATE"

// chainEntry takes the certificates of one decryptor, his own first.
func chainEntry(b []byte) ([]repository.Entry, error) {
	var chain []*x509.Certificate
	for rest := bytes.TrimSpace(b); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var p *pem.Block
		if p, rest = pem.Decode(rest); p == nil || p.Type != pemCertificate {
			return nil, errors.New("something stands between the certificates, or is no certificate: only public things are published")
		}
		c, err := x509.ParseCertificate(p.Bytes)
		if err != nil {
			return nil, err
		}
		chain = append(chain, c)
	}
	e, err := repository.Decryptor(chain...)
	return []repository.Entry{e}, err
}

// publish writes the files: those of access identifiers first, and the one that counts for agents last.
func (t *tool) publish(dir string, files map[string][]byte) error {
	names := slices.Sorted(maps.Keys(files)) // access/… comes before all.jsonl
	for _, name := range names {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		out, err := t.create(path, modeBlock, replaceOld)
		if err != nil {
			return err
		}
		if _, err = out.Write(files[name]); err == nil {
			err = out.commit()
		}
		if err = errors.Join(err, out.discard()); err != nil {
			return err
		}
	}
	return withdraw(dir, files)
}

// withdraw removes the files of access identifiers that are no longer published.
func withdraw(dir string, files map[string][]byte) error {
	folder := filepath.Dir(filepath.FromSlash(repository.AccessFile("x")))
	old, err := os.ReadDir(filepath.Join(dir, folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range old {
		id, err := kra.ParseAccessID(trimSuffix(f.Name()))
		if err != nil || files[repository.AccessFile(id)] != nil || filepath.Base(repository.AccessFile(id)) != f.Name() {
			continue
		}
		if err := os.Remove(filepath.Join(dir, folder, f.Name())); err != nil {
			return err
		}
	}
	return nil
}

func trimSuffix(name string) string { return name[:len(name)-len(filepath.Ext(name))] }

// listRepository lists the keys of a repository.
func (t *tool) listRepository(ctx context.Context, r *client.Repository) error {
	keys, err := r.Keys(ctx)
	if err != nil {
		return err
	}
	return t.keyTable(keys)
}
