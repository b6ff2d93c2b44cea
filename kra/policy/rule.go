package policy

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"

	"github.com/keyrelease/krabox/kra"
)

// A rule is a named expression, checked, priced and planned. It does not change and is shared by the books that have it.
type rule struct {
	name    RuleName
	text    string
	program cel.Program
	lits    literals
}

// compileRule compiles a rule. known says which groups there are.
func compileRule(vocabulary *cel.Env, d RuleDef, known func(GroupName) bool) (*rule, error) {
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
	lits, err := checkShape(where, d.Expr, a.NativeRep(), known)
	if err != nil {
		return nil, err
	}
	price, err := vocabulary.EstimateCost(a, sizes{})
	if err != nil || price.Max > MaxCost {
		return nil, &SyntaxError{where, d.Expr, 0, fmt.Sprintf("may cost %d units, at most %d are allowed; split it", price.Max, MaxCost)}
	}
	p, err := vocabulary.Program(a, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, fmt.Errorf("plan %s: %w", where, err)
	}
	return &rule{d.Name, d.Expr, p, lits}, nil
}

// eval asks the rule. The reason says why it errored.
func (r *rule) eval(e *evaluation) (Outcome, string) {
	v, _, err := r.program.Eval(e)
	switch {
	case err != nil:
		return Errored, clip(err.Error())
	case v == types.True:
		return Passed, ""
	case v == types.False:
		return Failed, ""
	}
	return Errored, "rule came to no truth value"
}

// stillGood reports whether the groups that the rule names are still there.
func (r *rule) stillGood(known func(GroupName) bool) bool {
	for _, g := range r.lits.groups {
		if !known(g) {
			return false
		}
	}
	return true
}

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
