package console

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// args are the words of a line that matched a form. Kinds have been checked, so that conversions cannot fail.
type args struct {
	fixed []string
	words map[string][]string
}

func (a args) pick(choices ...string) string {
	for _, f := range a.fixed {
		for _, c := range choices {
			if f == c {
				return f
			}
		}
	}
	return ""
}

func (a args) get(kind string) string {
	if w := a.words[kind]; len(w) > 0 {
		return w[0]
	}
	return ""
}

// nth returns one of several words of a kind, from 0.
func (a args) nth(kind string, n int) string {
	if w := a.words[kind]; n < len(w) {
		return w[n]
	}
	return ""
}

func (a args) access() kra.AccessID { return kra.AccessID(a.get("ACCESS")) }
func (a args) rule() Rule           { return Rule(a.get("RULE")) }
func (a args) group() Group         { return Group(a.get("GROUP")) }
func (a args) alias() kra.Anchor    { return kra.Anchor(a.get("ALIAS")) }
func (a args) anchor() kra.Anchor   { return kra.Anchor(a.get("ANCHOR")) }
func (a args) box() Box             { return Box(a.get("BOX")) }
func (a args) officer() Officer     { return Officer(a.get("OFFICER")) }

func (a args) custody() Custody {
	if a.pick("bound") != "" {
		return Bound
	}
	return Replicable
}

func (a args) naming() kra.Naming {
	if a.pick("common") != "" {
		return kra.CommonName
	}
	return kra.WholeName
}

func (a args) decryptor() kra.Decryptor {
	d, _ := kra.ParseDecryptor(a.get("DECRYPTOR")) // checked; nobody if it was left out
	return d
}

func (a args) addr(kind string) netip.Addr {
	addr, _ := netip.ParseAddr(a.get(kind))
	return addr
}

func (a args) prefix() netip.Prefix {
	p, _ := netip.ParsePrefix(a.get("PREFIX"))
	return p
}

func (a args) accesses() []kra.AccessID {
	var out []kra.AccessID
	for _, id := range a.words["ACCESSES"] {
		out = append(out, kra.AccessID(id))
	}
	return out
}

func (a args) keys() []KeyRef {
	var out []KeyRef
	for _, k := range a.words["KEYS"] {
		out = append(out, KeyRef(k))
	}
	return out
}

func (a args) infoKinds() []InfoKind {
	all, _ := parseInfoKinds(a.get("KINDS")) // checked
	return all
}

func (a args) items(kind string) []Item {
	var out []Item
	for _, w := range a.words[kind] {
		i, _ := parseItem(w) // checked
		out = append(out, i)
	}
	return out
}

func (a args) marks() []Mark {
	var out []Mark
	for _, w := range a.words["MARKS"] {
		m, _ := parseMark(w) // checked
		out = append(out, m)
	}
	return out
}

// short is a condition in the short form of package policy, from its first word on.
func (a args) short() string {
	return a.pick("when", "from", "group", "role", "clearance", "ask", "id", "under", "until", "after") + " " + a.get("CONDITION")
}

func (a args) lists() []string {
	var out []string
	for l := range strings.SplitSeq(a.get("LIST"), ";") {
		if l = strings.TrimSpace(l); l != "" {
			out = append(out, l)
		}
	}
	return out
}

func (a args) time() time.Time {
	t, _ := parseTime(a.get("TIME"))
	return t
}

func (a args) number(kind string, otherwise int64) int64 {
	n, err := strconv.ParseInt(a.get(kind), 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}
