package policy

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// MaxTrace is how long a trace's text may be that ParseTrace reads.
const MaxTrace = 4 << 20

// Replay decides again what a trace says was decided. The error names the first thing that differs. The book is the one
// of the trace's version.
func Replay(b *Book, t Trace) error {
	if b == nil || b.version != t.version {
		return fmt.Errorf("replay decision: it was made by book %d", t.version)
	}
	again, _ := b.decide(t.keys, t.facts, t.now)
	if bytes.Equal(again.AppendJSON(nil), t.AppendJSON(nil)) {
		return nil
	}
	return fmt.Errorf("replay decision: %s", t.difference(again))
}

// difference says what is not in the one as in the other.
func (t Trace) difference(again Trace) string {
	for i := range max(len(t.rules), len(again.rules)) {
		if i >= len(t.rules) || i >= len(again.rules) || t.rules[i] != again.rules[i] {
			return fmt.Sprintf("rule step %d was %s, is %s", i+1, stepOf(t.rules, i), stepOf(again.rules, i))
		}
	}
	for i := range max(len(t.lists), len(again.lists)) {
		if i >= len(t.lists) || i >= len(again.lists) || t.lists[i] != again.lists[i] {
			return fmt.Sprintf("list step %d was %s, is %s", i+1, stepOf(t.lists, i), stepOf(again.lists, i))
		}
	}
	if was, is := t.result(), again.result(); was != is {
		return fmt.Sprintf("result was %s, is %s", was, is)
	}
	return "facts are not in their one form"
}

func stepOf[T interface{ append([]byte) []byte }](steps []T, i int) string {
	if i >= len(steps) {
		return "none"
	}
	return string(steps[i].append(nil))
}

func (t Trace) result() string {
	switch {
	case t.reason != 0:
		return "refused: " + t.reason.String()
	case t.access == "":
		return "none"
	}
	return fmt.Sprintf("granted by %s for key %d", t.access, t.granted+1)
}

// wireTrace is a trace as it is written.
type wireTrace struct {
	Book        uint64        `json:"book"`
	Decryptor   string        `json:"decryptor"`
	Channel     string        `json:"channel"`
	Source      netip.Addr    `json:"source,omitzero"`
	Platform    wirePlatform  `json:"platform"`
	Time        time.Time     `json:"time"`
	Clock       string        `json:"clock"`
	Information []wireItem    `json:"information"`
	Unavailable []kra.Anchor  `json:"unavailable"`
	Answers     []wireAnswer  `json:"answers"`
	Keys        []block.KeyID `json:"keys"`
	Rules       []RuleStep    `json:"rules"`
	Lists       []ListStep    `json:"lists"`
	Refused     string        `json:"refused"`
	Granted     AccessID      `json:"granted"`
	Key         int           `json:"key"`
}

type wirePlatform struct {
	Domain       string `json:"domain"`
	Label        string `json:"label"`
	Name         string `json:"name"`
	Unmeasured   bool   `json:"unmeasured"`
	Version      uint64 `json:"version"`
	Age          int64  `json:"age"`
	Confirmation string `json:"confirmation"`
}

func (w wirePlatform) platform() (Platform, error) {
	p := Platform{Domain: w.Domain, Label: w.Label, Name: w.Name, Unmeasured: w.Unmeasured, Version: w.Version, Age: w.Age}
	if w.Confirmation != "" {
		b, err := hex.DecodeString(w.Confirmation)
		if err != nil || len(b) != len(p.Confirmation) {
			return Platform{}, errPlatform
		}
		p.Confirmation = [32]byte(b)
	}
	return p, p.check()
}

type wireItem struct {
	Kind      Kind       `json:"kind"`
	Name      string     `json:"name"`
	Value     string     `json:"value"`
	Authority kra.Anchor `json:"authority"`
	Via       string     `json:"via"`
	From      time.Time  `json:"from"`
	Until     time.Time  `json:"until"`
}

type wireAnswer struct {
	Service string  `json:"service"`
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason"`
}

var (
	errTraceForm = errors.New("parse trace: not in its one form")
	errTraceLong = fmt.Errorf("parse trace: longer than %d bytes", MaxTrace)
)

// ParseTrace reads what AppendJSON wrote, and no other text. Whether the decision was right, only Replay says.
func ParseTrace(text []byte) (Trace, error) {
	if len(text) > MaxTrace {
		return Trace{}, errTraceLong
	}
	var w wireTrace
	if err := json.Unmarshal(text, &w); err != nil {
		return Trace{}, fmt.Errorf("parse trace: %w", err)
	}
	t, err := w.trace()
	if err != nil {
		return Trace{}, fmt.Errorf("parse trace: %w", err)
	}
	if !bytes.Equal(t.AppendJSON(nil), text) {
		return Trace{}, errTraceForm
	}
	return t, nil
}

func (w wireTrace) trace() (Trace, error) {
	f, err := w.facts()
	if err != nil {
		return Trace{}, err
	}
	t := Trace{version: w.Book, facts: f, id: f.Decryptor.String(), now: w.Time, keys: w.Keys, rules: w.Rules, lists: w.Lists,
		granted: w.Key - 1, access: w.Granted}
	if w.Refused != "" {
		i, err := indexOf(reasons, "reason", w.Refused)
		t.reason, t.granted = Reason(i), 0
		return t, err
	}
	return t, nil
}

func (w wireTrace) facts() (f Facts, err error) {
	f = Facts{Source: w.Source, ClockTrusted: w.Clock == clockWord(true)}
	if w.Decryptor != "" {
		if f.Decryptor, err = kra.ParseDecryptor(w.Decryptor); err != nil {
			return Facts{}, err
		}
	}
	if w.Channel != "" {
		if f.Channel, err = ParseStanding(w.Channel); err != nil {
			return Facts{}, err
		}
	}
	items := make([]Item, len(w.Information))
	for i, x := range w.Information {
		via, err := ParseVia(x.Via)
		if err != nil {
			return Facts{}, err
		}
		items[i] = Item{x.Kind, x.Name, x.Value, x.Authority, via, x.From, x.Until}
	}
	if f.Platform, err = w.Platform.platform(); err != nil {
		return Facts{}, err
	}
	for _, a := range w.Answers {
		f.Answers = append(f.Answers, Answer(a))
	}
	f.Information, err = NewInformation(items, w.Unavailable)
	return f, err
}

// UnmarshalText reads what String wrote.
func (o *Outcome) UnmarshalText(b []byte) (err error) {
	*o, err = ParseOutcome(string(b))
	return err
}
