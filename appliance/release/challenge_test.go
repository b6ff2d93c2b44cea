package release

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/keyrelease/krabox/kra/label"
)

// Confirm is what the TPM's process answers, in form: the port hands it on and looks at no signature. Real ones are in package boxtest.
func (authority) Confirm(_ context.Context, c label.Challenge, channel []byte) (label.Confirmations, error) {
	switch c.Label {
	case "", label.KeyRelease:
	case "broken":
		return label.Confirmations{}, errors.New("no TPM")
	default:
		return label.Confirmations{}, ErrNoLabel
	}
	s, err := label.Domain{Name: "example"}.Confirm("box1", label.KeyRelease, c.Nonce, channel)
	if err != nil {
		return label.Confirmations{}, err
	}
	pcrs, some := label.PCRs{}, []byte{1, 2, 3}
	for _, i := range label.ApprovedPCRs() {
		pcrs[i] = label.Digest{byte(i)}
	}
	v := label.SignedValue{Value: label.Value{Domain: "example", Label: label.KeyRelease, Version: 1, Release: "v1", Commit: "c", PCRs: pcrs}, Signature: some}
	return label.Confirmations{Confirmations: []label.Confirmation{{Statement: s, Signature: some, Quote: label.Signed{Attest: some, Signature: some},
		PCRs: pcrs, Value: v, Chain: [][]byte{some}, Platform: some, Authority: some}}}, nil
}

// Challengers are bounded, in all and from one source, and whoever leaves makes room.
func TestChallengersAreBounded(t *testing.T) {
	c := newChallengers()
	one := netip.MustParseAddr("192.0.2.1")
	for i := range maxChallengersFrom {
		if !c.enter(one) {
			t.Fatalf("challenger %d of one source is turned away", i)
		}
	}
	if c.enter(one) {
		t.Error("one source has more than its share")
	}
	others := []netip.Addr{}
	for a := netip.MustParseAddr("198.51.100.1"); len(others) < maxChallengers-maxChallengersFrom; a = a.Next() {
		if !c.enter(a) {
			t.Fatalf("%s is turned away", a)
		}
		others = append(others, a)
	}
	if c.enter(netip.MustParseAddr("203.0.113.1")) {
		t.Error("more wait than may")
	}
	for _, a := range append(others, one, one) {
		c.leave(a)
	}
	if c.all != 0 || len(c.from) != 0 || !c.enter(one) {
		t.Errorf("%d wait, %d sources are kept", c.all, len(c.from))
	}
}
