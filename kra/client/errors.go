package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"github.com/keyrelease/krabox/kra"
)

var (
	// ErrRefused is the agent's decision not to release a key. It never says why.
	ErrRefused = errors.New("the agent does not release this key")
	// ErrNoKey is returned for a block that holds nothing to ask the agent for and
	// that none of the given identities opens.
	ErrNoKey = errors.New("no identity fits the block, and it has no key-release key")
	// ErrNotAsked is returned for a block that only the agent could open, when the
	// agent may not be asked or none was named.
	ErrNotAsked = errors.New("no identity fits the block, and no agent was asked")
)

// An Untrusted error says that something is not what the domain root vouches for:
// a certificate, a receipt, a key. Nothing that came with it was used.
type Untrusted struct{ Err error }

func (e *Untrusted) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *Untrusted) Unwrap() error { return e.Err }

func untrusted(format string, args ...any) error { return &Untrusted{fmt.Errorf(format, args...)} }

// A Damaged error says that a block is not one, or is cut short or changed.
type Damaged struct{ Err error }

func (e *Damaged) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *Damaged) Unwrap() error { return e.Err }

// An Unreachable error says that the agent could not be asked, or would not answer now.
type Unreachable struct {
	URL string
	Err error
}

func (e *Unreachable) Error() string { return fmt.Sprintf("ask %s: %v", e.URL, e.Err) }

// Unwrap returns the reason.
func (e *Unreachable) Unwrap() error { return e.Err }

// A Rejected error is an answer that is neither a release nor a refusal: the request
// or the certificate was not what the agent takes.
type Rejected struct {
	URL    string
	Status int
	Code   string // a kra.Code… constant, or "" where the answer was not one of an agent
	Detail string
}

func (e *Rejected) Error() string {
	what := e.Code
	switch e.Code {
	case "":
		what = "not a key release agent's answer (" + http.StatusText(e.Status) + ")"
	case kra.CodeCertificate:
		what = "it needs a client certificate of an authority that it knows"
	case kra.CodeLabel:
		what = "it cannot show now that it runs what its domain approved"
	case kra.CodeBusy:
		what = "it is busy"
	case kra.CodeUnavailable:
		what = "it releases nothing now; its console says why"
	}
	if e.Detail != "" {
		what += ": " + e.Detail
	}
	return fmt.Sprintf("ask %s: %s", e.URL, what)
}

// transportError tells a server that is not the domain's from one that is away.
func (a *Agent) transportError(err error) error {
	var other *Untrusted
	var verify *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	if errors.As(err, &other) || errors.As(err, &verify) || errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) {
		return untrusted("believe %s: %w", a.URL(), err)
	}
	return &Unreachable{URL: a.URL(), Err: err}
}
