package desk

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/kra/label"
)

const operatorsDir = "operators" // NAME.pem: public keys of operators' tokens

// Define makes a label of the domain and signs its definition. Its description is to lie in labels/LABEL.txt: a certificate refers to
// it. What is defined cannot be changed: certificates are out that rely on it.
func (d *Desk) Define(l label.Definition) error {
	l.Domain = d.domain.Name
	if l.Stages == nil {
		l.Stages = []label.Stage{}
	}
	if _, err := d.definition(l.Label); err == nil {
		return fmt.Errorf("define label: the domain has a label %q already", l.Label)
	}
	s, err := l.Sign(d.key)
	if err != nil {
		return fmt.Errorf("define label: %w", err)
	}
	dir := filepath.Join(d.dir, labelsDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("define label: %w", err)
	}
	text := filepath.Join(dir, string(l.Label)+".txt")
	if _, err := os.Stat(text); errors.Is(err, fs.ErrNotExist) {
		if err := writeWhole(text, []byte(l.Description+"\n"), 0o644); err != nil {
			return fmt.Errorf("define label: %w", err)
		}
	}
	if err := d.note(actDefine, string(l.Label), map[string]string{"part": l.Part.String(), "description": l.Description}); err != nil {
		return err
	}
	if err := writeWhole(filepath.Join(dir, string(l.Label)+".json"), s.Bytes(), 0o644); err != nil {
		return fmt.Errorf("define label: %w", err)
	}
	return nil
}

// Labels are all labels of the domain: the built-in ones, then its own.
func (d *Desk) Labels() ([]label.Definition, error) {
	out := label.Builtin()
	own, err := d.definitions()
	for _, s := range own {
		out = append(out, s.Definition)
	}
	return out, err
}

// definitions are the domain's own, sorted, their signatures checked.
func (d *Desk) definitions() ([]label.SignedDefinition, error) {
	files, err := filepath.Glob(filepath.Join(d.dir, labelsDir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("read labels: %w", err)
	}
	var out []label.SignedDefinition
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read labels: %w", err)
		}
		s, err := label.ParseDefinition(b)
		if err != nil {
			return nil, fmt.Errorf("read labels: %s: %w", filepath.Base(f), err)
		}
		if err := s.Verify(d.domain); err != nil {
			return nil, fmt.Errorf("read labels: %s: %w", filepath.Base(f), err)
		}
		out = append(out, s)
	}
	return out, nil
}

func (d *Desk) definition(l label.ID) (label.Definition, error) {
	all, err := d.Labels()
	if err != nil {
		return label.Definition{}, err
	}
	for _, x := range all {
		if x.Label == l {
			return x, nil
		}
	}
	return label.Definition{}, fmt.Errorf("the domain has no label %q; say domain label define", l)
}

// chosen are the definitions of labels of boxes; of none named, of all.
func (d *Desk) chosen(names []label.ID) ([]label.Definition, error) {
	if len(names) > 0 {
		var out []label.Definition
		for _, n := range names {
			l, err := d.definition(n)
			if err != nil {
				return nil, fmt.Errorf("approve release: %w", err)
			}
			if !l.OfBox() {
				return nil, fmt.Errorf("approve release: label %q is not one of boxes", n)
			}
			out = append(out, l)
		}
		return out, nil
	}
	all, err := d.Labels()
	return slices.DeleteFunc(all, func(l label.Definition) bool { return !l.OfBox() }), err
}

func labelNames(labels []label.Definition) string {
	var out []string
	for _, l := range labels {
		out = append(out, string(l.Label))
	}
	return strings.Join(out, ", ")
}

// count is how many approvals labels take.
func (d *Desk) count(labels []label.Definition) (int, error) {
	n := 0
	for _, l := range labels {
		who, err := d.attending(l)
		if err != nil {
			return 0, err
		}
		n += max(len(l.Stages), 1) * len(who)
		if l.Label == label.KeyRelease {
			n++
		}
	}
	return n, nil
}

