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

// numbered is the n-th number of a line, from 0.
func (a args) numbered(kind string, n int) int {
	x, err := strconv.Atoi(a.nth(kind, n))
	if err != nil {
		return 0 // no number of anything
	}
	return x
}

func (a args) access() kra.AccessID { return kra.AccessID(a.get("ACCESS")) }
func (a args) rule() Rule           { return Rule(a.get("RULE")) }
func (a args) group() Group         { return Group(a.get("GROUP")) }
func (a args) alias() kra.Anchor    { return kra.Anchor(a.get("ALIAS")) }
func (a args) anchor() kra.Anchor   { return kra.Anchor(a.get("ANCHOR")) }
func (a args) label() Label         { return Label(a.get("LABEL")) }
func (a args) seconds() time.Duration {
	return time.Duration(a.number("SECONDS", 0)) * time.Second
}
func (a args) box() Box         { return Box(a.get("BOX")) }
func (a args) disk() Disk       { return Disk(a.get("DISK")) }
func (a args) officer() Officer { return Officer(a.get("OFFICER")) }

func (a args) suite() Suite {
	return Suite(a.pick("p256", "p384", "rsa3072", "rsa4096", "mlkem768p256"))
}

func (a args) request() uint64 { return uint64(a.number("REQUEST", 0)) }

func (a args) team() Team { return Team(a.get("TEAM")) }

func (a args) thing() TeamGive {
	g := TeamGive{Team: a.team(), Thing: a.pick("access", "rule", "group")}
	g.Name = a.get(map[string]string{"access": "ACCESS", "rule": "RULE", "group": "GROUP"}[g.Thing])
	return g
}

func (a args) duty() Duty {
	switch a.pick("box", "operator", "auditor", "backup") {
	case "operator":
		return DutyOperator
	case "auditor":
		return DutyAuditor
	case "backup":
		return DutyBackup
	}
	return DutyOfficer
}

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

func (a args) span(kind string) time.Duration {
	d, _ := parseSpan(a.get(kind)) // checked; zero if it was left out
	return d
}

func (a args) addr(kind string) netip.Addr {
	addr, _ := netip.ParseAddr(a.get(kind))
	return addr
}

func (a args) server() string {
	s, _ := parseServer(a.get("SERVER")) // checked
	return s
}

func (a args) addrs(kind string) (out []netip.Addr) {
	for _, w := range a.words[kind] {
		addr, _ := netip.ParseAddr(w)
		out = append(out, addr)
	}
	return out
}

func (a args) prefix() netip.Prefix {
	p, _ := netip.ParsePrefix(a.get("PREFIX"))
	return p
}

func (a args) destination() netip.Prefix {
	p, _ := netip.ParsePrefix(a.get("DESTINATION")) // checked
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
	return a.pick("when", "from", "group", "role", "clearance", "ask", "platform", "id", "under", "until", "after") + " " + a.get("CONDITION")
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

func (a args) root() [32]byte {
	root, _ := parseRoot(a.get("ROOT")) // checked
	return root
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
