package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"github.com/keyrelease/krabox/kra"
)

// The types of entities in Cedar policies, and what can be asked of the context. RULES.md says what each means.
const (
	cedarDecryptor = "Decryptor"
	cedarAnchor    = "Anchor"
	cedarAccess    = "Access"
	cedarAction    = "Action"
	cedarGroup     = "Group"
	cedarRole      = "Role"
	cedarClearance = "Clearance"
	cedarRule      = "Rule"

	cedarRelease = "release" // the one action
	cedarNow     = "now"
	cedarSource  = "source"
	cedarSaid    = "said"
)

var cedarTypes = []string{cedarDecryptor, cedarAnchor, cedarAccess, cedarAction, cedarGroup, cedarRole, cedarClearance, cedarRule}

// cedarEngine reads lists that are Cedar policies. Cedar goes on where a policy errs; here, an error is the list's outcome.
// What a list mentions is asked before Cedar is: one thing that cannot be known, and the list has no answer.
type cedarEngine struct{}

func (cedarEngine) compile(where, text string, known knowing) (*list, error) {
	if err := checkText(where, text); err != nil {
		return nil, err
	}
	if err := noComment(where, text); err != nil {
		return nil, err
	}
	set, err := cedar.NewPolicySetFromBytes("", []byte(text))
	if err != nil {
		return nil, cedarSyntax(where, text, err)
	}
	c := cedarCompiler{builder: builder{known: known}, list: &cedarNode{policies: set, asks: map[types.EntityUID]node{}}}
	if err := c.policies(set); err != nil {
		return nil, &SyntaxError{where, text, runesTo(text, c.bad), err.Error()}
	}
	c.list.sort()
	return &list{listKey{Cedar, text}, c.list, c.uses}, nil
}

var cedarPlace = regexp.MustCompile(`at (?:[^ ]*:)?1:(\d+)[: ]*(.*)$`)

// cedarSyntax turns Cedar's complaint into ours.
func cedarSyntax(where, text string, err error) error {
	at, msg := 0, strings.TrimPrefix(err.Error(), "parser error: ")
	if m := cedarPlace.FindStringSubmatch(msg); m != nil {
		at, _ = strconv.Atoi(m[1])
		msg = m[2]
	}
	at = min(max(at-1, 0), len(text))
	return &SyntaxError{where, text, utf8.RuneCountInString(text[:at]), shown(clip(msg))}
}

// runesTo returns how many characters stand before a quoted word, or 0.
func runesTo(text, word string) int {
	at := strings.Index(text, word)
	if word == "" || at < 0 {
		return 0
	}
	return utf8.RuneCountInString(text[:at])
}

// A cedarNode asks Cedar.
type cedarNode struct {
	policies *cedar.PolicySet
	asks     map[types.EntityUID]node // entities that the decryptor may be in
	order    []types.EntityUID        // of asks
	now      bool                     // whether the context's time is asked
	source   bool
	said     []kra.Anchor
}

// sort fixes the order in which things are asked.
func (n *cedarNode) sort() {
	n.order = slices.SortedFunc(maps.Keys(n.asks), func(x, y types.EntityUID) int { return strings.Compare(x.String(), y.String()) })
	slices.Sort(n.said)
	n.said = slices.Compact(n.said)
}

func (n *cedarNode) eval(e *evaluation) verdict {
	facts, v := n.facts(e)
	if v.outcome != Passed {
		return v
	}
	principal, resource := types.NewEntityUID(cedarDecryptor, types.String(e.trace.id)), types.NewEntityUID(cedarAccess, types.String(e.access))
	context, v := n.context(e)
	if v.outcome != Passed {
		return v
	}
	who := e.facts.Decryptor
	parents := append(facts, types.NewEntityUID(cedarAnchor, types.String(who.Anchor())))
	decision, diagnostic := cedar.Authorize(n.policies, types.EntityMap{principal: {
		UID: principal, Parents: types.NewEntityUIDSet(parents...),
		Attributes: types.NewRecord(types.RecordMap{"name": types.String(who.Name()), "anchor": types.String(who.Anchor())}),
	}}, types.Request{Principal: principal, Action: types.NewEntityUID(cedarAction, cedarRelease), Resource: resource, Context: context})
	if len(diagnostic.Errors) > 0 {
		first := slices.MinFunc(diagnostic.Errors, func(x, y types.DiagnosticError) int { return strings.Compare(string(x.PolicyID), string(y.PolicyID)) })
		return unknown(fmt.Errorf("%s: %s", first.PolicyID, strings.Map(plainRune, first.Message)))
	}
	return verdictOf(bool(decision))
}

