package policy

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// The words of a rule, and what can be asked of them.
const (
	wordID     = "id"     // string: the decryptor's identifier, ALIAS:NAME
	wordGroups = "groups" // the decryptor's groups
	wordClock  = "clock"  // the box's time; an error while it is not trusted
	wordSource = "source" // the address that the request came from

	fnUnder   = "under"    // id.under("corp:O=Example") the name, or one below it; id.under("corp:") anyone of the anchor
	fnHas     = "has"      // groups.has("legal")
	fnWithin  = "within"   // clock.within("Mon-Fri 08:00-18:00 Europe/Berlin")
	fnBefore  = "before"   // clock.before("2027-01-31T00:00:00Z")
	fnAfter   = "after"    // clock.after("2027-01-31T00:00:00Z"): at that time or later
	fnNet     = "net"      // source.net("10.20.0.0/16")
	fnAtLeast = "at_least" // in lists only
)

var (
	typeGroups = cel.OpaqueType(wordGroups)
	typeClock  = cel.OpaqueType(wordClock)
	typeSource = cel.OpaqueType(wordSource)
)

var (
	errClock   = errors.New("clock is not trusted")
	errLiteral = errors.New("argument was not checked at definition")
	errSource  = errors.New("source address is unknown")
)

// A word is groups, clock or source within one evaluation. CEL sees an opaque value of its type.
type word struct {
	typ  *cel.Type
	eval *evaluation
}

func (w *word) ConvertToNative(reflect.Type) (any, error) { return nil, errors.New("no conversion") }
func (w *word) ConvertToType(ref.Type) ref.Val            { return types.NewErr("no conversion") }
func (w *word) Equal(v ref.Val) ref.Val                   { return types.Bool(w == v) }
func (w *word) Type() ref.Type                            { return w.typ }
func (w *word) Value() any                                { return w.typ.TypeName() }

// newVocabulary returns the CEL environment of rules: our words, the logical operators, equality and "in". There are no
// macros, no loops, no arithmetic and no conversions: what a rule costs is known from its text.
func newVocabulary() (*cel.Env, error) {
	e, err := cel.NewCustomEnv(
		cel.StdLib(cel.StdLibSubset(&env.LibrarySubset{DisableMacros: true, IncludeFunctions: []*env.Function{
			{Name: "_&&_"}, {Name: "_||_"}, {Name: "!_"}, {Name: "_==_"}, {Name: "_!=_"},
			{Name: "@in", Overloads: []*env.Overload{{ID: "in_list"}}},
		}})),
		cel.ClearMacros(),
		cel.Variable(wordID, cel.StringType),
		cel.Variable(wordGroups, typeGroups),
		cel.Variable(wordClock, typeClock),
		cel.Variable(wordSource, typeSource),
		cel.Function(fnUnder, cel.MemberOverload("id_under", []*cel.Type{cel.StringType, cel.StringType}, cel.BoolType,
			cel.BinaryBinding(func(id, base ref.Val) ref.Val {
				return types.Bool(under(string(id.(types.String)), string(base.(types.String))))
			}))),
		ask(fnHas, typeGroups, (*evaluation).inGroup),
		ask(fnWithin, typeClock, (*evaluation).within),
		ask(fnBefore, typeClock, (*evaluation).before),
		ask(fnAfter, typeClock, (*evaluation).after),
		ask(fnNet, typeSource, (*evaluation).fromNet),
		cel.ASTValidators(cel.ValidateHomogeneousAggregateLiterals()),
		cel.ParserRecursionLimit(maxNesting),
		cel.ParserExpressionSizeLimit(MaxText),
	)
	if err != nil {
		return nil, fmt.Errorf("make rule vocabulary: %w", err)
	}
	return e, nil
}

// ask declares word.fn(literal).
func ask(fn string, of *cel.Type, answer func(*evaluation, string) (bool, error)) cel.EnvOption {
	return cel.Function(fn, cel.MemberOverload(of.TypeName()+"_"+fn, []*cel.Type{of, cel.StringType}, cel.BoolType,
		cel.BinaryBinding(func(w, arg ref.Val) ref.Val {
			ok, err := answer(w.(*word).eval, string(arg.(types.String)))
			if err != nil {
				return types.WrapErr(err)
			}
			return types.Bool(ok)
		})))
}

// under reports whether the decryptor's name is base or lies below it in the tree of names, under the same anchor.
func under(id, base string) bool {
	above, ok := strings.CutSuffix(id, base[strings.IndexByte(base, ':')+1:])
	if !ok || !strings.HasPrefix(id, base[:strings.IndexByte(base, ':')+1]) {
		return false
	}
	if strings.HasSuffix(base, ":") || above == base[:strings.IndexByte(base, ':')+1] {
		return true
	}
	above, ok = strings.CutSuffix(above, ",")
	escapes := len(above) - len(strings.TrimRight(above, `\`)) // an escaped comma belongs to the part above
	return ok && escapes%2 == 0
}
