package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/kra/block"
)

var inspectCommand = command{
	name:  "inspect",
	args:  "[FILE]",
	brief: "show what the header of a block says",
	help: `
Nothing is decrypted and nobody is asked. With a directory (-directory) the key ids
are shown with the access identifiers that they belong to now; a block itself holds
no names. The header is not proven until somebody opens it.
`,
	run: runInspect,
}

// A view is what inspect shows, also as JSON.
type view struct {
	Name       string      `json:"name"`
	Format     string      `json:"format"`
	Cipher     string      `json:"cipher,omitempty"` // of the content, where the format leaves a choice
	Header     int         `json:"header_bytes"`
	Hash       string      `json:"header_sha256"`
	Ciphertext int64       `json:"ciphertext_bytes"`
	Stanzas    []stanzaRow `json:"stanzas"`
}

type stanzaRow struct {
	Type   string `json:"type"`
	Suite  string `json:"suite,omitempty"`
	KeyID  string `json:"key_id,omitempty"`
	Tag    string `json:"tag,omitempty"`
	Key    string `json:"key,omitempty"` // how CMS and JWE name it, KIND:VALUE
	Access string `json:"access,omitempty"`
	Why    string `json:"why,omitempty"` // an agent does not release it
}

func runInspect(t *tool, _ context.Context, fs *flag.FlagSet, args []string) error {
	asJSON := fs.Bool("json", false, "write JSON")
	set := t.settings(fs, setRoot, setDirectory)
	files, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(files) > 1 {
		return usagef("one file at a time, not %d", len(files))
	}
	path := stdio
	if len(files) == 1 {
		path = files[0]
	}
	v, err := t.view(path, set)
	if err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(t.stdout).Encode(v)
	}
	return v.write(t.stdout)
}

func (t *tool) view(path string, set settings) (v view, err error) {
	f, name, err := t.open(path)
	if err != nil {
		return view{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	s, err := readSealed(f)
	if codeOf(err) == exitDamaged { // to be told to inspect it would not help
		return view{}, hint(fmt.Errorf("%s: %w", name, err), "this is not an encryption block; is it the right file?")
	}
	if err != nil {
		return view{}, fmt.Errorf("%s: %w", name, err)
	}
	names, err := accessNames(set)
	if err != nil {
		return view{}, err
	}
	a, ok := s.(*ageBlock)
	if !ok {
		return viewOther(name, s, names)
	}
	hash := a.header.Hash()
	v = view{Name: name, Format: block.FormatAge.String(), Header: len(a.header.Bytes()), Hash: hex.EncodeToString(hash[:]), Stanzas: rows(a.header, names)}
	v.Ciphertext, err = io.Copy(io.Discard, a.rest)
	return v, err
}

// known is what a directory tells of keys: to whom they belong, and what their tags are.
type known struct {
	access map[block.KeyID]string
	refs   map[block.Ref]string
	tagged []block.Tagged
}

// of returns whom a wrap is for, or nothing.
func (k known) of(w block.Wrap) string {
	ids := append(block.MatchTag(w, k.tagged), w.KeyID())
	return k.access[ids[0]]
}

func accessNames(set settings) (known, error) {
	names := known{access: map[block.KeyID]string{}, refs: map[block.Ref]string{}}
	path := set.get(setDirectory)
	if path == "" {
		return names, nil
	}
	d, err := set.directoryFile(path)
	for _, k := range d.Keys() {
		names.access[k.ID()] = string(k.Access())
		names.refer(k)
		if t, err := block.NewTagged(k.Public()); err == nil {
			names.tagged = append(names.tagged, t)
		}
	}
	return names, err
}

// rows lists the stanzas in their order. A kra stanza of a suite that is not known
// here has a type only.
func rows(h block.Header, names known) (out []stanzaRow) {
	for i, kind := range h.StanzaTypes() {
		row := stanzaRow{Type: kind}
		if w, ok := h.WrapOf(i); ok {
			row.Suite, row.Access = w.Suite().String(), names.of(w)
			if id, ok := w.Ref().KeyID(); ok {
				row.KeyID = id.String()
			} else {
				row.Tag = strings.TrimPrefix(w.Ref().String(), "tag:")
			}
		}
		out = append(out, row)
	}
	return out
}

func (v view) write(w io.Writer) error {
	if v.Format != block.FormatAge.String() {
		return v.writeOther(w)
	}
	fmt.Fprintf(w, "%s: encryption block (age v1)\n  header      %d bytes, SHA-256 %s\n  ciphertext  %d bytes\n  any one of these opens it:\n",
		plain(v.Name), v.Header, v.Hash, v.Ciphertext)
	for _, s := range v.Stanzas {
		switch {
		case s.Tag != "":
			fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("    %-12s tag %s  %s", s.Type, s.Tag, s.Access), " "))
		case s.KeyID == "":
			fmt.Fprintf(w, "    %s\n", s.Type)
		default:
			fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("    kra %-8s key %s  %s", s.Suite, s.KeyID, s.Access), " "))
		}
	}
	if !slices.ContainsFunc(v.Stanzas, func(s stanzaRow) bool { return s.KeyID != "" || s.Access != "" }) {
		return nil
	}
	_, err := fmt.Fprintln(w, "  who may open it, the agent decides when asked")
	return err
}
