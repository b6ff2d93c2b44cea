package policy

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"

	"github.com/keyrelease/krabox/kra"
)

// A rule is a named expression, checked, priced and made into nodes. It does not change and is shared by the books that
// have it.
type rule struct {
	name RuleName
	text string
	top  node
	uses []use
}

// compileRule compiles a rule. known says which names there are.
func compileRule(vocabulary *cel.Env, d RuleDef, known knowing) (*rule, error) {
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
	return &rule{d.Name, d.Expr, top, uses}, nil
}

func (r *rule) eval(e *evaluation) verdict { return r.top.eval(e) }

// sizes tells the cost estimate how long the words can be.
type sizes struct{}

func (sizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	if p := n.Path(); len(p) == 1 && p[0] == wordID {
		return &cost.SizeEstimate{Min: 1, Max: kra.MaxID + 1 + kra.MaxName}
	}
	return nil
}

func (sizes) EstimateCallCost(string, string, *cost.AstNode, []cost.AstNode) *cost.CallEstimate {
	return nil
}
