package policy

import (
	"fmt"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// A shape walks a rule that CEL found well typed and holds it to the few forms a rule has:
//
//	rule = rule && rule | rule || rule | !rule | true | false
//	     | id == "..." | id != "..." | id in ["...", ...] | word.fn("...", ...)
//	     | platform.measured | platform.word == ... | platform.word in [...] | platform.version >= 3 and so on
//
// It parses every literal on the way, makes the rule's nodes, and complains about what is wrong at its own place.
type shape struct {
	where, text string
	ast         *ast.AST
	build       builder
	first       *SyntaxError // the leftmost complaint
}

// nodesOf returns the nodes of a rule and what they use.
func nodesOf(where, text string, a *ast.AST, known knowing) (node, []use, error) {
	s := shape{where: where, text: text, ast: a, build: builder{known: known}}
	top := s.rule(a.Expr())
	if s.first != nil {
		return nil, nil, s.first
	}
	return top, s.build.uses, nil
}

// complain returns no node.
func (s *shape) complain(at ast.Expr, format string, args ...any) node {
	col := s.ast.SourceInfo().GetStartLocation(at.ID()).Column()
	if s.first == nil || col < s.first.Column {
		s.first = &SyntaxError{s.where, s.text, col, fmt.Sprintf(format, args...)}
	}
	return nil
}

func (s *shape) rule(x ast.Expr) node {
	switch x.Kind() {
	case ast.LiteralKind:
		if v, ok := x.AsLiteral().Value().(bool); ok {
			return constNode(v)
		}
		return s.complain(x, "a value is no rule; ask something about it")
	case ast.CallKind:
		return s.call(x, x.AsCall())
	case ast.IdentKind:
		if x.AsIdent() == platformMeasured {
			return measuredNode{}
		}
	}
	return s.complain(x, "want a question, such as groups.has(\"legal\")")
}

func (s *shape) call(x ast.Expr, c ast.CallExpr) node {
	switch c.FunctionName() {
	case operators.LogicalAnd:
		return countNode{len(c.Args()), s.rules(c.Args())}
	case operators.LogicalOr:
		return countNode{1, s.rules(c.Args())}
	case operators.LogicalNot:
		return notNode{s.rule(c.Args()[0])}
	case operators.Equals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		return s.compare(c.FunctionName(), c.Args()[0], c.Args()[1])
	case operators.NotEquals:
		return notNode{s.compare(operators.Equals, c.Args()[0], c.Args()[1])}
	case operators.In:
		if c.Args()[1].Kind() != ast.ListKind {
			return s.complain(c.Args()[1], "want a list")
		}
		return s.compare(operators.Equals, c.Args()[0], c.Args()[1].AsList().Elements()...)
	}
	if c.IsMemberFunction() {
		return s.question(x, c)
	}
	return s.complain(x, "%s cannot stand in a rule", c.FunctionName())
}

func (s *shape) rules(xs []ast.Expr) []node {
	of := make([]node, len(xs))
	for i, x := range xs {
		of[i] = s.rule(x)
	}
	return of
}

// compare makes the comparison of a word with literals, one of which has to fit.
func (s *shape) compare(op string, word ast.Expr, with ...ast.Expr) node {
	name := ""
	if word.Kind() == ast.IdentKind {
		name = word.AsIdent()
	}
	switch {
	case isAmount(name):
		return s.amounts(op, name, with)
	case isPlatformText(name):
		return s.platforms(name, with)
	}
	s.isID(word)
	return s.identities(with...)
}

var comparisons = map[string]func(have, want int64) bool{
	operators.Equals:        func(have, want int64) bool { return have == want },
	operators.Less:          func(have, want int64) bool { return have < want },
	operators.LessEquals:    func(have, want int64) bool { return have <= want },
	operators.Greater:       func(have, want int64) bool { return have > want },
	operators.GreaterEquals: func(have, want int64) bool { return have >= want },
}

func (s *shape) amounts(op, word string, xs []ast.Expr) node {
	n := amountNode{word: word, does: comparisons[op]}
	for _, x := range xs {
		if x.Kind() == ast.LiteralKind {
			if v, ok := x.AsLiteral().Value().(int64); ok && v >= 0 && v <= MaxVersion {
				n.want = append(n.want, v)
				continue
			}
		}
		s.complain(x, "want a number from 0 on")
	}
	return n
}

func (s *shape) platforms(word string, xs []ast.Expr) node {
	n := platformNode{word: word}
	for _, x := range xs {
		v, ok := s.literal(x)
		if !ok {
			continue
		}
		if err := checkPlatform(word, v); err != nil {
			s.complain(x, "%v", err)
		}
		n.values = append(n.values, v)
	}
	return n
}

func (s *shape) isID(x ast.Expr) {
	if x.Kind() != ast.IdentKind || x.AsIdent() != wordID {
		s.complain(x, "want id here, or a word about the platform: only who asks can be compared")
	}
}

// identities checks the literals that id is compared with. One that is no decryptor's identifier would compare unequal to
// everybody, and under a negation let everybody in.
func (s *shape) identities(xs ...ast.Expr) node {
	ids := make(idNode, len(xs))
	for i, x := range xs {
		v, ok := s.literal(x)
		if !ok {
			continue
		}
		if err := checkIdentity(v); err != nil {
			s.complain(x, "%v", err)
		}
		ids[i] = v
	}
	return ids
}

// question makes word.fn(literal, ...), of which CEL checked how many literals there are.
func (s *shape) question(x ast.Expr, c ast.CallExpr) node {
	args := make([]string, len(c.Args()))
	for i, a := range c.Args() {
		var ok bool
		if args[i], ok = s.literal(a); !ok {
			return nil
		}
	}
	if c.Target().Kind() != ast.IdentKind {
		s.isID(c.Target())
		return nil
	}
	n, at, err := s.ask(c.Target().AsIdent(), c.FunctionName(), args)
	switch {
	case err != nil:
		return s.complain(c.Args()[at], "%v", err)
	case n == nil:
		return s.complain(x, "%s cannot be asked %s", c.Target().AsIdent(), c.FunctionName())
	}
	return n
}

// ask makes the node of a question. An error is about the argument whose index comes with it.
func (s *shape) ask(word, fn string, args []string) (n node, at int, err error) {
	switch word {
	case wordID:
		return underNode(args[0]), 0, checkBase(args[0])
	case wordGroups:
		if len(args) == 1 {
			return s.build.group(args[0])
		}
		return s.build.said(Group, args...)
	case wordRoles:
		if len(args) == 1 {
			return s.build.role(args[0])
		}
		return s.build.said(Role, args...)
	case wordAttributes:
		return s.build.said(Attribute, args...)
	case wordDevice:
		return s.build.said(Device, args...)
	case wordAliases:
		return s.build.alias(args[0], args[1])
	case wordClearance:
		return s.build.cleared(args...)
	case wordExternal:
		return s.build.service(args[0])
	case wordSource:
		p, err := parseNet(args[0])
		return netNode(p), 0, err
	case wordClock:
		n, err = askClock(fn, args[0])
	}
	return n, 0, err
}

func askClock(fn, arg string) (node, error) {
	if fn == fnWithin {
		w, err := parseWindow(arg)
		return windowNode{w}, err
	}
	t, err := parseInstant(arg)
	if fn == fnBefore {
		return notNode{sinceNode(t)}, err
	}
	return sinceNode(t), err
}

func (s *shape) literal(x ast.Expr) (string, bool) {
	if x.Kind() == ast.LiteralKind {
		if v, ok := x.AsLiteral().Value().(string); ok {
			return v, true
		}
	}
	s.complain(x, "want a literal, in quotes")
	return "", false
}
