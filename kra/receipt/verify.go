package receipt

import (
	"bufio"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// VerifyExport reads an export to its end and checks, up to the domain roots: that every record is in the tree of the
// checkpoint after it; every checkpoint's signature, by the receipt key then in use; that each receipt key after the
// first is introduced by the one before it; that hsmd's chain follows from the records, each unwrap recorded once; that
// generations never go back; and that all the evidence is about this very log.
func VerifyExport(r io.Reader, roots *x509.CertPool, evidence ...Evidence) (Report, error) {
	return ReadExport(r, roots, func(int64, Public, []byte) {}, evidence...)
}

// A Reader is given each record of an export, in order, with its index and its private part, nil if that is redacted. What
// it is given is true only if the whole export then verifies. It must not keep or write to the private part.
type Reader func(index int64, p Public, private []byte)

// ReadExport is VerifyExport for a reader of the records.
func ReadExport(r io.Reader, roots *x509.CertPool, read Reader, evidence ...Evidence) (Report, error) {
	v := &verifier{roots: roots, read: read, lives: map[Instance]*Life{}, report: Report{Records: map[Kind]int64{}}}
	if err := v.run(lineReader{bufio.NewReaderSize(r, 1<<16)}, evidence); err != nil {
		return Report{}, fmt.Errorf("verify log: %w", err)
	}
	return v.report, nil
}

// A verifier walks along an export.
type verifier struct {
	roots  *x509.CertPool
	read   Reader
	box    string
	edge   Edge
	path   Path      // of the receipt key in use
	from   time.Time // path verified for checkpoints from here
	until  time.Time // to here
	name   Name
	lives  map[Instance]*Life
	order  []Instance
	head   *Checkpoint
	open   int64 // records since the last checkpoint
	facts  []fact
	report Report
}

func (v *verifier) run(lines lineReader, evidence []Evidence) error {
	if err := v.start(lines); err != nil {
		return err
	}
	if err := v.collect(evidence); err != nil {
		return err
	}
	if err := v.check(); err != nil {
		return err
	}
	for n := 2; ; n++ {
		b, err := lines.next(maxExportLine)
		if err == io.EOF {
			return v.end()
		}
		if err == nil {
			err = v.line(b)
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
}

// start reads the header.
func (v *verifier) start(lines lineReader) error {
	b, err := lines.next(maxHeaderLine)
	if err != nil {
		return fmt.Errorf("line 1: %w", err)
	}
	var h ExportHeader
	if err := canonical(b, &h); err != nil || h.Format != ExportFormat {
		return errors.New("line 1: not a log export")
	}
	if err := CheckBox(h.Box); err != nil {
		return fmt.Errorf("line 1: %w", err)
	}
	v.box, v.report.From = h.Box, h.From
	if (h.From == 0) != (h.Start == nil) {
		return errors.New("line 1: a log from its first record has no start, and any other has one")
	}
	if h.Start != nil {
		if err := v.startAt(h.From, *h.Start); err != nil {
			return fmt.Errorf("line 1: %w", err)
		}
	}
	return nil
}

func (v *verifier) startAt(from int64, s ExportStart) (err error) {
	if v.edge, err = NewEdge(from, s.Edge); err != nil {
		return err
	}
	for _, state := range s.Lives {
		l, err := state.Life()
		if err != nil || v.lives[state.Instance] != nil {
			return fmt.Errorf("instance %s: malformed", state.Instance)
		}
		v.lives[state.Instance], v.order = l, append(v.order, state.Instance)
	}
	v.path = s.Path
	return v.checkpoint(s.Checkpoint)
}

func (v *verifier) line(b []byte) error {
	var l exportLine
	if err := canonical(b, &l); err != nil {
		return err
	}
	switch {
	case l.Record != nil && l.Checkpoint == "":
		leaf, err := v.record(*l.Record)
		if err != nil {
			return fmt.Errorf("record %d: %w", v.edge.Size(), err)
		}
		v.edge.Append(leaf)
		return v.check()
	case l.Record == nil && l.Checkpoint != "":
		if v.open == 0 {
			return errors.New("a checkpoint over no new record")
		}
		return v.checkpoint(l.Checkpoint)
	}
	return errors.New("neither record nor checkpoint")
}

// record takes over what the record says and returns its leaf.
func (v *verifier) record(r exportRecord) (tlog.Hash, error) {
	p, err := ParsePublic(r.Public)
	if err != nil {
		return tlog.Hash{}, err
	}
	leaf, whole, err := r.leaf()
	if err != nil {
		return tlog.Hash{}, err
	}
	if !whole {
		v.report.Redacted++
	}
	if err := v.agree(leaf); err != nil {
		return tlog.Hash{}, err
	}
	v.report.Records[p.Kind]++
	v.open++
	v.read(v.edge.Size(), p, r.Private)
	if p.Item != nil {
		return leaf, v.item(*p.Item)
	}
	if p.Key != nil {
		return leaf, v.newKey(*p.Key)
	}
	return leaf, nil
}

func (v *verifier) item(i Item) error {
	l := v.lives[i.Instance]
	if l == nil {
		l = NewLife(i.Instance)
		v.lives[i.Instance], v.order = l, append(v.order, i.Instance)
	}
	return l.Add(i)
}

// newKey takes over a receipt key; the checkpoint after this record verifies its path.
func (v *verifier) newKey(l Link) error {
	if old, err := v.path.Key(); err == nil {
		if err := l.Verify(old, v.box, v.edge.Size()); err != nil {
			return err
		}
	} else if len(l.Old) != 0 || v.edge.Size() != 0 {
		return errors.New("the first receipt key is not the first record")
	}
	if len(l.Path.certs) == 0 {
		return errors.New("receipt key without a certificate")
	}
	v.path, v.from, v.until = l.Path, time.Time{}, time.Time{}
	leaf := l.Path.certs[0]
	v.report.Keys = append(v.report.Keys, KeyPeriod{v.edge.Size(), leaf.NotBefore, leaf.NotAfter})
	return nil
}

// checkpoint compares a checkpoint with all that was read.
func (v *verifier) checkpoint(signed string) error {
	c, err := openCheckpoint(signed, v.path)
	if err != nil {
		return err
	}
	if err := v.certify(c); err != nil {
		return err
	}
	if c.Size != v.edge.Size() || c.Root != v.edge.Root() {
		return fmt.Errorf("the checkpoint over %d records is of another log than the %d records before it", c.Size, v.edge.Size())
	}
	if v.head != nil && (c.Generation < v.head.Generation || v.head.Generation == c.Generation && c.Reset < v.head.Reset) {
		return fmt.Errorf("the checkpoint over %d records goes back to generation %d, reset %d", c.Size, c.Generation, c.Reset)
	}
	if c.HSM.Instance != (Instance{}) {
		l := v.lives[c.HSM.Instance]
		if l == nil {
			l = NewLife(c.HSM.Instance)
			v.lives[c.HSM.Instance], v.order = l, append(v.order, c.HSM.Instance)
		}
		if err := l.Prove(c.HSM); err != nil {
			return fmt.Errorf("checkpoint over %d records: %w", c.Size, err)
		}
	}
	v.head, v.open = &c, 0
	v.report.Checkpoints++
	return nil
}

// certify verifies the path once for all checkpoints within the validity of its certificates.
func (v *verifier) certify(c Checkpoint) error {
	if c.Box != v.box {
		return fmt.Errorf("a checkpoint of box %q in the log of box %q", c.Box, v.box)
	}
	if !v.until.IsZero() && !c.Time.Before(v.from) && !c.Time.After(v.until) {
		return nil
	}
	name, err := v.path.Verify(v.roots, c.Time)
	if err != nil {
		return err
	}
	if name.Box != v.box || v.name != (Name{}) && v.name != name {
		return fmt.Errorf("the receipt key is of box %q in domain %q", name.Box, name.Domain)
	}
	v.name, v.from, v.until = name, v.path.certs[0].NotBefore, v.path.certs[0].NotAfter
	for _, cert := range v.path.certs {
		if cert.NotBefore.After(v.from) {
			v.from = cert.NotBefore
		}
		if cert.NotAfter.Before(v.until) {
			v.until = cert.NotAfter
		}
	}
	return nil
}

func (v *verifier) end() error {
	if v.head == nil || v.open != 0 {
		return errors.New("the export does not end with a checkpoint")
	}
	for _, f := range v.facts {
		if !f.seen && f.size > v.edge.Size() {
			return fmt.Errorf("the log has %d records, but a checkpoint given out earlier covers %d", v.edge.Size(), f.size)
		}
		if !f.seen {
			return fmt.Errorf("evidence about the first %d records cannot be compared with an export from record %d", f.size, v.report.From)
		}
	}
	v.report.Head, v.report.Name = *v.head, v.name
	for _, i := range v.order {
		l := v.lives[i]
		v.report.Lives = append(v.report.Lives, LifeReport{i, l.N(), l.Proven(), l.Beyond()})
	}
	return nil
}
