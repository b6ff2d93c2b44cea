package console

import (
	"encoding/hex"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/keyrelease/krabox/kra"
)

// maxText bounds a name, a value, an address.
const maxText = 1024

// infoKinds are the kinds of information in their order.
var infoKinds = []InfoKind{"group", "role", "attribute", "clearance", "alias", "device"}

const infoKindWords = "group, role, attribute, clearance, alias and device"

// parseInfoKinds reads kinds with commas between them and returns them in their order.
func parseInfoKinds(s string) (all []InfoKind, err error) {
	for w := range strings.SplitSeq(s, ",") {
		k := InfoKind(w)
		if !slices.Contains(infoKinds, k) {
			return nil, errors.New("kinds are " + infoKindWords)
		}
		if slices.Contains(all, k) {
			return nil, errors.New(w + " is there twice")
		}
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b InfoKind) int { return slices.Index(infoKinds, a) - slices.Index(infoKinds, b) })
	return all, nil
}

func checkInfoKinds(s string) error {
	_, err := parseInfoKinds(s)
	return err
}

// parseItem reads KIND:NAME=VALUE@AUTHORITY, of which each kind has its parts:
//
//	group:NAME  role:NAME  attribute:NAME=VALUE  device:NAME=VALUE  alias:FORM=VALUE  clearance:VALUE
//
// The authority is what follows the last @ if it can be an alias.
func parseItem(s string) (Item, error) {
	kind, rest, ok := strings.Cut(s, ":")
	i := Item{Kind: InfoKind(kind)}
	if ok && i.Kind == PlatformItem {
		return parsePlatformItem(rest)
	}
	if !ok || !slices.Contains(infoKinds, i.Kind) {
		return Item{}, errors.New("begins with a kind and a colon; kinds are " + infoKindWords)
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 && kra.CheckName(rest[at+1:]) == nil {
		rest, i.Authority = rest[:at], kra.Anchor(rest[at+1:])
	}
	switch i.Kind {
	case "group", "role":
		i.Name = rest
	case "clearance":
		i.Value = rest
	default:
		if i.Name, i.Value, ok = strings.Cut(rest, "="); !ok || i.Name == "" {
			return Item{}, errors.New(kind + ": want NAME=VALUE")
		}
	}
	if i.Name+i.Value == "" || i.Value == "" && i.Kind != "group" && i.Kind != "role" || len(i.Name) > maxText || len(i.Value) > maxText {
		return Item{}, errors.New(kind + ": is empty or too long")
	}
	return i, nil
}

// PlatformItem is the kind of an item about the platform that asks: platform:label=analysis, and likewise domain, name, version, age and
// measured=no. It is on nobody's word.
const PlatformItem InfoKind = "platform"

var platformParts = []string{"label", "domain", "name", "version", "age", "measured"}

func parsePlatformItem(rest string) (Item, error) {
	name, value, ok := strings.Cut(rest, "=")
	fits := checkAccess(value) == nil
	switch name {
	case "domain":
		fits = checkDomain(value) == nil
	case "version", "age":
		fits = checkNumber(value) == nil
	case "measured":
		fits = value == "no"
	}
	if !ok || !fits || !slices.Contains(platformParts, name) {
		return Item{}, errors.New("platform: want label=, domain=, name=, version=, age= or measured=no")
	}
	return Item{Kind: PlatformItem, Name: name, Value: value}, nil
}

// String writes the item so that it is read back.
func (i Item) String() string {
	s := string(i.Kind) + ":" + i.Name
	if i.Name != "" && i.Value != "" {
		s += "="
	}
	if s += i.Value; i.Authority != "" {
		s += "@" + string(i.Authority)
	}
	return s
}

func checkItem(s string) error {
	_, err := parseItem(s)
	return err
}

// parseMark reads BIT=LEVEL, OID=COMPARTMENT or OID:HEX=COMPARTMENT.
func parseMark(s string) (Mark, error) {
	of, name, ok := strings.Cut(s, "=")
	if !ok || kra.CheckName(name) != nil {
		return Mark{}, errors.New("want BIT=LEVEL or OID=COMPARTMENT, names of a-z, 0-9 and '-'")
	}
	oid, value, valued := strings.Cut(of, ":")
	if _, err := hex.DecodeString(value); err != nil || valued && value == "" {
		return Mark{}, errors.New("the value of a category is hexadecimal DER")
	}
	if bit, err := strconv.Atoi(of); err == nil && bit >= 0 && bit <= 255 && strconv.Itoa(bit) == of {
		return Mark{of, name}, nil
	}
	if checkOID(oid) != nil {
		return Mark{}, errors.New("want the number of a bit from 0 to 255, or an OID")
	}
	return Mark{of, name}, nil
}

func checkMark(s string) error {
	_, err := parseMark(s)
	return err
}

func checkOID(s string) error {
	parts := strings.Split(s, ".")
	for _, p := range parts {
		if n, err := strconv.ParseUint(p, 10, 31); err != nil || strconv.FormatUint(n, 10) != p {
			return errors.New("not an object identifier, such as 1.3.6.1.4.1.99.1")
		}
	}
	if len(parts) < 2 {
		return errors.New("not an object identifier, such as 1.3.6.1.4.1.99.1")
	}
	return nil
}

func checkURL(schemes ...string) func(string) error {
	return func(s string) error {
		u, err := url.Parse(s)
		if err != nil || len(s) > maxText || !slices.Contains(schemes, u.Scheme) || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
			return errors.New("want an address that begins with " + strings.Join(schemes, ":// or ") + "://, without a user")
		}
		return nil
	}
}

func checkText(s string) error {
	if s == "" || len(s) > maxText {
		return errors.New("want 1 to 1024 bytes")
	}
	return nil
}

func checkNumber(s string) error {
	if n, err := strconv.Atoi(s); err != nil || n < 0 {
		return errors.New("a number from 0 on")
	}
	return nil
}
