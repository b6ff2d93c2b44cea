// Package manifest describes a built image: what went in, what came out, and what a TPM will measure of it.
package manifest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
)

// MaxSize limits a manifest file.
const MaxSize = 1 << 20

// A Digest is a SHA-256 value, written in hex.
type Digest [32]byte

// String returns the digest in lower-case hex.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText writes lower-case hex.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText accepts exactly 64 hex digits.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != 2*len(d) {
		return fmt.Errorf("parse digest: %d characters, want %d", len(text), 2*len(d))
	}
	if _, err := hex.Decode(d[:], text); err != nil {
		return fmt.Errorf("parse digest: %w", err)
	}
	return nil
}

// An Input is one thing from outside the source tree that shaped the image.
type Input struct {
	Package string `json:"package"` // Debian package, or "go", "gcc"
	Version string `json:"version"`
	SHA256  Digest `json:"sha256"` // of the .deb, or of the files taken from it, in order
}

// A Domain names whose box this image can become: the hash is of the canonical domain.json inside.
type Domain struct {
	Name   string `json:"name"`
	SHA256 Digest `json:"sha256"`
}

// A Program is a file of the image whose code runs: a program, a library or a kernel module.
type Program struct {
	Path   string `json:"path"`
	SHA256 Digest `json:"sha256"`
}

// A Release is what an image knows about itself: /etc/kra/manifest.json.
type Release struct {
	Version  string    `json:"version"` // "v0.1.0"
	Epoch    uint64    `json:"epoch"`   // orders releases; approvals contain PolicyNV(epoch index <= this)
	Commit   string    `json:"commit"`  // stamp of the source tree
	Domain   Domain    `json:"domain"`
	Inputs   []Input   `json:"inputs"`
	Programs []Program `json:"programs"` // all that can run, by path
}

// A File is one artefact in dist/.
type File struct {
	Size   int64  `json:"size"`
	SHA256 Digest `json:"sha256"`
}

// A SecureBoot names the certificates of the firmware's key stores: SHA-256 of their DER. All zero: Secure Boot is off.
type SecureBoot struct {
	PK  Digest `json:"pk"`
	KEK Digest `json:"kek"`
	DB  Digest `json:"db"`
}

// An Image is dist/kra.json: the release, its artefacts and the PCR values that it will produce under firmware with these Secure Boot keys.
type Image struct {
	Release
	CommandLine string          `json:"cmdline"`
	Files       map[string]File `json:"files"` // by name in dist/
	SecureBoot  SecureBoot      `json:"secureBoot"`
	PCR4        Digest          `json:"pcr4"`
	PCR7        Digest          `json:"pcr7"`
	PCR11       Digest          `json:"pcr11"`
}

var errNotCanonical = errors.New("not the canonical encoding")

// Bytes returns the one encoding of the release.
func (r Release) Bytes() []byte { return encode(r) }

// Bytes returns the one encoding of the image description.
func (i Image) Bytes() []byte { return encode(i) }

// ParseRelease reads /etc/kra/manifest.json and refuses any but the canonical encoding.
func ParseRelease(data []byte) (Release, error) {
	var r Release
	if err := decode(data, &r); err != nil {
		return Release{}, fmt.Errorf("parse release manifest: %w", err)
	}
	if err := r.check(); err != nil {
		return Release{}, fmt.Errorf("parse release manifest: %w", err)
	}
	return r, nil
}

// ParseImage reads dist/kra.json and refuses any but the canonical encoding.
func ParseImage(data []byte) (Image, error) {
	var i Image
	if err := decode(data, &i); err != nil {
		return Image{}, fmt.Errorf("parse image manifest: %w", err)
	}
	if err := i.check(); err != nil {
		return Image{}, fmt.Errorf("parse image manifest: %w", err)
	}
	return i, nil
}

var word = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+_~:-]{0,127}$`)

func (r Release) check() error {
	if !word.MatchString(r.Version) {
		return fmt.Errorf("bad version %.130q", r.Version)
	}
	if !word.MatchString(r.Commit) {
		return fmt.Errorf("bad commit %.130q", r.Commit)
	}
	if r.Epoch == 0 {
		return errors.New("no epoch")
	}
	if r.Programs == nil {
		return errors.New("no list of programs")
	}
	for i, p := range r.Programs {
		if path.Clean(p.Path) != p.Path || !path.IsAbs(p.Path) {
			return fmt.Errorf("bad path %.130q of a program", p.Path)
		}
		if i > 0 && r.Programs[i-1].Path >= p.Path {
			return errors.New("programs are not in order")
		}
	}
	return nil
}

func encode(v any) []byte {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic("manifest does not encode: " + err.Error())
	}
	return append(b, '\n')
}

func decode(data []byte, v any) error {
	if len(data) > MaxSize {
		return fmt.Errorf("%d bytes, limit %d", len(data), MaxSize)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errNotCanonical
	}
	if !bytes.Equal(encode(v), data) {
		return errNotCanonical
	}
	return nil
}
