package kra

import "fmt"

// A Status is the answer of PathStatus. It says nothing that a stranger may not know.
type Status struct {
	State  string `json:"state"` // StateReady or StateUnavailable
	Domain string `json:"domain"`
	Box    string `json:"box"`
}

// The states of a box that a stranger can see. Why a box is unavailable, its console says.
const (
	StateReady       = "ready"
	StateUnavailable = "unavailable"
)

// ParseStatus reads the answer of PathStatus.
func ParseStatus(body []byte) (Status, error) {
	var s Status
	if err := decodeCanonical(body, &s); err != nil {
		return Status{}, fmt.Errorf("parse status: %w", err)
	}
	if s.State != StateReady && s.State != StateUnavailable {
		return Status{}, fmt.Errorf("parse status: unknown state %q", clip(s.State))
	}
	return s, nil
}

// Encode returns the status's JSON.
func (s Status) Encode() ([]byte, error) { return encodeCanonical(s) }

// An Error is the body of every answer that is neither a Response nor a document.
type Error struct {
	Code   string `json:"error"`
	Detail string `json:"detail,omitempty"` // what is malformed, only with CodeMalformed
}

// The codes of an Error, with the HTTP status they travel under.
const (
	CodeMalformed   = "malformed"   // 400: not a request, Detail says where
	CodeCertificate = "certificate" // 401: no client certificate, or none of a trust anchor of this box
	CodeRefused     = "refused"     // 403: of a group, to whom it is none of theirs
	CodePath        = "path"        // 404
	CodeMethod      = "method"      // 405
	CodeLabel       = "label"       // 409: the box cannot be, now, what a challenge asks
	CodeLength      = "length"      // 411: no Content-Length
	CodeSize        = "size"        // 413: over MaxBody
	CodeMedia       = "media"       // 415: not ContentType
	CodeBusy        = "busy"        // 503: too much in flight, Retry-After says when to come back
	CodeUnavailable = "unavailable" // 503: the box releases nothing now
)

// ParseError reads the body of an answer with a status of 400 or more, other than a refusal.
func ParseError(body []byte) (Error, error) {
	var e Error
	if err := decodeCanonical(body, &e); err != nil {
		return Error{}, fmt.Errorf("parse error: %w", err)
	}
	return e, nil
}

// Encode returns the error's JSON.
func (e Error) Encode() []byte {
	b := append([]byte(`{"error":`), appendString(nil, e.Code)...)
	if e.Detail != "" {
		b = append(append(b, `,"detail":`...), appendString(nil, e.Detail)...)
	}
	return append(b, '}')
}
