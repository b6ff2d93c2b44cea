// Package wire carries the console's words to the agent: HTTP and JSON over a unix socket.
//
//	GET  /v1/banner    -> Banner
//	POST /v1/login     {officer, passphrase, code} -> {session}
//	POST /v1/names     {session, list} -> {names}
//	POST /v1/do        {session, line, answers, columns} -> frames, one JSON value each, the last with "done"
//
// A command that needs more than its line is answered by a question (ask). The console asks the officer, appends what was
// said to the answers and sends the same line again; the agent keeps nothing in between.
package wire

import (
	"context"
	"io"
)

// Limits of one exchange.
const (
	MaxPaste   = 768 << 10 // bytes of one answer: the largest backup
	MaxAnswers = 8         // answers to one command
	MaxNames   = 200       // names that are listed for completion

	LeastColumns = 80 // of any terminal, and of one that does not say
	MostColumns  = 250

	maxRequest = 2*MaxPaste + (64 << 10)
	maxReply   = 256 << 10 // bytes of any answer but frames
	maxFrame   = 64 << 10  // bytes of one frame
	chunk      = 8 << 10   // bytes of text in one frame
)

// A Banner is what the box says before anybody has logged in.
type Banner struct {
	Box     string `json:"box"`
	Domain  string `json:"domain,omitempty"`
	Version string `json:"version,omitempty"`
	Mode    string `json:"mode"`             // factory, enrolled or locked
	Reason  string `json:"reason,omitempty"` // why it is locked
	Health  string `json:"health"`           // "good", or what is wrong and what to do
	Clock   string `json:"clock,omitempty"`
	Codes   bool   `json:"codes,omitempty"` // somebody here has a second factor: everybody is asked for a code
}

// Credentials are a name, a passphrase and, of whom has a second factor, a code or a recovery code.
type Credentials struct {
	Officer    string `json:"officer"`
	Passphrase string `json:"passphrase"`
	Code       string `json:"code,omitempty"`
}

// A Session is the right to do what an officer may, until it ends.
type Session string

// A Request is one command line and what was answered to its questions so far.
type Request struct {
	Session Session  `json:"session,omitempty"`
	Line    string   `json:"line"`
	Answers []string `json:"answers,omitempty"`
	Columns int      `json:"columns,omitempty"` // of the terminal, as the console says: see Width
}

// Width is the columns to set text for, whatever the console says.
func (r Request) Width() int { return min(max(r.Columns, LeastColumns), MostColumns) }

// A Question is what the officer is asked.
type Question struct {
	Kind   Kind   `json:"kind"`
	Prompt string `json:"prompt"`
}

// A Kind is how a question is asked.
type Kind string

// The kinds.
const (
	Confirm Kind = "confirm" // one line, shown; "yes" goes on
	Secret  Kind = "secret"  // one line, not shown
	Code    Kind = "code"    // the same, of somebody who first fetches a telephone
	Paste   Kind = "paste"   // lines up to the END of a PEM block, not shown
)

// Yes is the one answer that confirms.
const Yes = "yes"

// An Outcome is how a command ended. The zero Outcome is: done.
type Outcome struct {
	Error string    `json:"error,omitempty"` // what to say if it failed
	Ask   *Question `json:"ask,omitempty"`   // it waits for this answer
	End   bool      `json:"end,omitempty"`   // the session is over
}

// An Executor does what the console asks. Its methods may be called from many goroutines.
type Executor interface {
	Banner(ctx context.Context) Banner
	// Login errors are shown to whoever stands at the console.
	Login(ctx context.Context, c Credentials) (Session, error)
	// Names lists the names that a word may be completed from; none if the session is not good.
	Names(ctx context.Context, s Session, list string) []string
	// Do executes one line. What it writes to out is shown as it comes.
	Do(ctx context.Context, r Request, out io.Writer) Outcome
}
