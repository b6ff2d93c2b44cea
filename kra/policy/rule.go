package policy

import (
	"errors"
	"fmt"
	"sync/atomic"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"

	"github.com/keyrelease/krabox/kra"
)

// A rule is a named expression. It is shared by the books that have it, and does not change but for being compiled, once,
// when it is defined, or when it is first asked of a book that was loaded.
type rule struct {
	name RuleName
	text string
	is   atomic.Pointer[compiled]
}

// A compiled rule is checked, priced and made into nodes.
type compiled struct {
	top  node
	uses []use
}

// compile compiles the rule if nobody did. known says which names there are.
func (r *rule) compile(vocabulary *cel.Env, known knowing) (*compiled, error) {
	if c := r.is.Load(); c != nil {
		return c, nil
	}
	c, err := compileRule(vocabulary, RuleDef{r.name, r.text}, known)
	if err != nil {
		return nil, err
	}
	r.is.Store(c)
	return c, nil
}

// stillGood reports, as nil or an error, whether the rule compiles with the names that are known.
func (r *rule) stillGood(vocabulary *cel.Env, known knowing) error {
	c, err := r.compile(vocabulary, known)
	if err != nil {
		return err
	}
	return stillGood(c.uses, known)
}

func (r *rule) eval(e *evaluation) verdict {
	c := r.is.Load()
	if c == nil {
		var err error
		if c, err = r.compile(e.book.tools.vocabulary, e.book.knows); err != nil {
			return unknown(errStale)
		}
	}
	return c.top.eval(e)
}

var errStale = errors.New("the rule no longer compiles")

// compileRule compiles a rule. known says which names there are.
func compileRule(vocabulary *cel.Env, d RuleDef, known knowing) (*compiled, error) {
	where := "rule " + string(d.Name)
	if err := checkText(where, d.Expr); err != nil {
		return nil, err
	}
	a, iss := vocabulary.Compile(d.Expr)
	if iss.Err() != nil {
		return nil, syntaxError(where, d.Expr, iss)
	}
	if a.OutputType() != cel.BoolType {
		return nil, &SyntaxError{where, d.Expr, 0, fmt.Sprintf("is a %s; a rule must come to true or false", a.OutputType())}
	}
	top, uses, err := nodesOf(where, d.Expr, a.NativeRep(), known)
	if err != nil {
		return nil, err
	}
	price, err := vocabulary.EstimateCost(a, sizes{})
	if err != nil || price.Max > MaxCost {
		return nil, &SyntaxError{where, d.Expr, 0, fmt.Sprintf("may cost %d units, at most %d are allowed; split it", price.Max, MaxCost)}
	}
	return &compiled{top, uses}, nil
}

// sizes tells the cost estimate how long the words can be.
type sizes struct{}

func (sizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	if p := n.Path(); len(p) == 1 && p[0] == wordID {
		return &cost.SizeEstimate{Min: 1, Max: kra.MaxID + 1 + kra.MaxName}
	}
	if p := n.Path(); len(p) == 1 && isPlatformText(p[0]) {
		return &cost.SizeEstimate{Min: 1, Max: kra.MaxID}
	}
	return nil
}

func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}
