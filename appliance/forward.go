package appliance

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/appliance/syslog"
	"github.com/keyrelease/krabox/appliance/usage"
	"github.com/keyrelease/krabox/kra/receipt"
)

// forwardTo is the server that a state has the log forwarded to; the zero Target if it has none.
func forwardTo(st *store.State) (syslog.Target, error) {
	s := st.Syslog()
	if s.Host == "" {
		return syslog.Target{}, nil
	}
	pool, err := roots(s.CA)
	if err != nil {
		return syslog.Target{}, fmt.Errorf("syslog server: %w", err)
	}
	t := syslog.Target{Host: s.Host, Port: s.Port, Roots: pool, From: s.From}
	t.Name, err = nameOf(s)
	return t, err
}

// originOf is what the messages of a state call the box.
func originOf(st *store.State) syslog.Origin {
	return syslog.Origin{Host: st.HostName(), Box: st.Box().Name}
}

// nameOf changes when anything of the server does.
func nameOf(s store.Syslog) (receipt.Hash, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return receipt.Hash{}, fmt.Errorf("encode syslog server: %w", err)
	}
	return sha256.Sum256(append([]byte(forwardContext), b...)), nil
}

// forwardContext begins what a syslog server is called by.
const forwardContext = "kra/syslog-target/v1\x00"

// forwarded says how far the syslog server is, first in one line.
func (b *board) forwarded() []string {
	st := b.forward.Status()
	if st.Target.Host == "" {
		return nil
	}
	text := "has the whole log"
	if st.Behind > 0 {
		text = fmt.Sprintf("is not known to have the last %d records, from record %d on", st.Behind, st.Next)
	}
	lines := []string{st.Target.Address() + " " + text}
	if !st.Last.IsZero() {
		lines = append(lines, "reached "+st.Last.UTC().Format(time.DateTime)+" UTC")
	}
	if st.Err != nil {
		lines[0] += "; the last try failed"
		lines = append(lines, fmt.Sprintf("the last try failed: %v", st.Err))
	}
	return lines
}

// delivered is the first record that the syslog server is not known to have.
func (b *board) delivered() int64 { return b.forward.Status().Next }

// behind is for monitoring how far the syslog server is behind.
func (b *board) behind() []usage.Gauge {
	st := b.forward.Status()
	if st.Target.Host == "" {
		return nil
	}
	return []usage.Gauge{{Name: "kra_syslog_behind_records", Help: "Records that the syslog server is not known to have.", Value: float64(st.Behind)}}
}
