package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/keyrelease/krabox/kra/receipt"
)

// A logLine is what is said of a log, in words or JSON.
type logLine struct {
	File        string                 `json:"file"`
	Domain      string                 `json:"domain"`
	Box         string                 `json:"box"`
	From        int64                  `json:"from"`
	Size        int64                  `json:"size"`
	Root        string                 `json:"root"` // base64, as in the checkpoint
	Time        time.Time              `json:"time"`
	Checkpoints int                    `json:"checkpoints"`
	Keys        int                    `json:"receipt_keys"`
	Redacted    int64                  `json:"redacted"`
	Records     map[receipt.Kind]int64 `json:"records"`
	Lives       int                    `json:"hsm_lives"`
	Unwraps     uint64                 `json:"hsm_unwraps"` // each recorded once
	Beyond      int                    `json:"hsm_beyond"`  // recorded after a gap
	Receipts    int                    `json:"receipts"`    // that were given and agree
}

// log checks a log, and that every receipt that was given with it is in it.
func (v *logVerifier) log(e exported) error {
	r, err := receipt.VerifyExport(e.in, v.trust.Roots(), v.held...)
	if err != nil {
		return unbelieved(e.name, err)
	}
	l := logLineOf(e.name, r)
	if v.json {
		return json.NewEncoder(v.t.stdout).Encode(l)
	}
	return l.write(v.t.stdout)
}

func logLineOf(name string, r receipt.Report) logLine {
	l := logLine{File: name, Domain: r.Name.Domain, Box: r.Name.Box, From: r.From, Size: r.Head.Size, Root: r.Head.Root.String(),
		Time: r.Head.Time.UTC(), Checkpoints: r.Checkpoints, Keys: len(r.Keys), Redacted: r.Redacted, Records: r.Records,
		Lives: len(r.Lives), Receipts: r.Seen}
	for _, life := range r.Lives {
		l.Unwraps += life.N
		l.Beyond += life.Beyond
	}
	return l
}

func (l logLine) write(w io.Writer) error {
	fmt.Fprintf(w, "%s: good: the log of box %s of domain %s\n", plain(l.File), l.Box, plain(l.Domain))
	fmt.Fprintf(w, "  records      %d to %d, %d of them redacted; %d checkpoints, %d receipt keys\n",
		l.From, l.Size-1, l.Redacted, l.Checkpoints, l.Keys)
	for _, k := range receipt.Kinds() {
		if n := l.Records[k]; n > 0 {
			fmt.Fprintf(w, "    %-12s %d\n", k, n)
		}
	}
	fmt.Fprintf(w, "  root         %s, of %s UTC\n", l.Root, l.Time.Format(time.DateTime))
	fmt.Fprintf(w, "  HSM          %d uses of keys, each with one record\n", l.Unwraps)
	if l.Beyond > 0 {
		fmt.Fprintf(w, "               %d more after a gap: in flight at the export, or when the HSM process ended\n", l.Beyond)
	}
	if l.Receipts > 0 {
		fmt.Fprintf(w, "  receipts     %d given, all in this log\n", l.Receipts)
	}
	_, err := fmt.Fprintln(w)
	return err
}
