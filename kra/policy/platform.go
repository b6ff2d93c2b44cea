package policy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/keyrelease/krabox/kra"
)

// A Platform is the machine that asks: what its label certificate says, and what it confirmed on this channel. The zero Platform is
// none. Whoever fills it in has verified both.
type Platform struct {
	Domain string // whose root vouches for the label
	Label  string // what the label counts as in this box
	Name   string

	Unmeasured bool   // its label key is held by something that measures nothing, such as an HSM
	Version    uint64 // of the state that it confirmed on this channel, by the registers that its TPM quoted; 0: it confirmed none
	Age        int64  // seconds since the box made up the nonce that was confirmed

	Confirmation [32]byte // digest of what was confirmed; zero if Version is
}

// MaxVersion bounds versions and ages: what JSON and CEL have in common.
const MaxVersion = 1 << 53

var errPlatform = errors.New("platform: want domain, label and name in a-z, 0-9, '.' and '-', and version, age and confirmation together or not at all")

func (p Platform) check() error {
	if p == (Platform{}) {
		return nil
	}
	ok := isHost(p.Domain) && isWord(p.Label) && isWord(p.Name) && p.Version <= MaxVersion && p.Age >= 0 && p.Age <= MaxVersion
	confirmed := p.Confirmation != [32]byte{}
	if !ok || confirmed != (p.Version != 0) || !confirmed && p.Age != 0 || confirmed && p.Unmeasured {
		return errPlatform
	}
	return nil
}

// isHost says whether s could be a domain's name.
func isHost(s string) bool {
	return s != "" && len(s) <= kra.MaxID && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}

// The words about platforms. Each is a variable of the rules' CEL.
const (
	wordPlatform = "platform"

	platformLabel    = wordPlatform + ".label"
	platformDomain   = wordPlatform + ".domain"
	platformName     = wordPlatform + ".name"
	platformVersion  = wordPlatform + ".version"
	platformAge      = wordPlatform + ".age"
	platformMeasured = wordPlatform + ".measured"
)

var (
	errNoPlatform  = errors.New("no platform asks: the channel proves no label")
	errUnconfirmed = errors.New("the platform confirmed nothing on this channel")
)

// shown returns the platform that the channel proves.
func (e *evaluation) shown() (Platform, error) {
	switch p := e.facts.Platform; {
	case e.facts.Channel != Authenticated:
		return p, errBound
	case p == (Platform{}):
		return p, errNoPlatform
	default:
		return p, nil
	}
}

// confirmed returns the platform that confirmed its state on the channel.
func (e *evaluation) confirmed() (Platform, error) {
	p, err := e.shown()
	if err == nil && p.Version == 0 {
		err = errUnconfirmed
	}
	return p, err
}

type (
	// platformNode asks whether a text about the platform is one of these.
	platformNode struct {
		word   string
		values []string
	}
	// amountNode compares a number about the platform.
	amountNode struct {
		word string
		does func(have, want int64) bool
		want []int64 // one of them is enough
	}
	measuredNode struct{}
)

func (n platformNode) eval(e *evaluation) verdict {
	p, err := e.shown()
	if err != nil {
		return unknown(err)
	}
	return verdictOf(slices.Contains(n.values, p.text(n.word)))
}

func (p Platform) text(word string) string {
	switch word {
	case platformLabel:
		return p.Label
	case platformDomain:
		return p.Domain
	}
	return p.Name
}

func (n amountNode) eval(e *evaluation) verdict {
	p, err := e.confirmed()
	if err != nil {
		return unknown(err)
	}
	have := p.Age
	if n.word == platformVersion {
		have = int64(p.Version)
	}
	return verdictOf(slices.ContainsFunc(n.want, func(want int64) bool { return n.does(have, want) }))
}

func (measuredNode) eval(e *evaluation) verdict {
	if p, err := e.shown(); err == nil && p.Unmeasured {
		return no
	}
	if _, err := e.confirmed(); err != nil {
		return unknown(err)
	}
	return yes
}

func isAmount(word string) bool { return word == platformVersion || word == platformAge }

func isPlatformText(word string) bool {
	return word == platformLabel || word == platformDomain || word == platformName
}

// checkPlatform accepts what the word could be: else a comparison would be false for every platform, and under a negation true.
func checkPlatform(word, value string) error {
	if word == platformDomain {
		if !isHost(value) {
			return fmt.Errorf("bad domain %q, want a name such as example.org", clip(value))
		}
		return nil
	}
	if !isWord(value) {
		return fmt.Errorf("bad name %q: want a-z, 0-9 and '-', at most %d of them, not '-' first", clip(value), kra.MaxID)
	}
	return nil
}

// append writes a platform as traces have it.
func (p Platform) append(b []byte) []byte {
	b = append(append(b, `{"domain":"`...), p.Domain...)
	b = appendField(appendField(append(b, '"'), "label", p.Label), "name", p.Name)
	if p.Unmeasured {
		b = append(b, `,"unmeasured":true`...)
	}
	if p.Version != 0 {
		b = strconv.AppendUint(append(b, `,"version":`...), p.Version, 10)
		b = strconv.AppendInt(append(b, `,"age":`...), p.Age, 10)
		b = appendField(b, "confirmation", fmt.Sprintf("%x", p.Confirmation))
	}
	return append(b, '}')
}
