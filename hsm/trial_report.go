package hsm

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"unicode"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
)

// trialColumn is where the report's second column begins.
const trialColumn = 50

func (k kind) String() string {
	return fmt.Sprintf("%v, %v, %v, %v", k.suite, k.custody, k.origin, k.mode)
}

// verdict says whether a box can work with the token: hsmd would serve, its random numbers are good, and there is a kind of key that can be
// made there and stays there.
func (t *trial) verdict() error {
	switch {
	case t.stray != nil:
		return t.stray
	case t.refused != nil:
		return fmt.Errorf("%w: %w", errUnfit, t.refused)
	case t.ctx.Err() != nil:
		return fmt.Errorf("the token was not tried to the end: %w", context.Cause(t.ctx))
	case t.why(checkRandom) != "":
		return fmt.Errorf("%w: %s: %s", errUnfit, checkRandom, t.why(checkRandom))
	case len(t.good(wire.Resident, wire.Bound, wire.Generated))+len(t.good(wire.Vault, wire.Bound, wire.Generated)) == 0:
		return fmt.Errorf("%w: it makes no key that is safe in it", errUnfit)
	}
	return nil
}

// why is what failed of what hsmd asks at its start, or nothing.
func (t *trial) why(check string) string {
	for _, c := range t.asked {
		if c.Name == check {
			return c.Failure
		}
	}
	return "not tried"
}

// good lists the suites of which keys of a kind can be had.
func (t *trial) good(m wire.Mode, c wire.Custody, o wire.Origin) (all []string) {
	for _, k := range t.made {
		if k.err == nil && k.mode == m && k.custody == c && k.origin == o {
			all = append(all, k.suite.String())
		}
	}
	return all
}

// A sheet is text in two columns.
type sheet struct{ strings.Builder }

func (p *sheet) head(text string) { fmt.Fprintf(p, "\n%s\n", text) }

// line writes one row. What comes from the module cannot steer the terminal.
func (p *sheet) line(name, text string) {
	clean := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, strings.ReplaceAll(text, "\n", "; "))
	fmt.Fprintf(p, "  %-*s %s\n", trialColumn, name, cmp.Or(clean, "-"))
}

func (p *sheet) check(name, failure string) {
	if failure == "" {
		p.line(name, "yes")
		return
	}
	p.line(name, "no: "+failure)
}

// can is what a box could do: with these suites, or with none.
func (p *sheet) can(name string, suites []string) {
	p.line(name, cmp.Or(strings.Join(suites, ", "), "none"))
}

// report says what was found, and what it means.
func (t *trial) report(out io.Writer) error {
	var p sheet
	if err := t.identity(&p); err != nil {
		return err
	}
	p.head("What hsmd asks of it at its start")
	for _, c := range t.asked {
		p.check(c.Name, c.Failure)
	}
	p.head("Keys that were made, attacked and destroyed")
	for _, k := range t.made {
		failure := ""
		if k.err != nil {
			failure = k.err.Error()
		}
		p.check(k.String(), failure)
	}
	t.meaning(&p)
	_, err := io.WriteString(out, strings.TrimLeft(p.String(), "\n"))
	return err
}

// identity is what the module says of itself and the token.
func (t *trial) identity(p *sheet) error {
	info, err := t.lib.GetInfo()
	if err != nil {
		return fmt.Errorf("ask module who it is: %w", err)
	}
	of, err := t.lib.GetTokenInfo(t.slot)
	if err != nil {
		return fmt.Errorf("ask token who it is: %w", err)
	}
	version := func(v p11.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }
	text := func(s string) string { return strings.Trim(s, " \x00") }
	p.head("The token")
	p.line("module", t.config.Module)
	p.line("library", fmt.Sprintf("%s, %s, version %s, PKCS#11 %s", text(info.ManufacturerID), text(info.LibraryDescription), version(info.LibraryVersion), version(info.CryptokiVersion)))
	p.line("manufacturer", text(of.ManufacturerID))
	p.line("model", text(of.Model))
	p.line("token", text(of.Label))
	p.line("serial number", text(of.SerialNumber))
	p.line("firmware", version(of.FirmwareVersion))
	p.line("hardware", version(of.HardwareVersion))
	return nil
}

// meaning is what a box with this token could do.
func (t *trial) meaning(p *sheet) {
	p.head("What that means for a box")
	p.can("keys that never leave it (bound), resident", t.good(wire.Resident, wire.Bound, wire.Generated))
	p.can("keys that can be copied (replicable), resident", t.good(wire.Resident, wire.Replicable, wire.Generated))
	p.can("bound keys in vault mode, 100,000 of them", t.good(wire.Vault, wire.Bound, wire.Generated))
	p.can("replicable keys in vault mode", t.good(wire.Vault, wire.Replicable, wire.Generated))
	p.can("keys that come in the clear", t.good(wire.Resident, wire.Bound, wire.Imported))
	p.can("keys that come wrapped to its import key", t.good(wire.Resident, wire.Bound, wire.Wrapped))
	p.check("copies, backups of keys, keys bound to labels", t.why(checkTrusted))
	p.check("RSA-OAEP SHA-256: message keys stay inside", t.why(checkOAEP))
	p.check("RSA-OAEP SHA-1: message keys stay inside", t.why(checkOAEPSHA1))
	stray := ""
	if t.stray != nil {
		stray = t.stray.Error()
	}
	p.check("nothing stayed in the token", stray)
	if err := t.verdict(); err != nil {
		p.line("a box can work with it", "no: "+strings.TrimPrefix(err.Error(), errUnfit.Error()+": "))
		return
	}
	p.line("a box can work with it", "yes")
}