// facts returns the entities that the decryptor is in, among those that the policies mention; or that it cannot be known.
func (n *cedarNode) facts(e *evaluation) (in []types.EntityUID, v verdict) {
	v = yes
	for _, uid := range n.order {
		switch w := n.asks[uid].eval(e); {
		case w.outcome == Passed:
			in = append(in, uid)
		case w.outcome == Errored && w.could == only(Errored):
			return nil, w
		case w.outcome == Errored && v.outcome == Passed:
			v = verdict{Errored, anyOutcome, w.why}
		}
	}
	return in, v
}

// context returns the context, as far as it is asked; or that it cannot be known.
func (n *cedarNode) context(e *evaluation) (types.Record, verdict) {
	fields := types.RecordMap{}
	if n.now {
		if !e.facts.ClockTrusted {
			return types.Record{}, unknown(errClock)
		}
		fields[cedarNow] = types.NewDatetime(e.now)
	}
	if n.source {
		if v := e.knowsSource(); v.outcome != Passed {
			return types.Record{}, v
		}
		a := e.facts.Source.WithZone("")
		ip, err := types.ParseIPAddr(a.String())
		if err != nil {
			return types.Record{}, unknown(errSource)
		}
		fields[cedarSource] = ip
	}
	said := types.RecordMap{}
	for _, a := range n.said {
		all, v := e.said(a)
		if v.outcome != Passed {
			return types.Record{}, v
		}
		said[types.String(a)] = all
	}
	if len(said) > 0 {
		fields[cedarSaid] = types.NewRecord(said)
	}
	return types.NewRecord(fields), yes
}

// said returns all that an authority says, as it may; or that something of it cannot be known.
func (e *evaluation) said(a kra.Anchor) (types.Record, verdict) {
	if e.missing(a) {
		return types.Record{}, unknown(unavailable(a))
	}
	sets := [len(kindFields)][]types.Value{}
	named := [len(kindFields)]map[types.String][]types.Value{Attribute: {}, Device: {}}
	for _, i := range e.facts.Information.Items() {
		if i.Authority != a || !e.book.terms.authorities[a].has(i.Kind) {
			continue
		}
		switch v := e.counts(i); v.outcome {
		case Errored:
			return types.Record{}, v
		case Failed:
			continue
		}
		switch i.Kind {
		case Attribute, Device:
			named[i.Kind][types.String(i.Name)] = append(named[i.Kind][types.String(i.Name)], types.String(i.Value))
		case Alias:
			sets[Alias] = append(sets[Alias], types.String(i.Name+":"+i.Value))
		default:
			sets[i.Kind] = append(sets[i.Kind], types.String(i.Name+i.Value))
		}
	}
	out := types.RecordMap{}
	for k, field := range kindFields {
		switch {
		case field == "":
		case named[k] != nil:
			of := types.RecordMap{}
			for name, values := range named[k] {
				of[name] = types.NewSet(values...)
			}
			out[types.String(field)] = types.NewRecord(of)
		default:
			out[types.String(field)] = types.NewSet(sets[k]...)
		}
	}
	return types.NewRecord(out), yes
}

// kindFields are what context.said.AUTHORITY has: sets of text, and for attributes records of sets.
var kindFields = [...]string{Group: "groups", Role: "roles", Attribute: "attributes", Clearance: "clearances", Alias: "aliases", Device: "device"}

// A cedarCompiler finds what policies mention, in the JSON that Cedar specifies for them.
type cedarCompiler struct {
	builder
	list *cedarNode
	bad  string // the word that is complained about
}

var errNoPolicy = errors.New("holds no policy")

