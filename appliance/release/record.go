package release

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// reencrypted marks a record of a request by somebody who proved nothing: it says who could have read the answer, not
// who asked, and is charged to nobody.
const reencrypted = "re-encrypted"

// maxNote bounds a reason or a note in a record, in bytes: some quote what a stranger wrote.
const maxNote = 500

// anyKey marks a record of a release by another key of the header than that of the access identifier that passed.
const anyKey = `"key":"any of the header",`

// asFirst is the reason of every further header of a request whose claimant is refused, once, for all of them.
const asFirst = "as the first"

const (
	maxNotes   = 32                                // notes in a record
	maxRecords = audit.MaxAppend / (1 + maxOthers) // private parts of one request, in bytes: each wrap that is tried has one
	recordHead = 1 << 10                           // bytes that a record has besides its private part
)

// tooMuch is the reason of what could not be recorded.
const tooMuch = "too much to record in one request"

// later is the most that the private part of a record grows after fit: by a reason, of which JSON may write each byte as
// six, and by the marks of another key, and of one that stayed in the HSM.
const later = len(`"reason":"",`) + 6*maxNote + len(anyKey) + len(`,"inside":true`)

// fit refuses what could not be recorded, before the HSM is asked: what was unwrapped must be in the log. No record is longer
// than the log takes, whatever becomes of the job, and all of them fit one append. A record of such a job says who asked,
// but not how it was decided; the requester does better with fewer headers at once.
func fit(c *claimant, jobs []job) {
	left, short := maxRecords, 0
	if len(jobs) > 1 {
		short = recordHead + len((&job{terse: true}).private(c, tooMuch))
	}
	for i := range jobs {
		j := &jobs[i]
		own := j.privateSize(c)
		if own > receipt.MaxPrivate || recordHead+own > left-short*(len(jobs)-1-i) {
			j.grant, j.terse, j.ready = policy.Grant{}, true, nil
			j.refuse(c, tooMuch)
			own = j.privateSize(c)
		}
		left -= recordHead + own
	}
}

// privateSize is the length of the private part of a job's record or, of one that was granted, the most that it can become.
func (j *job) privateSize(c *claimant) int {
	if b, ok := j.entry.Private.(json.RawMessage); ok {
		return len(b)
	}
	j.ready = j.private(c, "")
	return len(j.ready) + later
}

// released returns the private part of a release's record.
func (j *job) released(c *claimant) json.RawMessage {
	if j.ready == nil || j.other || j.sealed != nil {
		return j.private(c, "")
	}
	return j.ready
}

// private returns the part of a record that only the owner of the log can read: why, how the key left, and the whole
// decision, or what was asked if nothing was decided.
func (j *job) private(c *claimant, reason string) json.RawMessage {
	b := make([]byte, 0, 512)
	b = append(b, '{')
	if reason != "" {
		b = append(append(append(b, `"reason":`...), text(clip(reason))...), ',')
	}
	if c.facts.Channel == policy.Reencrypted {
		b = append(b, `"channel":"`+reencrypted+`",`...)
	}
	if c.to != kra.ToChannel {
		b = append(append(append(b, `"delivery":`...), text(j.deliveryPart(c))...), ',')
	}
	if j.other {
		b = append(b, anyKey...)
	}
	if len(c.notes) > 0 && !j.terse {
		b = append(append(append(b, `"notes":`...), text(clipped(c.notes))...), ',')
	}
	if c.refuse != nil || j.terse {
		b = append(append(b, `"request":`...), text(requestPart{c.facts.Decryptor.String(), c.claim, c.facts.Source.String()})...)
	} else {
		b = j.trace.AppendJSON(append(b, `"decision":`...))
	}
	return append(b, '}')
}

type requestPart struct {
	Decryptor string `json:"decryptor"`
	Claim     string `json:"claim"`
	Source    string `json:"source"`
}

// A delivered says where to: Key is the id of the public key that the answer is sealed to.
type delivered struct {
	To  string `json:"to"`
	Key string `json:"key,omitempty"`

	Inside bool `json:"inside,omitempty"` // the HSM sealed it, says this agent: the message key was not seen here
}

func (j *job) deliveryPart(c *claimant) delivered {
	d := delivered{To: c.to.String(), Inside: j.sealed != nil}
	if c.seal == nil {
		return d
	}
	if spki, err := block.MarshalPublicKey(c.seal); err == nil { // it was parsed from one
		sum := sha256.Sum256(spki)
		d.Key = hex.EncodeToString(sum[:])
	}
	return d
}

// clip cuts s between two characters.
func clip(s string) string {
	if len(s) > maxNote {
		s = s[:maxNote]
	}
	return strings.ToValidUTF8(s, "")
}

func clipped(all []string) []string {
	all = all[:min(len(all), maxNotes)]
	out := make([]string, len(all))
	for i, s := range all {
		out[i] = clip(s)
	}
	return out
}

func text(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("release: text has no JSON") // cannot be: Marshal of strings does not fail
	}
	return b
}
