package policy

import (
	"fmt"
	"net/netip"

	"github.com/keyrelease/krabox/kra"
)

// Facts are what rules may ask about. Whoever fills them in vouches for them: the decryptor was authenticated by the
// channel, or is whom the answer is encrypted to; the source address is the connection's own.
type Facts struct {
	Decryptor    kra.Decryptor
	Source       netip.Addr
	ClockTrusted bool
	Information  Information
	Channel      Standing
	Answers      []Answer
	Platform     Platform
}

// A Standing says what stands between the key and somebody else who uses the decryptor's name. Zero is not set and is
// refused.
type Standing uint8

// The standings.
const (
	Authenticated Standing = iota + 1 // the secure channel proved that the decryptor asks
	Reencrypted                       // nobody proved anything; the answer is encrypted to the decryptor's certificate
)

var standings = []string{Authenticated: "authenticated", Reencrypted: "reencrypted"}

// String returns the standing in lower case.
func (s Standing) String() string { return nameOf(standings, int(s)) }

// ParseStanding reads what String wrote.
func ParseStanding(s string) (Standing, error) {
	i, err := indexOf(standings, "standing", s)
	return Standing(i), err
}

// MaxAnswers is how many services may have answered before one decision.
const MaxAnswers = 16

// An Answer is what an external service said about this request: Passed, Failed or Errored, and why in its words.
type Answer struct {
	Service string
	Outcome Outcome
	Reason  string
}

// ParseService accepts what ParseGroupName accepts.
func ParseService(s string) (string, error) {
	if !isWord(s) {
		return "", fmt.Errorf("parse service name %q: want a-z, 0-9 and '-', at most %d of them, not '-' first", clip(s), kra.MaxID)
	}
	return s, nil
}
