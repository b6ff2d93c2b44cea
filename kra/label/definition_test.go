package label

import (
	"bytes"
	"crypto/ecdsa"
	"strings"
	"testing"
	"time"
)

// The built-in labels are every domain's: no signature, and none of a domain's own may take their names.
func TestBuiltin(t *testing.T) {
	d, k := newDomain(t)
	for _, l := range Builtin() {
		if !IsBuiltin(l.Label) || !l.OfBox() || l.Part != Server {
			t.Errorf("%+v", l)
		}
		own := l
		own.Domain = d.Name
		if _, err := own.Sign(k.label); err == nil {
			t.Errorf("label %q is defined a second time", l.Label)
		}
	}
}

func TestDefinition(t *testing.T) {
	d, k := newDomain(t)
	s := newDefinition(t, d, k)
	if err := s.Verify(d); err != nil {
		t.Fatal(err)
	}
	if p, err := ParseDefinition(s.Bytes()); err != nil || !bytes.Equal(p.Bytes(), s.Bytes()) {
		t.Errorf("ParseDefinition() = %+v, %v", p, err)
	}
	other, _ := newDomain(t)
	if err := s.Verify(other); err == nil {
		t.Error("another domain's definition counts")
	}
	for name, change := range map[string]func(*Definition){
		"domain":      func(l *Definition) { l.Domain = "example.com" },
		"label":       func(l *Definition) { l.Label = "other" },
		"part":        func(l *Definition) { l.Part = Server },
		"stage":       func(l *Definition) { l.Stages = []Stage{Running} },
		"description": func(l *Definition) { l.Description = "something else" },
	} {
		bad := s
		change(&bad.Definition)
		if bad.Verify(d) == nil {
			t.Errorf("%s changed: verified", name)
		}
	}
	for name, bad := range map[string]Definition{
		"no domain":          {Label: "x", Part: Server, Stages: []Stage{Running}, Description: "x"},
		"no label":           {Domain: d.Name, Part: Server, Stages: []Stage{Running}, Description: "x"},
		"no part":            {Domain: d.Name, Label: "x", Stages: []Stage{Running}, Description: "x"},
		"null stages":        {Domain: d.Name, Label: "x", Part: Server, Description: "x"},
		"open":               {Domain: d.Name, Label: "x", Part: Server, Stages: []Stage{Open}, Description: "x"},
		"locked":             {Domain: d.Name, Label: "x", Part: Server, Stages: []Stage{Locked}, Description: "x"},
		"stage twice":        {Domain: d.Name, Label: "x", Part: Server, Stages: []Stage{Running, Running}, Description: "x"},
		"box as client":      {Domain: d.Name, Label: "x", Part: Client, Stages: []Stage{Running}, Description: "x"},
		"attended elsewhere": {Domain: d.Name, Label: "x", Part: Client, Stages: []Stage{}, Operator: true, Description: "x"},
		"no description":     {Domain: d.Name, Label: "x", Part: Server, Stages: []Stage{Running}},
	} {
		if _, err := bad.Sign(k.label); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

// An approval keeps to the definition of its label: the stage, and that an operator is wanted.
func TestDefinitionAdmits(t *testing.T) {
	_, k := newDomain(t)
	at := func(l ID, o Operator, v Digest) Approval {
		a := newApproval(t, Sign, k.label)
		a.Label, a.Operator, a.PCRs[StagePCR] = l, o, v
		return a
	}
	of := map[ID]Definition{}
	for _, l := range Builtin() {
		of[l.Label] = l
	}
	for name, c := range map[string]struct {
		label ID
		a     Approval
		word  string
	}{
		"root at running":              {Root, at(Root, NoOperator, Running.Value()), ""},
		"root at maintenance":          {Root, at(Root, NoOperator, Maintenance.Value()), ""},
		"maintenance at running":       {InMaintenance, at(InMaintenance, NoOperator, Running.Value()), "its stage in PCR 14"},
		"key-release at maintenance":   {KeyRelease, at(KeyRelease, NoOperator, Maintenance.Value()), "its stage in PCR 14"},
		"attended by presence":         {OperatorPresent, at(OperatorPresent, Presence, Running.Value()), ""},
		"attended by nobody":           {OperatorPresent, at(OperatorPresent, NoOperator, Running.Value()), "wants no operator"},
		"key-release, attended anyway": {KeyRelease, at(KeyRelease, Presence, Running.Value()), ""},
		"another label":                {Root, at(KeyRelease, NoOperator, Running.Value()), "not of label"},
	} {
		err := of[c.label].Admits(c.a)
		if (err == nil) != (c.word == "") || err != nil && !strings.Contains(err.Error(), c.word) {
			t.Errorf("%s: %v; want %q", name, err, c.word)
		}
	}
}

// What opens does so at open only; what signs never does so there, nor after a refusal.
func TestStagesOfApprovals(t *testing.T) {
	d, k := newDomain(t)
	for name, c := range map[string]struct {
		kind Kind
		at   Digest
		ok   bool
	}{
		"seal at open":           {Seal, At(Open), true},
		"seal at running":        {Seal, At(Open, Running), false},
		"seal at maintenance":    {Seal, At(Maintenance), false},
		"sign at open":           {Sign, At(Open), false},
		"sign at running":        {Sign, At(Open, Running), true},
		"sign at maintenance":    {Sign, At(Maintenance), true},
		"sign as found":          {Sign, Digest{1}, true},
		"sign locked":            {Sign, At(Locked), false},
		"sign locked later":      {Sign, At(Open, Running, Locked), false},
		"sign locked at open":    {Sign, At(Open, Locked), false},
		"sign after maintenance": {Sign, At(Maintenance, Locked), false},
		"move at running":        {Epoch, At(Open, Running), true},
		"move at maintenance":    {Epoch, At(Maintenance), false},
	} {
		a := newApproval(t, Sign, k.label)
		a.Kind, a.PCRs[StagePCR] = c.kind, c.at
		if err := a.Sign(k.label); err != nil {
			t.Fatal(err)
		}
		if err := a.Verify(d); (err == nil) != c.ok {
			t.Errorf("%s: %v; want ok %v", name, err, c.ok)
		}
	}
	for name, change := range map[string]func(*Approval){
		"seal of another label":  func(a *Approval) { a.Kind, a.Label, a.PCRs[StagePCR] = Seal, Root, At(Open) },
		"epoch of another label": func(a *Approval) { a.Kind, a.Label = Epoch, Root },
		"seal by an operator":    func(a *Approval) { a.Kind, a.Operator, a.PCRs[StagePCR] = Seal, Presence, At(Open) },
		"unknown operator":       func(a *Approval) { a.Operator = "somebody" },
		"operator in capitals":   func(a *Approval) { a.Operator = Operator(strings.ToUpper(string(ByToken(d.Label)))) },
	} {
		a := newApproval(t, Sign, k.label)
		change(&a)
		if err := a.Sign(k.label); err != nil {
			t.Fatal(err)
		}
		if a.Verify(d) == nil {
			t.Errorf("%s: verified", name)
		}
	}
}

func TestOperatorChallenge(t *testing.T) {
	_, k := newDomain(t)
	token := newKey(t)
	c := OperatorChallenge{Domain: "example.org", Box: "box1", Label: OperatorPresent, Nonce: bytes.Repeat([]byte{7}, 16), Seconds: 600}
	p, err := ParseOperatorChallenge(c.PEM())
	if err != nil || p.signed() != c.signed() {
		t.Fatalf("ParseOperatorChallenge() = %+v, %v", p, err)
	}
	a, err := p.Sign(token)
	if err != nil {
		t.Fatal(err)
	}
	if a, err = ParseOperatorAnswer(a.PEM()); err != nil || !c.Verify(tokenKey(t, token), a) || c.Verify(tokenKey(t, k.label), a) {
		t.Errorf("ParseOperatorAnswer() = %+v, %v", a, err)
	}
	for name, change := range map[string]func(*OperatorChallenge){
		"nonce": func(c *OperatorChallenge) { c.Nonce = bytes.Repeat([]byte{8}, 16) },
		"label": func(c *OperatorChallenge) { c.Label = Root },
		"time":  func(c *OperatorChallenge) { c.Seconds = 599 },
	} {
		other := c
		change(&other)
		if other.Verify(tokenKey(t, token), a) {
			t.Errorf("the answer is good for another %s", name)
		}
	}
	for name, bad := range map[string]OperatorChallenge{
		"too long":    {"example.org", "box1", OperatorPresent, c.Nonce, uint32(MaxPresence/time.Second) + 1},
		"no time":     {"example.org", "box1", OperatorPresent, c.Nonce, 0},
		"short nonce": {"example.org", "box1", OperatorPresent, c.Nonce[1:], 600},
		"no box":      {"example.org", "", OperatorPresent, c.Nonce, 600},
	} {
		if _, err := ParseOperatorChallenge(bad.PEM()); err == nil {
			t.Errorf("%s: parsed", name)
		}
		if _, err := bad.Sign(token); err == nil {
			t.Errorf("%s: answered", name)
		}
	}
	if o := ByToken(tokenKey(t, token)); !strings.HasPrefix(o.String(), "token ") || Presence.String() != "presence" {
		t.Errorf("String() = %q", o)
	}
}

func tokenKey(t *testing.T, k *ecdsa.PrivateKey) Key {
	t.Helper()
	p, err := NewKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
