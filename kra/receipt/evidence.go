package receipt

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Evidence is what somebody got from the box earlier and holds against an export: a checkpoint, perhaps with a receipt.
type Evidence struct {
	Checkpoint string
	Path       Path
	Receipt    *Receipt // nil: the checkpoint only
}

// A fact is what evidence says about this log.
type fact struct {
	size  int64 // of the tree
	root  tlog.Hash
	index int64 // of a leaf; -1 for none
	leaf  tlog.Hash
	seen  bool
}

// collect verifies the evidence by itself and keeps what it says.
func (v *verifier) collect(evidence []Evidence) error {
	for i, e := range evidence {
		c, _, err := VerifyCheckpoint(e.Checkpoint, e.Path, v.roots)
		if err != nil {
			return fmt.Errorf("evidence %d: %w", i+1, err)
		}
		if c.Box != v.box {
			return fmt.Errorf("evidence %d is of box %q, the log of box %q", i+1, c.Box, v.box)
		}
		f := fact{size: c.Size, root: c.Root, index: -1}
		if e.Receipt != nil {
			if _, err := Verify(*e.Receipt, e.Checkpoint, e.Path, v.roots); err != nil {
				return fmt.Errorf("evidence %d: %w", i+1, err)
			}
			f.index, f.leaf = e.Receipt.Index, Leaf(e.Receipt.Public, e.Receipt.Commitment)
		}
		v.facts = append(v.facts, f)
	}
	slices.SortStableFunc(v.facts, func(a, b fact) int { return cmp.Compare(a.size, b.size) })
	return nil
}

// check compares the tree as it is now with the evidence about trees of this size.
func (v *verifier) check() error {
	for i := range v.facts {
		f := &v.facts[i]
		if f.size != v.edge.Size() {
			continue
		}
		if f.root != v.edge.Root() {
			return fmt.Errorf("the log's first %d records are not those that a checkpoint given out earlier covers", f.size)
		}
		f.seen = true
		v.report.Seen++
	}
	return nil
}

// agree compares the next leaf with the receipts about it.
func (v *verifier) agree(leaf tlog.Hash) error {
	for i := range v.facts {
		if f := &v.facts[i]; f.index == v.edge.Size() && f.leaf != leaf {
			return errors.New("a receipt says otherwise about this record")
		}
	}
	return nil
}
