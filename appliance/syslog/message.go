package syslog

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyrelease/krabox/kra/receipt"
)

// Limits, in bytes. RFC 5425, section 4.3.1: receivers should take messages of 8192.
const (
	maxMessage = 8192
	maxValue   = 512 // of one parameter, before it is escaped
	lastWords  = 160 // kept for the end of the message
)

const (
	appName  = "krad"
	facility = 13 // log audit
	// element is the identifier of the structured data. 32473 is the enterprise number for examples (RFC 5612); the product has none.
	element = "kra@32473"
)

// Severities of RFC 5424, section 6.2.1.
const (
	warning = 4
	notice  = 5
	info    = 6
)

var severities = map[receipt.Kind]int{receipt.Refusal: notice, receipt.Command: notice, receipt.Login: notice, receipt.HSMOrphan: warning,
	receipt.Time: notice, receipt.Enrol: notice, receipt.Book: notice, receipt.Copy: warning}

// private is what is told of the private parts of all kinds of records: no more than log show tells an auditor.
type private struct {
	Officer    string   `json:"officer"`
	Maintainer string   `json:"maintainer"`
	Approver   string   `json:"approver"`
	Line       string   `json:"line"`
	Stage      string   `json:"stage"`
	Detail     string   `json:"detail"`
	Outcome    string   `json:"outcome"`
	Reason     string   `json:"reason"`
	Channel    string   `json:"channel"`
	Software   string   `json:"software"`
	Request    request  `json:"request"`
	Decision   decision `json:"decision"`
}

// A request is what was asked where nothing was decided. The field is a number in the records of commands.
type request struct{ Decryptor, Claim, Source string }

// UnmarshalJSON leaves a number alone.
func (r *request) UnmarshalJSON(b []byte) error {
	var v struct {
		Decryptor string `json:"decryptor"`
		Claim     string `json:"claim"`
		Source    string `json:"source"`
	}
	if len(b) == 0 || b[0] != '{' {
		return nil
	}
	err := json.Unmarshal(b, &v)
	*r = request(v)
	return err
}

type decision struct {
	Decryptor string `json:"decryptor"`
	Source    string `json:"source"`
	Clock     string `json:"clock"`
	Refused   string `json:"refused"`
	Granted   string `json:"granted"`
	Rules     []struct {
		Rule    string `json:"rule"`
		Outcome string `json:"outcome"`
	} `json:"rules"`
	Lists []struct {
		Access  string `json:"access"`
		List    int    `json:"list"`
		Outcome string `json:"outcome"`
	} `json:"lists"`
}

// An Origin is the box whose log it is: Host is what it is called on its network, Box its own name, which does not change.
type Origin struct{ Host, Box string }

// A builder makes one message. Parameters that do not fit are left out, and the message says so.
type builder struct {
	b   []byte
	cut bool
}

// Message returns record index of a box's log as a message of RFC 5424, at most 8192 bytes of UTF-8 in one line:
//
//	<110>1 2026-11-22T14:00:00.000Z box1 krad - release [kra@32473 index="17" leaf="…" access="legal-team" …] record 17: release of legal-team
//
// A host name that is not the box's own name does not hide that: the parameter box has it.
func Message(from Origin, index int64, r receipt.Record) ([]byte, error) {
	p, err := receipt.ParsePublic(r.Public)
	if err != nil {
		return nil, fmt.Errorf("write syslog message: record %d: %w", index, err)
	}
	var v private
	if err := json.Unmarshal(r.Private, &v); err != nil {
		return nil, fmt.Errorf("write syslog message: record %d: %w", index, err)
	}
	severity, ok := severities[p.Kind]
	if !ok {
		severity = info
	}
	m := &builder{b: fmt.Appendf(nil, "<%d>1 %s %s %s - %s [%s", facility*8+severity, p.Time, header(from.Host), appName, p.Kind, element)}
	m.number("index", uint64(index))
	if from.Host != from.Box {
		m.param("box", from.Box)
	}
	leaf := r.Leaf()
	m.param("leaf", fmt.Sprintf("%x", leaf[:]))
	m.public(p)
	m.private(v)
	if m.cut {
		m.b = append(m.b, ` cut="1"`...)
	}
	m.b = fmt.Appendf(m.b, "] record %d: %s", index, p.Kind)
	if p.Access != "" {
		m.b = append(append(m.b, " of "...), header(p.Access)...)
	}
	return m.b, nil
}

func (m *builder) public(p receipt.Public) {
	m.param("access", p.Access)
	m.number("book", p.Book)
	if p.Header != nil {
		m.param("header", fmt.Sprintf("%x", p.Header[:]))
	}
	if i := p.Item; i != nil {
		m.param("key", fmt.Sprintf("%x", i.Key[:]))
		m.param("hsm", fmt.Sprintf("%s/%d", i.Instance, i.N))
	}
}

func (m *builder) private(v private) {
	d := v.Decision
	m.param("decryptor", cmp.Or(d.Decryptor, v.Request.Decryptor))
	m.param("claim", v.Request.Claim)
	m.param("source", cmp.Or(d.Source, v.Request.Source))
	m.param("channel", v.Channel)
	m.param("reason", v.Reason)
	m.param("refused", d.Refused)
	m.param("granted", d.Granted)
	m.param("officer", v.Officer)
	m.param("approver", v.Approver)
	m.param("maintainer", v.Maintainer)
	m.param("stage", v.Stage)
	m.param("outcome", v.Outcome)
	m.param("line", v.Line)
	m.param("detail", v.Detail)
	m.param("software", v.Software)
	m.param("clock", d.Clock)
	var lists, rules []string
	for _, l := range d.Lists {
		lists = append(lists, fmt.Sprintf("%s/%d=%s", l.Access, l.List, l.Outcome))
	}
	for _, r := range d.Rules {
		rules = append(rules, r.Rule+"="+r.Outcome)
	}
	m.param("lists", strings.Join(lists, " "))
	m.param("rules", strings.Join(rules, " "))
}

func (m *builder) number(name string, n uint64) { m.param(name, strconv.FormatUint(n, 10)) }

// param adds a parameter that says something.
func (m *builder) param(name, value string) {
	if value == "" {
		return
	}
	if len(value) > maxValue {
		value, m.cut = value[:maxValue], true
	}
	start := len(m.b)
	m.b = append(append(append(m.b, ' '), name...), `="`...)
	m.b = append(appendValue(m.b, value), '"')
	if len(m.b) > maxMessage-lastWords {
		m.b, m.cut = m.b[:start], true
	}
}

// appendValue writes a PARAM-VALUE of RFC 5424, section 6.3.3: " \ and ] get a backslash. What would end a line, or steer a terminal or
// a reader's eye, is written as its number: \u000a.
func appendValue(b []byte, value string) []byte {
	for _, r := range strings.ToValidUTF8(value, "\uFFFD") {
		switch {
		case r == '"' || r == '\\' || r == ']':
			b = utf8.AppendRune(append(b, '\\'), r)
		case !unicode.IsPrint(r):
			b = fmt.Appendf(b, `\\u%04x`, r)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

// header is a word of a header, or of the text: printable US-ASCII, at most 255 bytes.
func header(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return cmp.Or(s[:min(len(s), 255)], "-")
}
