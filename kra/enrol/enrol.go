// Package enrol is the meeting of a factory box and its domain's desk over the box's port, introduced by a one-time code that the box
// shows at its console.
//
// The channel is TLS 1.3 under a key that nobody vouches for. Each end proves that it knows the code, by an HMAC over the exporter of
// this very channel: who stands between has two channels, and a proof for one is none for the other.
//
//	desk                                        box
//	POST /v1/enrol/request {proof}       ->     knows the code? else one of its few tries is gone
//	                                     <-     {request, proof}    over the request
//	(the officer reads what will be signed)
//	POST /v1/enrol/bundle {bundle, proof} ->    installs it as if it had been pasted
//	                                     <-     {box}
package enrol

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Limits of a meeting.
const (
	Valid      = 10 * time.Minute // a code
	MaxTries   = 5                // wrong proofs, of anybody
	MaxBundle  = 256 << 10        // bytes of a bundle, as of a paste
	MaxRequest = 256 << 10        // bytes of a request
	maxMessage = 2 * MaxBundle    // bytes of JSON
	maxPeers   = 8                // connections at a time
	helloLimit = 30 * time.Second // from the connection to the proof
)

const (
	requestPath = "/v1/enrol/request"
	bundlePath  = "/v1/enrol/bundle"
)

type hello struct {
	Proof []byte `json:"proof"`
}

type asked struct {
	Request string `json:"request"`
	Proof   []byte `json:"proof"`
}

type answer struct {
	Bundle string `json:"bundle"`
	Proof  []byte `json:"proof"`
}

type done struct {
	Box   string `json:"box,omitempty"`
	Error string `json:"error,omitempty"` // only to who has proved to know the code
}

// read decodes one message and nothing after it.
func read(r io.Reader, v any) error {
	d := json.NewDecoder(io.LimitReader(r, maxMessage))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("read message: more than one")
	}
	return nil
}