// attending are the operators who may attend a label: who knows the box's presence passphrase, and the domain's tokens. For other
// labels it is nobody, once.
func (d *Desk) attending(l label.Definition) ([]label.Operator, error) {
	if !l.Operator {
		return []label.Operator{label.NoOperator}, nil
	}
	tokens, err := d.Operators()
	out := []label.Operator{label.Presence}
	for _, t := range tokens {
		out = append(out, label.ByToken(t.Key))
	}
	return out, err
}

// A Token is an operator's, who attends boxes by it.
type Token struct {
	Name string
	Key  label.Key
}

const maxOperators = 16

// AddOperator takes the public key of an operator's token, P-256 in PEM (PUBLIC KEY). Approvals from now on name it.
func (d *Desk) AddOperator(name string, text []byte) error {
	k, err := tokenKey(text)
	if err != nil {
		return fmt.Errorf("add operator: %w", err)
	}
	if _, err := label.ParseID(name); err != nil {
		return fmt.Errorf("add operator: its name: want [a-z0-9][a-z0-9-]{0,62}")
	}
	all, err := d.Operators()
	switch {
	case err != nil:
		return err
	case len(all) == maxOperators:
		return fmt.Errorf("add operator: the domain has %d, no more are possible", maxOperators)
	case slices.ContainsFunc(all, func(t Token) bool { return t.Name == name || t.Key == k }):
		return errors.New("add operator: this name, or this key, is an operator's already")
	}
	dir := filepath.Join(d.dir, operatorsDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("add operator: %w", err)
	}
	if err := d.note(actOperator, name, map[string]string{factKey: k.Name().String()}); err != nil {
		return err
	}
	return writeWhole(filepath.Join(dir, name+".pem"), text, 0o644)
}

// RemoveOperator takes an operator off the list: from the next approval on, boxes are not attended by this token.
func (d *Desk) RemoveOperator(name string) error {
	all, err := d.Operators()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(t Token) bool { return t.Name == name }) {
		return fmt.Errorf("remove operator: there is none called %.80q; 'domain operator list' shows them", name)
	}
	if err := d.note(actUnoperator, name, nil); err != nil {
		return err
	}
	return os.Remove(filepath.Join(d.dir, operatorsDir, name+".pem"))
}

// Operators are the tokens of the domain's operators.
func (d *Desk) Operators() ([]Token, error) {
	files, err := filepath.Glob(filepath.Join(d.dir, operatorsDir, "*.pem"))
	if err != nil {
		return nil, fmt.Errorf("read operators: %w", err)
	}
	if len(files) == 0 {
		return nil, nil
	}
	said, err := d.said(aboutNames(actOperator, actUnoperator, factKey))
	if err != nil {
		return nil, fmt.Errorf("read operators: %w", err)
	}
	var out []Token
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read operators: %w", err)
		}
		k, err := tokenKey(b)
		if err != nil {
			return nil, fmt.Errorf("read operators: %s: %w", filepath.Base(f), err)
		}
		name := strings.TrimSuffix(filepath.Base(f), ".pem")
		if counts, err := said.counts(name, k.Name().String(), f, "domain operator add"); err != nil {
			return nil, fmt.Errorf("read operators: %w", err)
		} else if counts {
			out = append(out, Token{name, k})
		}
	}
	return out, nil
}

func tokenKey(text []byte) (label.Key, error) {
	b, _ := pem.Decode(text)
	if b == nil || b.Type != "PUBLIC KEY" {
		return label.Key{}, errors.New("want a public key in PEM")
	}
	k, err := x509.ParsePKIXPublicKey(b.Bytes)
	if err != nil {
		return label.Key{}, errors.New("want a public key in PEM")
	}
	pub, ok := k.(*ecdsa.PublicKey)
	if !ok {
		return label.Key{}, errors.New("want a P-256 key")
	}
	return label.NewKey(pub)
}
