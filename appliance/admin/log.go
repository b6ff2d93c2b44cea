package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/kra/receipt"
)

func (s *step) logSize() error {
	head := s.a.c.Log.Head()
	field(s, "records", fmt.Sprint(head.Size))
	field(s, "root", fmt.Sprintf("%x", head.Root[:]))
	s.removedBefore()
	if head.HSM.Instance == (receipt.Instance{}) {
		return field(s, "module", "no unwrap in this log yet")
	}
	return field(s, "module", fmt.Sprintf("instance %s, unwrap %d", head.HSM.Instance, head.HSM.N))
}

func (s *step) logHealth() error {
	err := s.a.c.Log.Health()
	if errors.Is(err, audit.ErrFull) {
		return field(s, "log", err.Error())
	}
	if err != nil {
		field(s, "log", "cannot be written: "+err.Error())
		return s.say("No key is released until that is mended. See that the disk is connected, then: reboot. On another disk nothing of this box is left but its backups")
	}
	if err := s.a.full(); err != nil {
		return field(s, "log", err.Error())
	}
	return field(s, "log", "good")
}

func (s *step) logExport(c console.LogExport) error {
	if err := s.begin(s.ctx); err != nil {
		return err
	}
	size := s.a.c.Log.Head().Size
	if c.From >= size {
		return fmt.Errorf("the log has %d records, the last is number %d", size, size-1)
	}
	if c.From < 0 {
		c.From = s.begins() // the export's first line says so
	}
	return s.a.c.Log.Export(s, c.From, size)
}

// logVerify does what an auditor does with an export, and has the module's process check its own chain's head.
func (s *step) logVerify(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	head := s.a.c.Log.Head()
	r, w := io.Pipe()
	go func() { w.CloseWithError(s.a.c.Log.Export(w, s.begins(), head.Size)) }()
	report, err := receipt.VerifyExport(r, s.a.c.Roots)
	r.CloseWithError(errors.New("verification ended"))
	if err != nil {
		return err
	}
	if report.Head.HSM.Instance != (receipt.Instance{}) {
		if err := s.a.c.HSM.CheckHead(ctx, report.Head.HSM); err != nil {
			return fmt.Errorf("the module does not know the head of its chain: %w", err)
		}
	}
	field(s, "log", fmt.Sprintf("%s of %s", report.Name.Box, report.Name.Domain))
	field(s, "records", fmt.Sprintf("%d under %s, root %x", report.Head.Size, count(report.Checkpoints, "checkpoint", "checkpoints"), report.Head.Root[:]))
	s.removedBefore()
	for _, k := range receipt.Kinds() {
		if n := report.Records[k]; n > 0 {
			field(s, "  "+k.String(), fmt.Sprint(n))
		}
	}
	for _, l := range report.Lives {
		text := fmt.Sprintf("instance %s: unwraps 1 to %d recorded once each, %d under the module's own signature", l.Instance, l.N, l.Proven)
		if l.Beyond > 0 {
			text += fmt.Sprintf("; %d after a gap", l.Beyond)
		}
		field(s, "module", text)
	}
	return s.say("The log is whole.")
}

// logShow prints the newest records, one line each.
func (s *step) logShow(c console.LogShow) error {
	if err := s.begin(s.ctx); err != nil {
		return err
	}
	size := s.a.c.Log.Head().Size
	return s.a.c.Log.Records(max(s.begins(), size-int64(c.Count)), size, func(n int64, r receipt.Record) error {
		line, err := recordLine(n, r, across(s))
		if err != nil { // one record that cannot be shown hides no other
			line = fmt.Sprintf("%d cannot be shown; log export has it", n)
		}
		_, err = fmt.Fprintln(s, line)
		return err
	})
}

// private is what the private parts of all kinds of records have that a person wants to see.
type private struct {
	Officer    string `json:"officer"`
	Maintainer string `json:"maintainer"`
	Line       string `json:"line"`
	Stage      string `json:"stage"`
	Detail     string `json:"detail"`
	Outcome    string `json:"outcome"`
	Reason     string `json:"reason"`
	Request    struct {
		Decryptor string `json:"decryptor"`
		Claim     string `json:"claim"`
		Source    string `json:"source"`
	} `json:"request"`
	Channel  string `json:"channel"` // "re-encrypted": nobody proved to be the decryptor
	Software string `json:"software"`
	Resets   uint64 `json:"resets"`
	Tests    int    `json:"tests"`
	Decision struct {
		Decryptor string `json:"decryptor"`
		Source    string `json:"source"`
	} `json:"decision"`
}

func recordLine(n int64, r receipt.Record, width int) (string, error) {
	p, err := receipt.ParsePublic(r.Public)
	if err != nil {
		return "", err
	}
	var v private
	if err := json.Unmarshal(r.Private, &v); err != nil {
		return "", fmt.Errorf("read record %d: %w", n, err)
	}
	start := ""
	if v.Tests > 0 {
		start = fmt.Sprintf("start %d, %d self-tests passed", v.Resets, v.Tests)
	}
	words := []string{fmt.Sprint(n), p.Time.Time().Format("2006-01-02 15:04:05"), p.Kind.String(), p.Access, v.Reason, v.Channel, v.Request.Claim, v.Request.Decryptor, v.Request.Source,
		v.Decision.Decryptor, v.Decision.Source, v.Software, start, v.Officer, v.Maintainer, v.Outcome, v.Stage, v.Line, v.Detail}
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	return strings.ReplaceAll(foldTo(strings.Join(words, " "), width-6), "\n", "\n     "), nil
}
