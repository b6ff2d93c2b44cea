package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/keyrelease/krabox/kra"
)

// literals are the arguments of a rule's words, each parsed once, when the rule was defined. A word looks its argument
// up here by its text; an argument that is not here was no literal, and there is none, for check refused it.
type literals struct {
	windows  map[string]*window
	instants map[string]time.Time
	nets     map[string]netip.Prefix
	groups   map[string]GroupName
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

// collect parses every literal argument of the expression and reports what is wrong with it, or not a literal, at its
// own place.
func collect(a *ast.AST, known func(GroupName) bool, report func(id int64, msg string)) literals {
	l := literals{map[string]*window{}, map[string]time.Time{}, map[string]netip.Prefix{}, map[string]GroupName{}}
	for _, call := range ast.MatchDescendants(ast.NavigateAST(a), ast.KindMatcher(ast.CallKind)) {
		c := call.AsCall()
		switch c.FunctionName() {
		case fnWithin, fnBefore, fnAfter, fnNet, fnHas, fnUnder:
			checkArgument(&l, c.FunctionName(), c.Args()[0], known, report)
		case operators.Equals, operators.NotEquals, operators.In:
			checkIdentities(c.Args(), report)
		}
	}
	return l
}

func checkArgument(l *literals, fn string, arg ast.Expr, known func(GroupName) bool, report func(int64, string)) {
	s, ok := stringLiteral(arg)
	if !ok {
		report(arg.ID(), "argument of "+fn+" must be a literal")
		return
	}
	if err := l.take(fn, s); err != nil {
		report(arg.ID(), err.Error())
	} else if fn == fnHas && !known(GroupName(s)) {
		report(arg.ID(), fmt.Sprintf("unknown group %q", s))
	}
}

// checkIdentities checks the literals that id is compared with: one that is no decryptor's identifier would compare
// unequal to everybody, and under a negation let everybody in.
func checkIdentities(args []ast.Expr, report func(int64, string)) {
	for _, arg := range args {
		elems := []ast.Expr{arg}
		if arg.Kind() == ast.ListKind {
			elems = arg.AsList().Elements()
		}
		for _, e := range elems {
			s, ok := stringLiteral(e)
			if !ok {
				continue
			}
			if _, err := kra.ParseDecryptor(s); err != nil {
				report(e.ID(), err.Error())
			}
		}
	}
}

func stringLiteral(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().Value().(string)
	return s, ok
}
