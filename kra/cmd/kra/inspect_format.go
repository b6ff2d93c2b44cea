package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/cms"
	"github.com/keyrelease/krabox/kra/client"
)

// refer notes how headers may name a key.
func (k known) refer(key client.Key) {
	cert := key.Certificate()
	refs, err := block.RefsOf(cert.RawSubjectPublicKeyInfo)
	if err != nil {
		return // cannot be: the key was verified
	}
	if to, err := cms.ToCertificate(cert); err == nil {
		refs = append(refs, to.Refs()...)
	}
	for _, r := range refs {
		k.refs[r] = string(key.Access())
	}
}

// viewOther shows a block in another format than age's.
func viewOther(name string, s sealed, names known) (v view, err error) {
	var head []byte
	switch b := s.(type) {
	case *cmsBlock:
		head = b.head.Bytes()
		v = view{Format: block.FormatCMS.String(), Cipher: b.head.Cipher()}
		for _, r := range b.head.Recipients() {
			w, err := r.Wrap()
			v.Stanzas = append(v.Stanzas, names.row(r.Kind(), r.Ref(), w, err))
		}
		if v.Ciphertext, err = io.Copy(io.Discard, b.content); err != nil {
			return v, damaged(err)
		}
	case *jweBlock:
		h := b.message.Head()
		head = h.Bytes()
		v = view{Format: block.FormatJWE.String(), Cipher: h.Encryption(), Ciphertext: b.message.Ciphertext()}
		for _, r := range h.Recipients() {
			w, err := r.Wrap()
			v.Stanzas = append(v.Stanzas, names.row(r.Algorithm(), r.Ref(), w, err))
		}
	}
	sum := sha256.Sum256(head)
	v.Name, v.Header, v.Hash = name, len(head), hex.EncodeToString(sum[:])
	return v, nil
}

func (k known) row(kind string, ref block.Ref, w block.Wrap, why error) stanzaRow {
	row := stanzaRow{Type: kind, Key: ref.String(), Access: k.refs[ref]}
	if why != nil {
		row.Why = why.Error()
		return row
	}
	row.Suite = w.Suite().String()
	return row
}

// formatTitles are what to call a block.
var formatTitles = map[string]string{block.FormatCMS.String(): "CMS", block.FormatJWE.String(): "JWE"}

func (v view) writeOther(w io.Writer) error {
	fmt.Fprintf(w, "%s: encryption block (%s, %s)\n  header      %d bytes, SHA-256 %s, as an agent is sent it\n  ciphertext  %d bytes\n  any one of these opens it:\n",
		plain(v.Name), formatTitles[v.Format], plain(v.Cipher), v.Header, v.Hash, v.Ciphertext)
	for _, s := range v.Stanzas {
		line := fmt.Sprintf("    %-5s %-16s %s  %s", plain(s.Type), s.Suite, s.Key, s.Access)
		fmt.Fprintln(w, strings.TrimRight(line, " "))
		if s.Why != "" {
			fmt.Fprintf(w, "          not by an agent: %s\n", plain(s.Why))
		}
	}
	if !slices.ContainsFunc(v.Stanzas, func(s stanzaRow) bool { return s.Suite != "" }) {
		return nil
	}
	_, err := fmt.Fprintln(w, "  who may open it, the agent decides when asked")
	return err
}
