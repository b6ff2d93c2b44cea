package policy

import (
	"fmt"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// A shape walks a rule that CEL found well typed and holds it to the few forms a rule has:
//
//	rule = rule && rule | rule || rule | !rule | true | false
//	     | id == "..." | id != "..." | id in ["...", ...] | word.fn("...")
//
// It parses every literal on the way and complains about what is wrong at its own place.
type shape struct {
	where, text string
	ast         *ast.AST
	known       func(GroupName) bool
	lits        literals
	first       *SyntaxError // the leftmost complaint
}

// checkShape returns the literals of a rule.
func checkShape(where, text string, a *ast.AST, known func(GroupName) bool) (literals, error) {
	s := shape{where: where, text: text, ast: a, known: known, lits: newLiterals()}
	s.rule(a.Expr())
	if s.first != nil {
		return literals{}, s.first
	}
	return s.lits, nil
}

func (s *shape) complain(at ast.Expr, format string, args ...any) {
	col := s.ast.SourceInfo().GetStartLocation(at.ID()).Column()
	if s.first == nil || col < s.first.Column {
		s.first = &SyntaxError{s.where, s.text, col, fmt.Sprintf(format, args...)}
	}
}

func (s *shape) rule(x ast.Expr) {
	switch x.Kind() {
	case ast.LiteralKind:
		if _, ok := x.AsLiteral().Value().(bool); !ok {
			s.complain(x, "a value is no rule; ask something about it")
		}
	case ast.CallKind:
		s.call(x, x.AsCall())
	default:
		s.complain(x, "want a question, such as groups.has(\"legal\")")
	}
}

func (s *shape) call(x ast.Expr, c ast.CallExpr) {
	switch c.FunctionName() {
	case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot:
		for _, arg := range c.Args() {
			s.rule(arg)
		}
	case operators.Equals, operators.NotEquals:
		s.isID(c.Args()[0])
		s.identity(c.Args()[1])
	case operators.In:
		s.isID(c.Args()[0])
		s.identities(c.Args()[1])
	case fnUnder:
		s.isID(c.Target())
		s.argument(c)
	case fnWithin, fnBefore, fnAfter, fnNet, fnHas:
		s.argument(c)
	default:
		s.complain(x, "%s cannot stand in a rule", c.FunctionName())
	}
}

func (s *shape) isID(x ast.Expr) {
	if x.Kind() != ast.IdentKind || x.AsIdent() != wordID {
		s.complain(x, "want id here: only who asks can be compared")
	}
}

func (s *shape) identities(x ast.Expr) {
	if x.Kind() != ast.ListKind {
		s.complain(x, "want a list of decryptors")
		return
	}
	for _, e := range x.AsList().Elements() {
		s.identity(e)
	}
}

// identity checks a literal that id is compared with. One that is no decryptor's identifier would compare unequal to
// everybody, and under a negation let everybody in.
func (s *shape) identity(x ast.Expr) {
	v, ok := s.literal(x)
	if !ok {
		return
	}
	if err := checkIdentity(v); err != nil {
		s.complain(x, "%v", err)
	}
}

func (s *shape) argument(c ast.CallExpr) {
	x := c.Args()[0]
	v, ok := s.literal(x)
	if !ok {
		return
	}
	if err := s.lits.take(c.FunctionName(), v); err != nil {
		s.complain(x, "%v", err)
	} else if c.FunctionName() == fnHas && !s.known(GroupName(v)) {
		s.complain(x, "unknown group %q", v)
	}
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
