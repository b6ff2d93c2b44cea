package main

import (
	"errors"
	"fmt"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/client"
)

// Exit codes. Scripts rely on them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3
	exitUnreachable = 4
	exitUntrusted   = 5
	exitDamaged     = 6
	exitNoKey       = 7
	exitInterrupted = 130
)

type exitRow struct {
	code int
	help string
}

func exitTable() []exitRow {
	return []exitRow{
		{exitDone, "done"},
		{exitFailed, "failed: a file could not be read or written"},
		{exitUsage, "the command line is wrong, or a setting is missing"},
		{exitRefused, "the agent does not release the key, or does not let you change the group"},
		{exitUnreachable, "the agent cannot be reached, or releases nothing now"},
		{exitUntrusted, "a certificate, receipt or log is not what the domain root vouches for"},
		{exitDamaged, "not an encryption block, or one that was cut short, changed, or that nothing protects from change"},
		{exitNoKey, "none of the identities fits, and there is no agent to ask"},
		{exitInterrupted, "interrupted"},
	}
}

// A usageError is a command line that cannot be carried out as it stands.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// A hinted error carries what to do about it.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

func hint(err error, format string, args ...any) error {
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// exit reports err, and each of several that were joined, and returns the code of the
// first.
func (t *tool) exit(err error) int {
	if err == nil {
		return exitDone
	}
	code := exitDone
	for _, e := range parts(err) {
		fmt.Fprintf(t.stderr, "kra: %s\n", plain(e.Error()))
		if code == exitDone {
			code = codeOf(e)
		}
		if h := t.hintOf(e); h != "" {
			fmt.Fprintf(t.stderr, "kra: %s\n", plain(h))
		}
	}
	return code
}

// A failures holds one error for each file that failed.
type failures struct{ errs []error }

func (f *failures) Error() string   { return errors.Join(f.errs...).Error() }
func (f *failures) Unwrap() []error { return f.errs }

func parts(err error) []error {
	var f *failures
	if errors.As(err, &f) {
		return f.errs
	}
	return []error{err}
}

func codeOf(err error) int {
	var usage *usageError
	var untrusted *client.Untrusted
	var unreachable *client.Unreachable
	var rejected *client.Rejected
	var damaged *client.Damaged
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, client.ErrRefused), errors.Is(err, client.ErrNotMaintained):
		return exitRefused
	case errors.Is(err, client.ErrNoKey), errors.Is(err, client.ErrNotAsked):
		return exitNoKey
	case errors.As(err, &untrusted):
		return exitUntrusted
	case errors.As(err, &unreachable):
		return exitUnreachable
	case errors.As(err, &rejected):
		if rejected.Code == kra.CodeCertificate {
			return exitRefused
		}
		return exitUnreachable
	case errors.As(err, &damaged):
		return exitDamaged
	}
	return exitFailed
}

// hintOf says what to do next.
func (t *tool) hintOf(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	var rejected *client.Rejected
	if errors.As(err, &rejected) && rejected.Code == kra.CodeCertificate {
		return "name your certificate and key with -cert and -key (KRA_CERT, KRA_KEY)"
	}
	switch codeOf(err) {
	case exitUsage:
		if t.name != "" {
			return fmt.Sprintf("try 'kra %s -h'", t.name)
		}
	case exitRefused:
		return "the agent never says why; its administrator can look it up in the log"
	case exitUnreachable:
		return "check the address (-url or KRA_URL) and that the box is up: kra verify"
	case exitUntrusted:
		return "nothing was used of it; check -root (KRA_ROOT) and the address, and tell the domain's administrator"
	case exitDamaged:
		return "get the file again from where it came; 'kra inspect' shows what is readable"
	case exitNoKey:
		return "name an identity with -i, or the agent with -url (KRA_URL)"
	}
	return ""
}
