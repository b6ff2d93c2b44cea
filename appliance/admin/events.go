package admin

import (
	"context"
	"fmt"

	tpm "github.com/keyrelease/krabox/tpm/wire"
)

// shortDigest is how much of a digest a line has room for, in hexadecimal digits.
const shortDigest = 12

// events shows what the firmware and the boot loader say that they measured, and whether the TPM's registers bear it out.
func (s *step) events(ctx context.Context) error {
	v, err := s.a.c.TPM.Events(ctx)
	if err != nil {
		return err
	}
	t := newTable("PCR", "EVENT", "SHA-256", "DATA")
	t.yields = len(t.head)
	for _, e := range v.Events {
		if s.json == nil {
			e.Digest = e.Digest[:min(len(e.Digest), shortDigest)]
		}
		t.row(fmt.Sprint(e.PCR), e.Type, orElse(e.Digest, "-"), e.Text)
	}
	if err := t.print(s, "The log has no events."); err != nil {
		return err
	}
	text := count(v.Count, "event", "events")
	if v.Count > len(v.Events) {
		text += fmt.Sprintf("; the first %d are shown", len(v.Events))
	}
	field(s, "in all", text)
	return s.replayed(v.Differs)
}

// replayed says what the log adds up to, register by register where that is not what the TPM has.
func (s *step) replayed(differs []tpm.Difference) error {
	faults := 0
	for _, d := range differs {
		name := fmt.Sprintf("PCR %d", d.PCR)
		if d.After != "" {
			field(s, name, "extended after the log, by "+d.After)
			continue
		}
		faults++
		field(s, name, fmt.Sprintf("DIFFERS: the log adds up to %s…, the TPM has %s…", d.Log.Short(), d.TPM.Short()))
	}
	switch {
	case faults > 0:
		return field(s, "replay", fmt.Sprintf("DOES NOT ADD UP in %s: something was measured that the log does not tell, or the log was altered. What the TPM has counts; "+
			"of those registers do not believe the lines above. Tell whoever looks after this box, with system support", count(faults, "register", "registers")))
	case len(differs) > 0:
		return field(s, "replay", "the log adds up to what the TPM has, apart from what was extended after it")
	}
	return field(s, "replay", "the log adds up to what the TPM has")
}
