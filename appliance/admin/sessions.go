package admin

import (
	"crypto/rand"
	"crypto/subtle"
	"sync"
	"time"

	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
)

// maxSessions is how many officers can be logged in; the one silent for longest gives way.
const maxSessions = 8

// sessions are in memory only: they end with the agent.
type sessions struct {
	mu  sync.Mutex
	all []*session // guarded by mu
}

type session struct {
	id      wire.Session
	officer string
	last    time.Time
}

func newSessions() *sessions { return &sessions{} }

// open starts a session of an officer who has proven to be one.
func (s *sessions) open(officer string) wire.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(time.Now())
	if len(s.all) >= maxSessions {
		oldest := 0
		for i := range s.all {
			if s.all[i].last.Before(s.all[oldest].last) {
				oldest = i
			}
		}
		s.all = append(s.all[:oldest], s.all[oldest+1:]...)
	}
	n := &session{wire.Session(rand.Text()), officer, time.Now()}
	s.all = append(s.all, n)
	return n.id
}

// officer returns whose session it is, and keeps the session alive.
func (s *sessions) officer(id wire.Session) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.expire(now)
	for _, x := range s.all {
		if subtle.ConstantTimeCompare([]byte(x.id), []byte(id)) == 1 {
			x.last = now
			return x.officer, true
		}
	}
	return "", false
}

func (s *sessions) end(id wire.Session) {
	s.keep(func(x *session) bool { return x.id != id })
}

// endOf ends all sessions of an officer but one.
func (s *sessions) endOf(officer string, but wire.Session) {
	s.keep(func(x *session) bool { return x.officer != officer || x.id == but })
}

func (s *sessions) keep(f func(*session) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filter(f)
}

// expire needs mu.
func (s *sessions) expire(now time.Time) {
	s.filter(func(x *session) bool { return now.Sub(x.last) < console.IdleLimit })
}

// filter needs mu.
func (s *sessions) filter(f func(*session) bool) {
	var kept []*session
	for _, x := range s.all {
		if f(x) {
			kept = append(kept, x)
		}
	}
	s.all = kept
}
