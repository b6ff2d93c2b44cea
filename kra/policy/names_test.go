package policy

import (
	"crypto/ecdh"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/tag"
	"github.com/google/go-cmp/cmp"

	"github.com/keyrelease/krabox/kra/block"
)

// foreign returns an envelope of another format whose wraps name their keys by these.
func foreign(t testing.TB, refs ...block.Ref) block.Envelope {
	t.Helper()
	var wraps []block.Wrap
	for _, r := range refs {
		w, err := block.NewWrap(block.SuiteOAEP, r, nil, make([]byte, 256), nil)
		if err != nil {
			t.Fatal(err)
		}
		wraps = append(wraps, w)
	}
	e, err := block.NewEnvelope(block.FormatCMS, []byte("x"), wraps)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestKeysByOtherNames(t *testing.T) { // the header names a key by whatever index its format has
	k := newKey(t)
	id := keyID(t, k)
	ski, err := block.SKIRef([]byte{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	issuer, thumb := block.IssuerSerialRef([]byte("issuer"), []byte("serial")), block.ThumbprintRef([32]byte{7})
	d := one("true", id)
	d.Aliases = []KeyAlias{{ski, id}, {issuer, id}, {thumb, id}}
	b := compile(t, d)
	for _, ref := range []block.Ref{ski, issuer, thumb, block.KeyIDRef(id)} {
		g, err := b.Decide(Request{foreign(t, block.IssuerSerialRef(nil, nil), ref), facts(t)}, workday())
		if err != nil || g.KeyID() != id || g.Wrap().Ref() != ref {
			t.Errorf("%s: key %s, %v", ref, g.KeyID(), err)
		}
	}
	var no *Refusal
	if _, err := b.Decide(Request{foreign(t, block.ThumbprintRef([32]byte{8})), facts(t)}, workday()); !errors.As(err, &no) || no.Reason() != UnknownKey {
		t.Errorf("a name of no key: %v", err)
	}
	if b, err = b.Revise(2, Edit{Aliases: []block.Ref{ski}}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Decide(Request{foreign(t, ski), facts(t)}, workday()); err == nil {
		t.Error("a key is found by a name that it no longer has")
	}
	for name, bad := range map[string]KeyAlias{"id": {block.KeyIDRef(id), id}, "no key": {ski, block.KeyID{}}, "no name": {block.Ref{}, id}} {
		if _, err := b.Revise(3, Edit{Put: Definition{Aliases: []KeyAlias{bad}}}); err == nil {
			t.Errorf("%s: an alias", name)
		}
	}
}

// stock returns what stock age makes for the keys' tagged recipients.
func stock(t testing.TB, keys ...*ecdh.PublicKey) (block.Envelope, []string) {
	t.Helper()
	var to []age.Recipient
	var texts []string
	for _, k := range keys {
		text, err := block.AgeRecipient(k)
		if err != nil {
			t.Fatal(err)
		}
		r, err := tag.ParseRecipient(text)
		if err != nil {
			t.Fatal(err)
		}
		to, texts = append(to, r), append(texts, text)
	}
	var out strings.Builder
	w, err := age.Encrypt(&out, to...)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	h, _, err := block.ParseHeader(strings.NewReader(out.String()), block.MaxHeader)
	if err != nil {
		t.Fatal(err)
	}
	return block.EnvelopeOf(h), texts
}

func TestTaggedKeys(t *testing.T) { // stock age names a key by a tag; each tagged key is tried, and their number is bounded
	keys := []*ecdh.PublicKey{newKey(t), newKey(t), newKey(t)}
	e, texts := stock(t, keys[2], keys[1])
	d := one("true", keyID(t, keys[0]), keyID(t, keys[1]))
	d.Tagged = texts[1:]
	b := compile(t, d)
	g, err := b.Decide(Request{e, facts(t)}, workday())
	if err != nil || g.KeyID() != keyID(t, keys[1]) || g.Wrap().Ref().Kind() != block.RefTag {
		t.Errorf("key %s, %v", g.KeyID(), err)
	}
	if b, err = b.Revise(2, Edit{Tagged: texts[1:]}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Decide(Request{e, facts(t)}, workday()); err == nil {
		t.Error("a key is found by its tag that is no longer tagged")
	}
	many := Definition{}
	for range block.MaxTagged + 1 {
		text, err := block.AgeRecipient(newKey(t))
		if err != nil {
			t.Fatal(err)
		}
		many.Tagged = append(many.Tagged, text)
	}
	if _, err := Compile(1, many, nil); err == nil || !strings.Contains(err.Error(), "at most 256") {
		t.Errorf("%d tagged keys: %v", len(many.Tagged), err)
	}
	if _, err := Compile(1, Definition{Tagged: many.Tagged[:block.MaxTagged]}, nil); err != nil {
		t.Error(err)
	}
	if _, err := Compile(1, Definition{Tagged: []string{"age1tag1x"}}, nil); err == nil {
		t.Error("a recipient that is none")
	}
}

func TestTagsOfAHeader(t *testing.T) { // each tag costs a trial of every tagged key: only the first few are tried
	key := newKey(t)
	mine, texts := stock(t, key)
	d := one("true", keyID(t, key))
	d.Tagged = texts
	b := compile(t, d)
	var others []*ecdh.PublicKey
	for range block.MaxTags {
		others = append(others, newKey(t))
	}
	wraps := func(before int) (out []block.Wrap) {
		e, _ := stock(t, others[:before]...)
		return append(append(out, e.Wraps()...), mine.Wraps()...)
	}
	if got := b.resolve(wraps(block.MaxTags - 1)); len(got) != 1 {
		t.Errorf("the last tag that is tried finds %d keys; want 1", len(got))
	}
	if got := b.resolve(wraps(block.MaxTags)); len(got) != 0 {
		t.Errorf("a tag beyond the limit finds %d keys", len(got))
	}
}

func TestEdits(t *testing.T) { // the edits from the empty definition on rebuild every version, from their texts too
	versions := []Definition{{}, world(Rules, "yes", "!no"), world(Cedar, `permit(principal in Role::"teller", action, resource);`)}
	next := world(Rules, "counsel")
	next.Rules[0].Expr, next.Levels = "false", []string{"secret", "top"}
	next.Groups = []GroupDef{{Name: "legal", Members: []string{"corp:CN=carol"}}, {Name: "company", Groups: []GroupName{"legal"}}}
	next.Roles, next.Services, next.Aliases = next.Roles[1:2], nil, []KeyAlias{{block.ThumbprintRef([32]byte{9}), block.KeyID{1}}}
	next.Rules = slices.DeleteFunc(next.Rules, func(r RuleDef) bool { return r.Name == "credit" })
	versions = append(versions, next, Definition{}, world(Rules, "yes"))
	var now Definition
	var book *Book
	for i, v := range versions[1:] {
		e := Diff(now, v)
		text, err := e.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		read, err := ParseEdit(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if now, err = now.Apply(read); err != nil {
			t.Fatal(err)
		}
		if left := Diff(now, v); !left.IsZero() || !Diff(v, now).IsZero() {
			t.Errorf("version %d: %+v is left", i+1, left)
		}
		if book, err = book.Revise(uint64(i+1), read); err != nil {
			t.Fatal(err)
		}
		want, err := Compile(uint64(i+1), v, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(facade(t, want), facade(t, book)); diff != "" {
			t.Errorf("version %d (-Compile +Revise): %s", i+1, diff)
		}
	}
	for name, bad := range map[string]Edit{
		"rule": {Rules: []RuleName{"x"}}, "group": {Groups: []GroupEdit{{Name: "x"}}}, "member": {Groups: []GroupEdit{{Name: "legal", Out: []string{"corp:CN=x"}}}},
	} {
		if _, err := now.Apply(bad); err == nil {
			t.Errorf("%s: an edit removes what is not there", name)
		}
	}
	for _, text := range []string{"", "{}x", " {}", `{"rules":[]}`, `{"Rules":["a"]}`, `{"rules":["a"],"rules":["a"]}`, `{"nothing":1}`, "null"} {
		if _, err := ParseEdit([]byte(text)); err == nil {
			t.Errorf("ParseEdit(%s) succeeded", text)
		}
	}
}

func TestReplay(t *testing.T) { // a decision is made again from its text and its book, or what differs is named
	f := informed(t)
	f.Answers = []Answer{{"credit", Passed, ""}, {"fraud", Errored, "time-out <\x1b"}, {"Bad name", Passed, ""}}
	d := world(Rules, "no", "credit && counsel && !office || yes")
	d.Rules = append(d.Rules, RuleDef{"auditor", `roles.has("auditor", "corp-aa")`})
	b := compile(t, d)
	keys := []block.KeyID{{2}, {1}}
	trace, _ := b.decide(keys, f, workday())
	text := trace.AppendJSON(nil)
	read, err := ParseTrace(text)
	if err != nil || Replay(b, read) != nil {
		t.Fatalf("%v, %v of %s", err, Replay(b, read), text)
	}
	for want, change := range map[string][2]string{
		"rule step 1 was":          {`"rule":"no","outcome":"failed"`, `"rule":"no","outcome":"passed"`},
		"rule step 5 was none, is": {`,{"rule":"yes","outcome":"passed"}]`, `]`},
		"list step 1 was":          {`"list":1,"outcome":"failed"`, `"list":1,"outcome":"error"`},
		"result was granted":       {`"granted":"legal-team","key":2`, `"granted":"legal-team","key":1`},
		"result was refused":       {`"granted":"legal-team","key":2`, `"refused":"not permitted"`},
		"made by book 2":           {`"book":1`, `"book":2`},
		"rule step 2 was":          {`{"service":"credit","outcome":"passed"}`, `{"service":"credit","outcome":"failed"}`},
	} {
		changed := strings.Replace(string(text), change[0], change[1], 1)
		read, err := ParseTrace([]byte(changed))
		if err != nil || changed == string(text) {
			t.Errorf("%s: %v", changed, err)
			continue
		}
		if err := Replay(b, read); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", change[1], err, want)
		}
	}
	for _, bad := range []string{"{}", `{"book":1}`, " " + string(text), strings.Replace(string(text), `"clock":"trusted"`, `"clock":"sure"`, 1),
		strings.Replace(string(text), `"via":"token"`, `"via":"pigeon"`, 1), strings.Replace(string(text), "corp:CN=alice", "CN=alice", 1),
		strings.Replace(string(text), `"unavailable":["down"]`, `"unavailable":["down","down"]`, 1)} {
		if _, err := ParseTrace([]byte(bad)); err == nil {
			t.Errorf("ParseTrace(%s) succeeded", bad)
		}
	}
	if Replay(nil, read) == nil {
		t.Error("no book decided that")
	}
}

// TestDiffSeesEveryField changes each field of each part of a definition: a change that Diff does not see would be in no
// log and in no next book.
func TestDiffSeesEveryField(t *testing.T) {
	d := world(Rules, "yes")
	d.Aliases = []KeyAlias{{block.ThumbprintRef([32]byte{1}), block.KeyID{1}}}
	d.Tagged = []string{"x"}
	parts := reflect.ValueOf(d)
	for i := range parts.NumField() {
		field := parts.Type().Field(i).Name
		if parts.Field(i).Len() == 0 {
			if field != "Levels" {
				t.Errorf("the test has no %s", field)
			}
			continue
		}
		element := parts.Field(i).Type().Elem()
		if element.Kind() != reflect.Struct {
			continue // a name, which is there or not
		}
		for k := range element.NumField() {
			next := reflect.ValueOf(&d).Elem().Field(i)
			was := reflect.New(element).Elem()
			was.Set(next.Index(0))
			changed := reflect.New(element).Elem() // every other field as it was
			changed.Set(was)
			if f := changed.Field(k); f.Kind() == reflect.String {
				f.SetString(f.String() + "x")
			} else if f.Kind() == reflect.Slice && f.Len() == 0 {
				f.Set(reflect.MakeSlice(f.Type(), 1, 1))
			} else {
				f.SetZero()
			}
			clone := reflect.MakeSlice(next.Type(), next.Len(), next.Len())
			reflect.Copy(clone, next)
			clone.Index(0).Set(changed)
			other := d
			reflect.ValueOf(&other).Elem().Field(i).Set(clone)
			if Diff(d, other).IsZero() {
				t.Errorf("Diff does not see %s of %s", element.Field(k).Name, field)
			}
		}
	}
}
