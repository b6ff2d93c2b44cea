package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/keyrelease/krabox/kra/receipt"
	"github.com/keyrelease/krabox/kra/replay"
)

// A replayLine is what is said of a log whose decisions were made again.
type replayLine struct {
	File      string    `json:"file"`
	Domain    string    `json:"domain"`
	Box       string    `json:"box"`
	From      int64     `json:"from"`
	Size      int64     `json:"size"`
	Time      time.Time `json:"time"`
	Books     int       `json:"books"`
	Releases  int64     `json:"releases"`
	Refusals  int64     `json:"refusals"`
	Undecided int64     `json:"undecided"`
}

func (v *logVerifier) replay(exports []string) error {
	for _, path := range exports {
		v.failed(v.replayOne(path))
	}
	if len(v.errs) != 0 {
		return &failures{v.errs}
	}
	return nil
}

// replayOne verifies one export and decides again. What differs counts only if the log itself is good.
func (v *logVerifier) replayOne(path string) error {
	f, name, err := v.t.open(path)
	if err != nil {
		return err
	}
	v.open = append(v.open, f)
	player := replay.New()
	log, err := receipt.ReadExport(f, v.trust.Roots(), player.Record)
	if err != nil {
		return unbelieved(name, err)
	}
	r, err := player.Report()
	switch {
	case errors.Is(err, replay.ErrRedacted):
		return hint(fmt.Errorf("%s: %w", name, err), "a redacted export cannot be replayed: export the log with its private parts")
	case errors.Is(err, replay.ErrUnknownBook) && log.From > 0:
		return hint(fmt.Errorf("%s: %w", name, err), "export the log from an earlier record: each start of the agent writes its whole book")
	case err != nil:
		return hint(unbelieved(name, err), "the log is what the box wrote, but its rules do not decide so: ask who ran the box")
	}
	l := replayLine{name, log.Name.Domain, log.Name.Box, log.From, log.Head.Size, log.Head.Time.UTC(), r.Books, r.Releases, r.Refusals, r.Undecided}
	if v.json {
		return json.NewEncoder(v.t.stdout).Encode(l)
	}
	_, err = fmt.Fprintf(v.t.stdout, "%s: good: each decision of box %s of domain %s is what its rules say\n"+
		"  records      %d to %d, %d books\n    releases     %d\n    refusals     %d, and %d of requests that no rule was asked about\n",
		plain(l.File), l.Box, plain(l.Domain), l.From, l.Size-1, l.Books, l.Releases, l.Refusals, l.Undecided)
	return err
}
