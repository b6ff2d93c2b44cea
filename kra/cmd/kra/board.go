package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/keyrelease/krabox/kra/board"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/label"
)

var (
	setBoard       = setting{"board", "KRA_BOARD", "address of the domain's board, a `URL`: what the domain permits, and which boxes there are"}
	setPermissions = setting{"permissions", "KRA_PERMISSIONS", "permissions of the domain in a `FILE`; a box that they do not allow is not talked to"}
)

var boardCommand = command{
	name:  "board",
	args:  "list|find [-at URL] [-label LABEL] [-part PART]",
	brief: "find out who could provide a service, and who may take part",
	help: `
Reads the board of a domain, at the domain's server or at a box, and verifies every
certificate on it up to the domain root: who advertises, for which label, by what the
domain vouches for it, and whether the domain permits it. What does not hold is left
out, and said to standard error. An advert says what a platform could be; what it is,
only a challenge shows (kra verify).

  kra board list -at https://board.example.org
  kra board list -part client
  kra board find -label key-release

find prints the addresses of those who could provide the service of the label, one on
a line; it fails if there are none.
`,
	run: runBoard,
}

func runBoard(t *tool, ctx context.Context, fs *flag.FlagSet, args []string) error {
	at := fs.String("at", "", "`URL` of the board ("+setBoard.env+")")
	of := fs.String("label", "", "only this `LABEL`")
	part := fs.String("part", "", "only platforms that stand on this side: `PART` is server, client or peer")
	asJSON := fs.Bool("json", false, "write JSON")
	set := t.settings(fs, setRoot, setPermissions)
	words, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(words) != 1 || words[0] != "list" && words[0] != "find" {
		return usagef("want 'kra board list' or 'kra board find -label LABEL'")
	}
	if *at == "" {
		*at = t.env(setBoard.env)
	}
	if *at == "" {
		return usagef("which board? give -at, or set %s", setBoard.env)
	}
	var only label.Part
	if *part != "" {
		if only, err = label.ParsePart(*part); err != nil {
			return usagef("-part: %v", err)
		}
	}
	r, err := set.readBoard(ctx, *at)
	if err != nil {
		return err
	}
	for _, why := range r.Ignored() {
		fmt.Fprintf(t.stderr, "ignored: %s\n", plain(why))
	}
	if words[0] == "find" {
		return t.findOn(r, label.ID(*of))
	}
	var chosen []label.Offered
	for _, o := range r.Offers() {
		if a := o.Advert(); (*of == "" || string(a.Label) == *of) && (only == 0 || a.Part == only) {
			chosen = append(chosen, o)
		}
	}
	if *asJSON {
		return t.boardJSON(chosen)
	}
	return t.boardTable(chosen)
}

func (t *tool) findOn(r board.Reading, l label.ID) error {
	if l == "" {
		return usagef("which service? give -label, such as -label key-release")
	}
	all := addressesOn(r, l)
	if len(all) == 0 {
		return fmt.Errorf("nobody on the board could provide the service of label %q", l)
	}
	for _, a := range all {
		fmt.Fprintln(t.stdout, a)
	}
	return nil
}

func addressesOn(r board.Reading, l label.ID) (out []string) {
	for _, o := range r.Providers(l) {
		out = append(out, o.Advert().Addresses...)
	}
	return out
}

