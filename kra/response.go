package kra

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/keyrelease/krabox/kra/block"
)

// A Response answers a Request: one Result for each header, in their order. Checkpoint and chain belong to all receipts in
// it and are empty when every result is a refusal.
type Response struct {
	Results    []Result
	Checkpoint string // signed note over the release log, PROTOCOL.md
	Chain      string // PEM: certificates of the receipt key, up to but not including the domain's root
}

// A Result is a released key with its receipt, in the clear or sealed, or a refusal. The zero Result is a refusal. A
// refusal says nothing else: whoever asks must not learn why.
type Result struct {
	released bool
	key      MessageKey
	sealed   *Sealed // instead of key
	access   AccessID
	receipt  []byte
}

// Released makes the result that hands out a key. receipt is the receipt's JSON without white space.
func Released(key MessageKey, access AccessID, receipt []byte) Result {
	return Result{released: true, key: key, access: access, receipt: receipt}
}

// ReleasedSealed makes the result that hands out a key that only one can open.
func ReleasedSealed(key Sealed, access AccessID, receipt []byte) Result {
	return Result{released: true, sealed: &key, access: access, receipt: receipt}
}

// Refused reports whether the result is a refusal.
func (r Result) Refused() bool { return !r.released }

// Key returns the released key. It is spent if the key is sealed.
func (r Result) Key() MessageKey { return r.key }

// Sealed returns the released key if it is sealed.
func (r Result) Sealed() (Sealed, bool) {
	if r.sealed == nil {
		return Sealed{}, false
	}
	return *r.sealed, true
}

// Access returns the access identifier under which the key was released.
func (r Result) Access() AccessID { return r.access }

// Receipt returns the JSON of the receipt, which package receipt verifies.
func (r Result) Receipt() []byte { return r.receipt }

// Append appends the response's JSON to b and uses up the keys in it. Whoever sends b clears it afterwards.
func (r Response) Append(b []byte) ([]byte, error) {
	b = append(b, `{"results":[`...)
	for i, res := range r.Results {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = res.append(b); err != nil {
			clear(b)
			return nil, fmt.Errorf("encode response: %w", err)
		}
	}
	b = append(b, ']')
	if r.Checkpoint != "" {
		b = appendString(append(b, `,"checkpoint":`...), r.Checkpoint)
	}
	if r.Chain != "" {
		b = appendString(append(b, `,"chain":`...), r.Chain)
	}
	return append(b, '}'), nil
}

func (r Result) append(b []byte) ([]byte, error) {
	if r.Refused() {
		return append(b, `{"refused":true}`...), nil
	}
	if len(r.receipt) == 0 {
		return b, errors.New("a released key has no receipt")
	}
	var err error
	if r.sealed != nil {
		b = r.sealed.append(append(b, `{"sealed":`...))
	} else {
		b = append(b, `{"key":"`...)
		err = r.key.Use(func(key []byte) error {
			b = base64.StdEncoding.AppendEncode(b, key)
			return nil
		})
		b = append(b, '"')
	}
	b = append(b, `,"access":"`...)
	b = append(b, r.access...)
	b = append(b, `","receipt":`...)
	b = append(b, r.receipt...)
	return append(b, '}'), err
}

// wireResponse is Response as encoding/json sees it. Its encoding is the one that Append writes.
type wireResponse struct {
	Results    []wireResult `json:"results"`
	Checkpoint string       `json:"checkpoint,omitempty"`
	Chain      string       `json:"chain,omitempty"`
}

type wireResult struct {
	Refused bool            `json:"refused,omitempty"`
	Key     []byte          `json:"key,omitempty"`
	Sealed  *wireSealed     `json:"sealed,omitempty"`
	Access  AccessID        `json:"access,omitempty"`
	Receipt json.RawMessage `json:"receipt,omitempty"`
}

// ParseResponse reads the answer to a request for n headers. It takes over the keys and zeroes its copies, body included.
func ParseResponse(body []byte, n int) (Response, error) {
	defer clear(body)
	var w wireResponse
	if len(body) > MaxResponse {
		return Response{}, fmt.Errorf("parse response: %d bytes, at most %d are accepted", len(body), MaxResponse)
	}
	if err := decodeCanonical(body, &w); err != nil {
		return Response{}, fmt.Errorf("parse response: %w", err)
	}
	if len(w.Results) != n {
		return Response{}, fmt.Errorf("parse response: %d results for %d headers", len(w.Results), n)
	}
	r := Response{make([]Result, n), w.Checkpoint, w.Chain}
	for i := range w.Results {
		var err error
		if r.Results[i], err = w.Results[i].close(); err != nil {
			return Response{}, fmt.Errorf("parse response: results[%d]: %w", i, err)
		}
	}
	return r, nil
}

func (w wireResult) close() (Result, error) {
	if w.Refused {
		if len(w.Key) != 0 || w.Sealed != nil || w.Access != "" || len(w.Receipt) != 0 {
			return Result{}, errors.New("a refusal with contents")
		}
		return Result{}, nil
	}
	access, err := ParseAccessID(string(w.Access))
	if err != nil {
		return Result{}, err
	}
	if len(w.Receipt) == 0 || w.Receipt[0] != '{' {
		return Result{}, errors.New("a key without a receipt")
	}
	if w.Sealed != nil {
		if len(w.Key) != 0 {
			return Result{}, errors.New("a key twice")
		}
		s, err := w.Sealed.close()
		return ReleasedSealed(s, access, bytes.Clone(w.Receipt)), err
	}
	key, err := block.NewFileKey(w.Key)
	if err != nil {
		return Result{}, err
	}
	return Released(key, access, bytes.Clone(w.Receipt)), nil
}
