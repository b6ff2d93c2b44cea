package receipt

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// MaxCheckpoint bounds a signed checkpoint, in bytes.
const MaxCheckpoint = 8 << 10

// originPrefix starts a checkpoint's first line; the box's name follows.
const originPrefix = "kra/log/"

// A Checkpoint is what the box signs over its log after each batch. As text it is a C2SP checkpoint:
//
//	kra/log/BOX
//	SIZE
//	ROOT (base64)
//	hsm INSTANCE N HEAD MAC      (hex; absent before the first HSM item)
//	generation N                 (of the sealed state)
//	reset N                      (the TPM's resetCount)
//	time SECONDS                 (since 1970, the box's clock)
type Checkpoint struct {
	Box        string
	Size       int64
	Root       tlog.Hash
	HSM        ChainHead // the highest item up to which every item is in the log; zero Instance: none
	Generation uint64
	Reset      uint64
	Time       time.Time // whole seconds, UTC
}

// Text returns the note's text.
func (c Checkpoint) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s\n%d\n%s\n", originPrefix, c.Box, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
	if c.HSM.Instance != (Instance{}) {
		fmt.Fprintf(&b, "hsm %s %d %s %s\n", c.HSM.Instance, c.HSM.N, c.HSM.Head, c.HSM.MAC)
	}
	fmt.Fprintf(&b, "generation %d\nreset %d\ntime %d\n", c.Generation, c.Reset, c.Time.Unix())
	return b.String()
}

// ParseCheckpoint reads a note's text: the one form that Text gives.
func ParseCheckpoint(text string) (Checkpoint, error) {
	if len(text) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("parse checkpoint: longer than %d bytes", MaxCheckpoint)
	}
	c, err := readCheckpoint(strings.Split(strings.TrimSuffix(text, "\n"), "\n"))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("parse checkpoint: %w", err)
	}
	if c.Text() != text {
		return Checkpoint{}, errors.New("parse checkpoint: not in canonical form")
	}
	return c, nil
}

// readCheckpoint is lax where re-encoding will be strict.
func readCheckpoint(lines []string) (c Checkpoint, err error) {
	if len(lines) == 7 {
		if c.HSM, err = parseHSM(lines[3]); err != nil {
			return c, err
		}
		lines = append(lines[:3:3], lines[4:]...)
	}
	if len(lines) != 6 {
		return c, errors.New("wrong number of lines")
	}
	c.Box = strings.TrimPrefix(lines[0], originPrefix)
	if err := CheckBox(c.Box); err != nil {
		return c, err
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		return c, err
	}
	c.Root = root
	var size, seconds uint64
	fields := []struct {
		prefix string
		line   string
		to     *uint64
	}{{"", lines[1], &size}, {"generation ", lines[3], &c.Generation}, {"reset ", lines[4], &c.Reset}, {"time ", lines[5], &seconds}}
	for _, f := range fields {
		bits := 64
		if f.to == &size || f.to == &seconds {
			bits = 63 // both become signed
		}
		if *f.to, err = strconv.ParseUint(strings.TrimPrefix(f.line, f.prefix), 10, bits); err != nil {
			return c, err
		}
	}
	c.Size, c.Time = int64(size), time.Unix(int64(seconds), 0).UTC()
	return c, nil
}

func parseHSM(line string) (h ChainHead, err error) {
	f := strings.Split(line, " ")
	if len(f) != 5 || f[0] != "hsm" {
		return h, errors.New("malformed hsm line")
	}
	if h.N, err = strconv.ParseUint(f[2], 10, 64); err != nil {
		return h, err
	}
	return h, errors.Join(h.Instance.UnmarshalText([]byte(f[1])), h.Head.UnmarshalText([]byte(f[3])), h.MAC.UnmarshalText([]byte(f[4])))
}

// CheckBox refuses a name that cannot be a box's: [a-z0-9][a-z0-9-]{0,62}.
func CheckBox(name string) error {
	ok := len(name) >= 1 && len(name) <= 63 && name[0] != '-'
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-')
	}
	if !ok {
		return fmt.Errorf("box name %.80q: want [a-z0-9][a-z0-9-]{0,62}", name)
	}
	return nil
}

// VerifyCheckpoint opens a signed checkpoint whose signer the path certifies, at the checkpoint's own time, up to
// one of the roots, for this very box.
func VerifyCheckpoint(signed string, path Path, roots *x509.CertPool) (Checkpoint, Name, error) {
	c, err := openCheckpoint(signed, path)
	if err != nil {
		return Checkpoint{}, Name{}, err
	}
	name, err := path.Verify(roots, c.Time)
	if err != nil {
		return Checkpoint{}, Name{}, err
	}
	if name.Box != c.Box {
		return Checkpoint{}, Name{}, fmt.Errorf("verify checkpoint: log of box %q signed by a key of box %q", c.Box, name.Box)
	}
	return c, name, nil
}

// openCheckpoint checks the note's signature under the path's leaf; the path itself is not verified.
func openCheckpoint(signed string, path Path) (Checkpoint, error) {
	if len(signed) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("verify checkpoint: longer than %d bytes", MaxCheckpoint)
	}
	origin, _, _ := strings.Cut(signed, "\n")
	v, err := path.verifier(origin)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("verify checkpoint: %w", err)
	}
	n, err := note.Open([]byte(signed), note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("verify checkpoint: %w", err)
	}
	return ParseCheckpoint(n.Text)
}