func (t *tool) boardTable(all []label.Offered) error {
	w := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tLABEL\tOFFER\tRELEASE\tUNTIL\tADDRESS")
	for _, o := range all {
		a := o.Advert()
		release := "-"
		if v := o.Values(); len(v) > 0 {
			release = v[0].Release
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", a.Name, a.Label, a.Offer, plain(release), o.Until().UTC().Format(time.DateTime), strings.Join(a.Addresses, " "))
	}
	return w.Flush()
}

func (t *tool) boardJSON(all []label.Offered) error {
	out := []any{}
	for _, o := range all {
		out = append(out, struct {
			label.Advert
			Key         label.Digest  `json:"key"`
			Attester    label.Digest  `json:"attester"`
			Values      []label.Value `json:"values"`
			Description string        `json:"description"`
		}{o.Advert(), o.Key(), o.Attester(), o.Values(), o.Description()})
	}
	return json.NewEncoder(t.stdout).Encode(out)
}

// readBoard reads a board by the newest permissions that are known, and remembers its own.
func (s settings) readBoard(ctx context.Context, at string) (board.Reading, error) {
	tr, err := s.trust()
	if err != nil {
		return board.Reading{}, err
	}
	known, err := s.knownPermissions(tr)
	if err != nil {
		return board.Reading{}, err
	}
	r, err := client.FetchBoard(ctx, at, tr, known)
	if err != nil {
		return board.Reading{}, err
	}
	if p, ok := r.Permissions(); ok {
		return r, s.remember(tr, p)
	}
	return r, nil
}

// permitted is what the domain permits, by file, by the board, or by memory where the board does not answer; nil if neither was named.
func (s settings) permitted(ctx context.Context) (*label.Permissions, []string, error) {
	if s.get(setBoard) == "" && s.get(setPermissions) == "" {
		return nil, nil, nil
	}
	tr, err := s.trust()
	if err != nil {
		return nil, nil, err
	}
	known, err := s.knownPermissions(tr)
	if err != nil {
		return nil, nil, err
	}
	var found []string
	if at := s.get(setBoard); at != "" {
		r, err := s.readBoard(ctx, at)
		var gone *client.Unreachable
		switch {
		case errors.As(err, &gone) && known != nil: // held below to be current
		case err != nil:
			return nil, nil, err
		default:
			found = addressesOn(r, label.KeyRelease)
			if p, ok := r.Permissions(); ok {
				known = &p
			}
		}
	}
	if known == nil {
		return nil, found, nil // the domain has never said anything
	}
	if err := known.Permissions.Current(time.Now()); err != nil {
		return nil, nil, &client.Untrusted{Err: err}
	}
	return &known.Permissions, found, nil
}

// knownPermissions are the newest of the file that was named and of what was seen before; nil if there are none.
func (s settings) knownPermissions(tr client.Trust) (*label.SignedPermissions, error) {
	seen, err := s.remembered(tr)
	path := s.get(setPermissions)
	if err != nil || path == "" {
		return seen, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p, err := tr.ParsePermissions(text, time.Now())
	if err == nil && seen != nil {
		if old := p.Permissions.Follows(seen.Permissions); old != nil {
			err = &client.Untrusted{Err: old}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &p, s.remember(tr, p)
}

// memory is the file of the newest permissions that were seen under a root.
func (s settings) memory(tr client.Trust) (string, error) {
	dir := s.t.env("XDG_STATE_HOME")
	if dir == "" {
		home := s.t.env("HOME")
		if home == "" {
			return "", usagef("set HOME or XDG_STATE_HOME: what the domain permits is remembered there")
		}
		dir = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(dir, "kra", label.Digest(tr.ID()).String()+".permissions"), nil
}

// remembered reads the memory. What is there and cannot be believed is an error: else spoiling it would be a way to go back.
func (s settings) remembered(tr client.Trust) (*label.SignedPermissions, error) {
	path, err := s.memory(tr)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p, err := label.ParsePermissions(b)
	if err == nil {
		_, err = p.VerifyUnder(tr.Roots(), time.Now())
	}
	if err != nil {
		return nil, &client.Untrusted{Err: fmt.Errorf("%s: %w", path, err)}
	}
	return &p, nil
}

// remember keeps permissions that were verified, if they are newer than what is kept.
func (s settings) remember(tr client.Trust, p label.SignedPermissions) error {
	old, err := s.remembered(tr)
	if err != nil || old != nil && old.Permissions.Sequence >= p.Permissions.Sequence {
		return err
	}
	path, err := s.memory(tr)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	out, err := s.t.create(path, modePlain, replaceOld)
	if err != nil {
		return err
	}
	if _, err = out.Write(p.Bytes()); err == nil {
		err = out.commit()
	}
	return errors.Join(err, out.discard())
}

// find connects to the first box on the board that shows, now, that it is a key release agent which the domain permits.
func (s settings) find(ctx context.Context, d client.Delivery) (*client.Agent, error) {
	p, all, err := s.permitted(ctx)
	if err != nil {
		return nil, err
	}
	var failed error
	for _, url := range all {
		a, err := s.agentWith(url, d, p)
		if err != nil {
			return nil, err
		}
		if _, err = a.Verify(ctx); err == nil {
			return a, nil
		}
		a.Close()
		failed = errors.Join(failed, err)
	}
	if failed == nil {
		failed = fmt.Errorf("nobody on the board %s could release keys", s.get(setBoard))
	}
	return nil, &client.Unreachable{URL: s.get(setBoard), Err: failed}
}
