package policy

import (
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// A list is a rule list: an expression over names of rules. Its text is CEL; because nothing but names, the logical
// operators and at_least may stand in it, it is evaluated here, without an environment that would have to declare
// every rule of the book.
type list struct {
	text  string
	top   node
	names []RuleName // every rule it names, once
}

// knows reports whether all rules that the list names are there.
func (l *list) knows(known func(RuleName) bool) bool {
	return !slices.ContainsFunc(l.names, func(n RuleName) bool { return !known(n) })
}

// A node of a list has the meaning that CEL gives it: an operator whose outcome does not depend on an operand that
// errored, does not err. Operands are asked from left to right and only as far as needed.
type node interface {
	eval(e *evaluation) Outcome
}

type (
	nameNode  RuleName
	notNode   struct{ of node }
	countNode struct { // at least need of the operands: && is all of them, || is one
		need int
		of   []node
	}
)

func (n nameNode) eval(e *evaluation) Outcome { return e.ask(RuleName(n)) }

func (n notNode) eval(e *evaluation) Outcome {
	switch n.of.eval(e) {
	case Passed:
		return Failed
	case Failed:
		return Passed
	}
	return Errored
}

func (n countNode) eval(e *evaluation) Outcome {
	passed, errored := 0, 0
	for i, operand := range n.of {
		switch operand.eval(e) {
		case Passed:
			passed++
		case Failed:
		default:
			errored++
		}
		if passed >= n.need {
			return Passed
		}
		if passed+errored+len(n.of)-i-1 < n.need {
			return Failed
		}
	}
	return Errored
}

// newGrammar returns the CEL environment that parses lists. It declares nothing: lists are parsed, not checked, by CEL.
func newGrammar() (*cel.Env, error) {
	e, err := cel.NewCustomEnv(cel.ClearMacros(), cel.ParserRecursionLimit(maxNesting), cel.ParserExpressionSizeLimit(MaxText))
	if err != nil {
		return nil, fmt.Errorf("make list grammar: %w", err)
	}
	return e, nil
}

// compileList compiles a list. known says which rules there are.
func compileList(grammar *cel.Env, where, text string, known func(RuleName) bool) (*list, error) {
	if err := checkText(where, text); err != nil {
		return nil, err
	}
	if name, err := ParseRuleName(text); err == nil && known(name) {
		return &list{text, nameNode(name), []RuleName{name}}, nil // what most lists are
	}
	a, iss := grammar.Parse(text)
	if iss.Err() != nil {
		return nil, syntaxError(where, text, iss)
	}
	c := listCompiler{where: where, text: text, ast: a.NativeRep(), known: known}
	top, err := c.compile(a.NativeRep().Expr())
	if err != nil {
		return nil, err
	}
	return &list{text, top, c.names}, nil
}

type listCompiler struct {
	where, text string
	ast         *ast.AST
	known       func(RuleName) bool
	names       []RuleName
}

func (c *listCompiler) fail(x ast.Expr, format string, args ...any) error {
	col := c.ast.SourceInfo().GetStartLocation(x.ID()).Column()
	return &SyntaxError{c.where, c.text, col, fmt.Sprintf(format, args...)}
}

func (c *listCompiler) compile(x ast.Expr) (node, error) {
	switch x.Kind() {
	case ast.IdentKind:
		return c.name(x)
	case ast.CallKind:
		return c.call(x)
	}
	return nil, c.fail(x, "want the name of a rule")
}

func (c *listCompiler) name(x ast.Expr) (node, error) {
	name := RuleName(x.AsIdent())
	if !c.known(name) {
		return nil, c.fail(x, "unknown rule %q", clip(string(name)))
	}
	for _, n := range c.names {
		if n == name {
			return nameNode(name), nil
		}
	}
	c.names = append(c.names, name)
	return nameNode(name), nil
}

func (c *listCompiler) call(x ast.Expr) (node, error) {
	call := x.AsCall()
	switch fn := call.FunctionName(); {
	case fn == fnAtLeast && !call.IsMemberFunction():
		return c.atLeast(x)
	case fn != operators.LogicalAnd && fn != operators.LogicalOr && fn != operators.LogicalNot:
		return nil, c.fail(x, "want names of rules with &&, ||, ! and at_least(k, [...])")
	}
	of, err := c.all(call.Args())
	if err != nil {
		return nil, err
	}
	switch call.FunctionName() {
	case operators.LogicalNot:
		return notNode{of[0]}, nil
	case operators.LogicalOr:
		return countNode{1, of}, nil
	}
	return countNode{len(of), of}, nil
}

func (c *listCompiler) atLeast(x ast.Expr) (node, error) {
	args := x.AsCall().Args()
	if len(args) != 2 || args[0].Kind() != ast.LiteralKind || args[1].Kind() != ast.ListKind {
		return nil, c.fail(x, "want at_least(k, [rule, rule, ...])")
	}
	of, err := c.all(args[1].AsList().Elements())
	if err != nil {
		return nil, err
	}
	k, ok := args[0].AsLiteral().Value().(int64)
	if !ok || k < 1 || k > int64(len(of)) {
		return nil, c.fail(args[0], "want a number from 1 to %d, the length of the list", len(of))
	}
	seen := map[node]bool{}
	for i, n := range of {
		if name, ok := n.(nameNode); ok && seen[name] {
			return nil, c.fail(args[1].AsList().Elements()[i], "rule %q would count twice", name)
		}
		if name, ok := n.(nameNode); ok {
			seen[name] = true
		}
	}
	return countNode{int(k), of}, nil
}

func (c *listCompiler) all(xs []ast.Expr) ([]node, error) {
	of := make([]node, len(xs))
	for i, x := range xs {
		var err error
		if of[i], err = c.compile(x); err != nil {
			return nil, err
		}
	}
	return of, nil
}
