package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// literals are the arguments of a rule's words, each parsed once, when the rule was defined. A word looks its argument
// up here by its text; an argument that is not here was no literal, and there is none, for checkShape refused it.
type literals struct {
	windows  map[string]*window
	instants map[string]time.Time
	nets     map[string]netip.Prefix
	groups   map[string]GroupName
}

func newLiterals() literals {
	return literals{map[string]*window{}, map[string]time.Time{}, map[string]netip.Prefix{}, map[string]GroupName{}}
}

// take parses the argument of one word and keeps it.
func (l *literals) take(fn, arg string) (err error) {
	switch fn {
	case fnWithin:
		l.windows[arg], err = parseWindow(arg)
	case fnBefore, fnAfter:
		l.instants[arg], err = parseInstant(arg)
	case fnNet:
		l.nets[arg], err = parseNet(arg)
	case fnHas:
		l.groups[arg], err = ParseGroupName(arg)
	case fnUnder:
		err = checkBase(arg)
	}
	return err
}

// checkBase accepts ALIAS: and ALIAS:NAME.
func checkBase(s string) error {
	if alias, ok := strings.CutSuffix(s, ":"); ok {
		_, err := kra.ParseAnchor(alias)
		return err
	}
	return checkIdentity(s)
}

func checkIdentity(s string) error {
	_, err := kra.ParseDecryptor(s)
	return err
}

func parseInstant(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("bad time %q, want one such as 2027-01-31T00:00:00Z", clip(s))
	}
	return t, nil
}

func parseNet(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("bad network %q, want one such as 10.20.0.0/16 or 2001:db8::/32", clip(s))
	case p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("bad network %q: write IPv4 as IPv4", s)
	case p.Masked().String() != s:
		return netip.Prefix{}, fmt.Errorf("bad network %q: write it as %s", s, p.Masked())
	}
	return p, nil
}
