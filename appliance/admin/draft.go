package admin

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/keyrelease/krabox/appliance/store"
)

// errActs ends a dry run where the command would begin to act.
var errActs = errors.New("would act")

// errUntold keeps from a second officer what he could not judge.
var errUntold = errors.New("this cannot wait for a second officer: it does not say what it would do")

// A draft is what a command would do, found out by a dry run: the command itself, up to where it would begin to act.
type draft struct {
	told    []string        // what it asks, and what it would do, in words
	pasted  []string        // what was pasted with it
	secrets []store.Secret  // that were typed with it, for a source
	hash    string          // of a passphrase that was typed with it
	changed []store.Changed // records that it would make others, if it does nothing else
	basis   [][]byte        // what else it depends on
}

// tell adds words about what the command would do. It depends on them being so.
func (s *step) tell(text string) {
	if s.dry != nil {
		s.dry.told = append(s.dry.told, text)
	}
}

// depends adds what must be the same when the command is approved.
func (s *step) depends(on ...any) {
	if s.dry == nil {
		return
	}
	for _, v := range on {
		b, err := json.Marshal(v)
		if err != nil {
			b = fmt.Append(nil, v) // no less itself
		}
		s.dry.basis = append(s.dry.basis, b)
	}
}

// commit tries the changes out, and makes none.
func (d *draft) commit(a *Agent, changes []store.Change) error {
	next, err := store.Apply(a.c.Store.State(), changes...)
	if err != nil {
		return err
	}
	if err := a.c.Try(next); err != nil {
		return err
	}
	if d.changed, err = store.Changes(a.c.Store.State(), changes...); err != nil {
		return err
	}
	return errActs
}

// dryRun returns what the command would do.
func (s *step) dryRun(ctx context.Context) (*draft, error) {
	run := *s
	run.dry = &draft{}
	err := s.does.run(&run, ctx)
	switch {
	case err == nil:
		return nil, errors.New("this would change nothing")
	case !errors.Is(err, errActs):
		return nil, err
	}
	if len(run.dry.told) == 0 && len(run.dry.changed) == 0 {
		return nil, errUntold
	}
	s.answers = run.answers
	return run.dry, nil
}

// digest is over what the command would do and what that depends on: its line, what was pasted and told, and the records that
// would change as they are before.
//
//	SHA-256(context ‖ 0 ‖ JSON)
func (d *draft) digest(line string) ([32]byte, error) {
	type record struct {
		Bucket, Key string
		Before      []byte
	}
	all := struct {
		Line    string
		Pasted  []string
		Told    []string
		Records []record
		Basis   [][]byte
	}{Line: line, Pasted: d.pasted, Told: d.told, Basis: d.basis}
	for _, c := range d.changed {
		all.Records = append(all.Records, record{c.Bucket, c.Key, essence(c)})
	}
	b, err := json.Marshal(all)
	if err != nil {
		return [32]byte{}, fmt.Errorf("encode draft: %w", err)
	}
	return sha256.Sum256(append([]byte("kra/draft/v1\x00"), b...)), nil
}

// essence is what of a record before the change an approval depends on: of officers who they are, and not when they logged in.
func essence(c store.Changed) []byte {
	var o store.Officer
	if c.Bucket != "officer" || json.Unmarshal(c.Before, &o) != nil {
		return c.Before
	}
	b, err := json.Marshal(store.Officer{Name: o.Name, Duty: o.Duty, Group: o.Group, Team: o.Team})
	if err != nil {
		return c.Before
	}
	return b
}
