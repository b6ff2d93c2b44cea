package kra

import (
	"slices"
	"strings"
	"testing"
)

func TestValues(t *testing.T) {
	credit, err := ValueToken("credit", []byte("voucher 1"))
	if err != nil || !isToken(credit) {
		t.Fatal(credit, err)
	}
	p := Presented{Tokens: []string{"eyJ.e30.AA", credit}}
	if v, ok := p.Value("credit"); !ok || string(v) != "voucher 1" {
		t.Errorf("Value(credit) = %q, %v", v, ok)
	}
	if !slices.Equal(p.Statements(), []string{"eyJ.e30.AA"}) {
		t.Errorf("Statements() = %q", p.Statements())
	}
	for _, other := range []string{"credi", "credit2", "", "credit."} {
		if v, ok := p.Value(other); ok {
			t.Errorf("Value(%q) = %q", other, v)
		}
	}
	for _, bad := range [][]string{{credit, credit}, {"kra-value.credit."}, {"kra-value.credit.A"}, {"kra-value.credit.AB"}, {"kra-value.credit.AA.AA"}} {
		if v, ok := (Presented{Tokens: bad}).Value("credit"); ok {
			t.Errorf("Value of %q = %q", bad, v)
		}
	}
	for _, c := range []struct{ service, value string }{{"", "x"}, {"a.b", "x"}, {"a b", "x"}, {"a", ""}, {"a", strings.Repeat("x", MaxValue+1)}} {
		if got, err := ValueToken(c.service, []byte(c.value)); err == nil {
			t.Errorf("ValueToken(%q, %d bytes) = %s", c.service, len(c.value), got)
		}
	}
}
