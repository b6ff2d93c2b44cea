package policy

import (
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// An engine reads rule lists in one language of decision logic.
type engine interface {
	// compile reads one list. A mistake in it, or a name in it that is not known, is a *SyntaxError. What it returns
	// permits only by coming to Passed, and comes to Errored where it cannot know.
	compile(where, text string, known knowing) (*list, error)
}

// A list is a rule list, compiled. It does not change and is shared by the books that have it.
type list struct {
	listKey
	top  node
	uses []use
}

// A listKey is what tells lists apart.
type listKey struct {
	logic Logic
	text  string
}

// names reports whether the list names the rule.
func (l *list) names(r RuleName) bool {
	return slices.Contains(l.uses, use{what: useRule, name: string(r)})
}

// ruleEngine reads lists that join names of rules. Their text is CEL; because nothing but names, the logical operators and
// at_least may stand in it, it is evaluated here, without an environment that would have to declare every rule of the book.
type ruleEngine struct{ grammar *cel.Env }

// A nameNode asks a rule.
type nameNode RuleName

func (n nameNode) eval(e *evaluation) verdict { return e.ask(RuleName(n)) }

// newGrammar returns the CEL environment that parses lists. It declares nothing: lists are parsed, not checked, by CEL.
func newGrammar() (*cel.Env, error) {
	e, err := cel.NewCustomEnv(cel.ClearMacros(), cel.ParserRecursionLimit(maxNesting), cel.ParserExpressionSizeLimit(MaxText))
	if err != nil {
		return nil, fmt.Errorf("make list grammar: %w", err)
	}
	return e, nil
}

func (g ruleEngine) compile(where, text string, known knowing) (*list, error) {
	if err := checkText(where, text); err != nil {
		return nil, err
	}
	c := listCompiler{where: where, text: text, builder: builder{known: known}}
	if name, err := ParseRuleName(text); err == nil && c.use(use{what: useRule, name: text}) == nil {
		return &list{listKey{Rules, text}, nameNode(name), c.uses}, nil // what most lists are
	}
	a, iss := g.grammar.Parse(text)
	if iss.Err() != nil {
		return nil, syntaxError(where, text, iss)
	}
	c.ast = a.NativeRep()
	top, err := c.compile(a.NativeRep().Expr())
	if err != nil {
		return nil, err
	}
	return &list{listKey{Rules, text}, top, c.uses}, nil
}

type listCompiler struct {
	builder
	where, text string
	ast         *ast.AST
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
	if err := c.use(use{what: useRule, name: x.AsIdent()}); err != nil {
		return nil, c.fail(x, "%v", err)
	}
	return nameNode(x.AsIdent()), nil
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
