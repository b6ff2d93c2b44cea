package policy

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/env"
)

// The words of a rule, and what can be asked of them. RULES.md says what each means.
const (
	wordID         = "id"
	wordGroups     = "groups"
	wordRoles      = "roles"
	wordAttributes = "attributes"
	wordDevice     = "device"
	wordAliases    = "aliases"
	wordClearance  = "clearance"
	wordExternal   = "external"
	wordClock      = "clock"
	wordSource     = "source"

	fnUnder     = "under"
	fnHas       = "has"
	fnDominates = "dominates"
	fnAllows    = "allows"
	fnWithin    = "within"
	fnBefore    = "before"
	fnAfter     = "after"
	fnNet       = "net"
	fnAtLeast   = "at_least" // in lists only
)

// questions are the words other than id, and how many literals each of their functions takes.
var questions = []struct {
	word, fn string
	args     []int
}{
	{wordGroups, fnHas, []int{1, 2}},
	{wordRoles, fnHas, []int{1, 2}},
	{wordAttributes, fnHas, []int{3}},
	{wordDevice, fnHas, []int{3}},
	{wordAliases, fnHas, []int{2}},
	{wordClearance, fnDominates, []int{1, 2}},
	{wordExternal, fnAllows, []int{1}},
	{wordClock, fnWithin, []int{1}},
	{wordClock, fnBefore, []int{1}},
	{wordClock, fnAfter, []int{1}},
	{wordSource, fnNet, []int{1}},
}

// newVocabulary returns the CEL environment of rules: our words, the logical operators, equality and "in". There are no
// macros, no loops, no arithmetic and no conversions: what a rule costs is known from its text. CEL parses, checks and
// prices a rule; its nodes answer it.
func newVocabulary() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.StdLib(cel.StdLibSubset(&env.LibrarySubset{DisableMacros: true, IncludeFunctions: []*env.Function{
			{Name: "_&&_"}, {Name: "_||_"}, {Name: "!_"}, {Name: "_==_"}, {Name: "_!=_"},
			{Name: "@in", Overloads: []*env.Overload{{ID: "in_list"}}},
			{Name: "_<_", Overloads: []*env.Overload{{ID: "less_int64"}}},
			{Name: "_<=_", Overloads: []*env.Overload{{ID: "less_equals_int64"}}},
			{Name: "_>_", Overloads: []*env.Overload{{ID: "greater_int64"}}},
			{Name: "_>=_", Overloads: []*env.Overload{{ID: "greater_equals_int64"}}},
		}})),
		cel.ClearMacros(),
		cel.Variable(wordID, cel.StringType),
		cel.Variable(platformLabel, cel.StringType),
		cel.Variable(platformDomain, cel.StringType),
		cel.Variable(platformName, cel.StringType),
		cel.Variable(platformVersion, cel.IntType),
		cel.Variable(platformAge, cel.IntType),
		cel.Variable(platformMeasured, cel.BoolType),
		cel.Function(fnUnder, cel.MemberOverload("id_under", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType)),
		cel.ASTValidators(cel.ValidateHomogeneousAggregateLiterals()),
		cel.ParserRecursionLimit(maxNesting),
		cel.ParserExpressionSizeLimit(MaxText),
	}
	declared := map[string]bool{}
	for _, q := range questions {
		of := cel.OpaqueType(q.word)
		if !declared[q.word] {
			options = append(options, cel.Variable(q.word, of))
			declared[q.word] = true
		}
		for _, n := range q.args {
			types := []*cel.Type{of}
			for range n {
				types = append(types, cel.StringType)
			}
			options = append(options, cel.Function(q.fn, cel.MemberOverload(fmt.Sprintf("%s_%s_%d", q.word, q.fn, n), types, cel.BoolType)))
		}
	}
	e, err := cel.NewCustomEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("make rule vocabulary: %w", err)
	}
	return e, nil
}
