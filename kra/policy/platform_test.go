package policy

import (
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
)

// analysis is a platform that confirmed, five seconds ago, that it runs version 3.
func analysis() Platform {
	return Platform{Domain: "example.org", Label: "analysis", Name: "build7", Version: 3, Age: 5, Confirmation: [32]byte{7}}
}

// TestPlatformWords: what is not there has no answer, whichever way it is asked.
func TestPlatformWords(t *testing.T) {
	unconfirmed := Platform{Domain: "example.org", Label: "analysis", Name: "build7"}
	unmeasured := Platform{Domain: "example.org", Label: "analysis", Name: "build7", Unmeasured: true}
	const no, yes, err = Failed, Passed, Errored
	for _, c := range []struct {
		rule                                   string
		confirmed, tls, hsm, nobody, reencrypt Outcome
	}{
		{`platform.label == "analysis"`, yes, yes, yes, err, err},
		{`platform.label != "analysis"`, no, no, no, err, err},
		{`!(platform.label == "other")`, yes, yes, yes, err, err},
		{`platform.label in ["other", "analysis"]`, yes, yes, yes, err, err},
		{`platform.label == "other"`, no, no, no, err, err},
		{`platform.domain == "example.org"`, yes, yes, yes, err, err},
		{`platform.domain == "analysis"`, no, no, no, err, err},
		{`platform.name == "build7"`, yes, yes, yes, err, err},
		{`platform.measured`, yes, err, no, err, err},
		{`!platform.measured`, no, err, yes, err, err},
		{`platform.version >= 3`, yes, err, err, err, err},
		{`platform.version > 3`, no, err, err, err, err},
		{`!(platform.version < 3)`, yes, err, err, err, err},
		{`platform.version == 3`, yes, err, err, err, err},
		{`platform.version in [2, 3]`, yes, err, err, err, err},
		{`platform.version != 3`, no, err, err, err, err},
		{`platform.age <= 5`, yes, err, err, err, err},
		{`platform.age < 5`, no, err, err, err, err},
		{`!(platform.age > 60)`, yes, err, err, err, err},
	} {
		f := facts(t)
		for i, p := range []Platform{analysis(), unconfirmed, unmeasured, {}, analysis()} {
			f.Platform, f.Channel = p, Authenticated
			if i == 4 {
				f.Channel = Reencrypted
			}
			if got, want := asked(t, c.rule, f, workday()), []Outcome{c.confirmed, c.tls, c.hsm, c.nobody, c.reencrypt}[i]; got != want {
				t.Errorf("%s of %+v = %v; want %v", c.rule, p, got, want)
			}
		}
	}
}

// TestPlatformAlone: the label of a platform is enough to have a key; nobody need say who sits at it.
func TestPlatformAlone(t *testing.T) {
	k := newKey(t)
	b := compile(t, one(`platform.label == "analysis" && platform.version >= 3 && platform.age <= 60`, keyID(t, k)))
	f := facts(t)
	f.Decryptor = decryptor(t, "fleet:CN=build7,OU=label analysis,O=example.org")
	r := Request{block.EnvelopeOf(header(t, k)), f}
	if _, err := b.Decide(r, workday()); err == nil {
		t.Error("granted to a platform that showed nothing")
	}
	r.Facts.Platform = analysis()
	g, err := b.Decide(r, workday())
	if err != nil || !g.Valid() {
		t.Fatalf("refused: %v", err)
	}
	for _, change := range []func(*Platform){
		func(p *Platform) { p.Label = "other" }, func(p *Platform) { p.Version = 2 }, func(p *Platform) { p.Age = 61 },
		func(p *Platform) { *p = Platform{Domain: p.Domain, Label: p.Label, Name: p.Name} },
	} {
		r.Facts.Platform = analysis()
		change(&r.Facts.Platform)
		if _, err := b.Decide(r, workday()); err == nil {
			t.Errorf("granted to %+v", r.Facts.Platform)
		}
	}
}

// TestPlatformReplays: what a rule asked of a platform is in the trace, and decided again from it.
func TestPlatformReplays(t *testing.T) {
	k := newKey(t)
	b := compile(t, one(`platform.label == "analysis" && (platform.age <= 5 || !platform.measured)`, keyID(t, k)))
	for _, p := range []Platform{analysis(), {}, {Domain: "d", Label: "analysis", Name: "n", Unmeasured: true}, {Domain: "d", Label: "analysis", Name: "n"}} {
		f := facts(t)
		f.Platform = p
		was, _ := b.decide([]block.KeyID{keyID(t, k)}, f, workday())
		text := was.AppendJSON(nil)
		again, err := ParseTrace(text)
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if again.Facts().Platform != p {
			t.Errorf("read %+v; was %+v", again.Facts().Platform, p)
		}
		if err := Replay(b, again); err != nil {
			t.Error(err)
		}
		forged := strings.Replace(string(text), `"age":5`, `"age":6`, 1)
		if trace, err := ParseTrace([]byte(forged)); forged != string(text) && (err != nil || Replay(b, trace) == nil) {
			t.Errorf("an older confirmation replays: %v", err)
		}
	}
}

// TestPlatformForm: facts that no trace could tell of are none.
func TestPlatformForm(t *testing.T) {
	for _, change := range []func(*Platform){
		func(p *Platform) { p.Domain = `a","x":"` }, func(p *Platform) { p.Label = "" }, func(p *Platform) { p.Name = "Build" },
		func(p *Platform) { p.Confirmation = [32]byte{} }, func(p *Platform) { p.Version = 0 }, func(p *Platform) { p.Age = -1 },
		func(p *Platform) { p.Unmeasured = true }, func(p *Platform) { p.Version = MaxVersion + 1 },
	} {
		f := facts(t)
		f.Platform = analysis()
		change(&f.Platform)
		if got := asked(t, `platform.domain == "example.org" || platform.domain != "example.org"`, f, workday()); got != Errored {
			t.Errorf("%+v: %v", f.Platform, got)
		}
	}
}