func (c *cedarCompiler) policies(set *cedar.PolicySet) error {
	byPlace := map[int]*cedar.Policy{}
	for _, p := range set.All() {
		byPlace[p.Position().Offset] = p
	}
	if len(byPlace) == 0 {
		return errNoPolicy
	}
	for _, at := range slices.Sorted(maps.Keys(byPlace)) {
		text, err := byPlace[at].MarshalJSON()
		if err != nil {
			return fmt.Errorf("read policy: %w", err)
		}
		var tree any
		if err := json.Unmarshal(text, &tree); err != nil {
			return fmt.Errorf("read policy: %w", err)
		}
		if err := c.walk(tree); err != nil {
			return err
		}
	}
	return nil
}

func (c *cedarCompiler) walk(x any) error {
	switch x := x.(type) {
	case []any:
		for _, part := range x {
			if err := c.walk(part); err != nil {
				return err
			}
		}
	case map[string]any:
		return c.object(x)
	}
	return nil
}

func (c *cedarCompiler) object(x map[string]any) error {
	if x["Var"] == "context" {
		return c.asked(nil)
	}
	if path := contextPath(x); path != nil {
		return c.asked(path)
	}
	if kind, ok := x["type"].(string); ok {
		if id, ok := x["id"].(string); ok {
			return c.entity(kind, id)
		}
	}
	if kind, ok := x["entity_type"].(string); ok && !slices.Contains(cedarTypes, kind) {
		c.bad = kind
		return fmt.Errorf("unknown type %q", clip(kind))
	}
	if err := c.has(x); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(x)) {
		if err := c.walk(x[key]); err != nil {
			return err
		}
	}
	return nil
}

// has refuses to ask principal, action or resource for what they never have: under a negation that would let everybody in.
func (c *cedarCompiler) has(x map[string]any) error {
	has, ok := x["has"].(map[string]any)
	if !ok {
		return nil
	}
	left, _ := has["left"].(map[string]any)
	attr, _ := has["attr"].(string)
	if name, ok := left["Var"].(string); ok && name != "context" && (name != "principal" || attr != "name" && attr != "anchor") {
		c.bad = attr
		return fmt.Errorf("%s never has %q", name, clip(attr))
	}
	return nil
}

// contextPath returns the names in context.a.b, or nil if x is something else.
func contextPath(x map[string]any) []string {
	dot, ok := x["."].(map[string]any)
	if !ok || len(x) != 1 {
		return nil
	}
	attr, _ := dot["attr"].(string)
	left, _ := dot["left"].(map[string]any)
	if left["Var"] == "context" {
		return []string{attr}
	}
	if before := contextPath(left); before != nil {
		return append(before, attr)
	}
	return nil
}

var errContext = errors.New("of the context, only now, source and said.AUTHORITY.FIELD can be asked")

// asked notes what is asked of the context.
func (c *cedarCompiler) asked(path []string) error {
	c.bad = "context"
	switch {
	case len(path) == 1 && path[0] == cedarNow:
		c.list.now = true
	case len(path) == 1 && path[0] == cedarSource:
		c.list.source = true
	case len(path) >= 3 && path[0] == cedarSaid && slices.Contains(kindFields[1:], path[2]):
		c.bad = path[1]
		c.list.said = append(c.list.said, kra.Anchor(path[1]))
		return c.use(use{useAuthority, path[1], Kind(slices.Index(kindFields[:], path[2]))})
	default:
		return errContext
	}
	return nil
}

// entity notes an entity that is mentioned. One that nobody can ever be in, or be, is a mistake.
func (c *cedarCompiler) entity(kind, id string) (err error) {
	c.bad = strconv.Quote(id)
	uid := types.NewEntityUID(types.EntityType(kind), types.String(id))
	switch kind {
	case cedarDecryptor:
		return checkIdentity(id)
	case cedarAnchor:
		_, err = kra.ParseAnchor(id)
		return err
	case cedarAccess:
		_, err = ParseAccessID(id)
		return err
	case cedarAction:
		if id != cedarRelease {
			return fmt.Errorf("unknown action %q, there is %q", clip(id), cedarRelease)
		}
		return nil
	case cedarGroup:
		c.list.asks[uid], _, err = c.group(id)
	case cedarRole:
		c.list.asks[uid], _, err = c.role(id)
	case cedarClearance:
		c.list.asks[uid], _, err = c.cleared(id)
	case cedarRule:
		c.list.asks[uid], err = nameNode(id), c.use(use{what: useRule, name: id})
	default:
		return fmt.Errorf("unknown type %q", clip(kind))
	}
	return err
}
