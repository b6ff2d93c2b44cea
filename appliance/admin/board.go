package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	"github.com/keyrelease/krabox/kra/label"
)

// What a board has until an officer says otherwise.
const (
	usualBoardEvery = 10 * time.Minute
	usualBoardLimit = 24 * time.Hour
)

func (s *step) boardAdd(ctx context.Context, c console.BoardAdd) error {
	b := store.Board{URL: c.URL, Every: inSeconds(cmp.Or(c.Every, usualBoardEvery)), Limit: inSeconds(cmp.Or(c.Limit, usualBoardLimit))}
	if strings.HasPrefix(c.URL, "https:") {
		ca, err := s.certificateOf(pasteServerCA)
		if err != nil {
			return err
		}
		b.CA = [][]byte{ca}
	}
	if err := s.commit(ctx, store.BoardSet{Board: b}); err != nil {
		return err
	}
	return s.say("The box advertises at %s, and looks there every %s. What the domain permits counts from now on: when it has not looked for %s, "+
		"it releases nothing. Look at it with: board show", b.URL, spanOf(b.Every), spanOf(b.Limit))
}

func inSeconds(d time.Duration) int { return int(d / time.Second) }

func spanOf(seconds int) string {
	for _, u := range []struct {
		of   int
		name string
	}{{24 * 3600, "day"}, {3600, "hour"}, {60, "minute"}} {
		if n := seconds / u.of; n > 0 && seconds%u.of == 0 {
			return count(n, u.name, u.name+"s")
		}
	}
	return count(seconds, "second", "seconds")
}

// boardInstall takes permissions from whoever carries them: they are signed.
func (s *step) boardInstall(ctx context.Context) error {
	text, err := s.next(wire.Paste, "Paste the permissions of the domain (KRA PERMISSIONS).")
	if err != nil {
		return err
	}
	signed, err := label.ParsePermissions([]byte(text))
	if err != nil {
		return err
	}
	p, err := signed.Verify(s.a.c.Domain)
	if err != nil {
		return err
	}
	if err := p.Current(s.a.now()); err != nil {
		return err
	}
	if err := s.commit(ctx, store.PermissionsSet{Signed: signed.Bytes()}); err != nil {
		return err
	}
	return s.say("Permissions number %d are in force until %s.", p.Sequence, stamp(p.Until))
}

// now is the box's clock, which is never before its floor.
func (a *Agent) now() time.Time {
	if a.c.Now == nil {
		return time.Now()
	}
	return a.c.Now()
}

func (s *step) boardShow() error {
	st := s.state()
	if b := st.Board(); b.URL != "" {
		field(s, "board", fmt.Sprintf("%s, every %s, limit %s", b.URL, spanOf(b.Every), spanOf(b.Limit)))
		s.showCerts("server", b.CA)
	} else {
		field(s, "board", "none (board add)")
	}
	if err := s.showPermissions(st); err != nil {
		return err
	}
	if s.a.c.Standing == nil {
		return nil
	}
	for _, line := range s.a.c.Standing() {
		field(s, "at present", printable(line))
	}
	return nil
}

func (s *step) showPermissions(st *store.State) error {
	signed, err := st.Permissions()
	switch {
	case err != nil:
		return err
	case signed == nil:
		return field(s, "permissions", "none: the domain has said nothing to this box")
	}
	p := signed.Permissions
	field(s, "permissions", fmt.Sprintf("number %d, mode %s, lowest epoch %d, %s", p.Sequence, p.Mode, p.MinEpoch, count(len(p.Entries), "entry", "entries")))
	return field(s, "until", stamp(p.Until))
}

var errNoBoard = errors.New("there is no board")

func (s *step) boardRemove(ctx context.Context) error {
	if s.state().Board().URL == "" {
		return errNoBoard
	}
	if err := s.confirm("Ask the board no longer? The box then learns of revocations only by what is pasted."); err != nil {
		return err
	}
	if err := s.commit(ctx, store.BoardRemove{}); err != nil {
		return err
	}
	return s.say("The box asks no board any longer. When what the domain has permitted ends, it releases nothing until newer permissions are pasted (board install): board show says when that is.")
}
