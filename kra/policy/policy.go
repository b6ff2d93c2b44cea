// Package policy decides who may have a message key: access identifiers, named rules in typed CEL, and the Book that holds them all.
//
//	named rule    office     = clock.within("Mon-Fri 08:00-18:00 Europe/Berlin") && source.net("10.20.0.0/16")
//	rule list     legal-team : 1. counsel && office     2. at_least(2, [director, auditor, counsel])
//
// A rule is a CEL expression over a few words such as id, groups and clock. An access identifier has rule lists, tried in
// order until one passes; a list is a CEL expression over names of rules. Everything that can be wrong with a rule is
// found when it is defined. What still goes wrong when it is asked, is a refusal.
package policy

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// Limits of a definition.
const (
	MaxRuleName   = 63        // bytes of a rule's name
	MaxText       = 4096      // bytes of a rule or of a rule list
	MaxTitle      = 128       // bytes of an access identifier's title
	MaxLists      = 32        // rule lists of one access identifier
	MaxKeys       = 256       // keys of one access identifier, old ones included
	MaxShared     = 64        // access identifiers that one key is stored under
	MaxCost       = 250       // static cost bound of one rule, in CEL's units
	maxNesting    = 32        // parentheses and operators within each other
	MaxRules      = 50_000    // rules in a book
	MaxAccess     = 100_000   // access identifiers in a book
	MaxGroups     = 50_000    // groups in a book
	MaxMembership = 2_000_000 // members of all groups together
	MaxNested     = 1_000     // groups within one group, directly and indirectly
	MaxRoles      = 10_000    // roles in a book
	MaxAliases    = 500_000   // other names of keys
)

// AccessID names whom a block is encrypted to.
type AccessID = kra.AccessID

// ParseAccessID accepts [a-z0-9][a-z0-9-]{0,62}.
func ParseAccessID(s string) (AccessID, error) { return kra.ParseAccessID(s) }

// A RuleName names a rule. It is a variable of the rule lists' CEL.
type RuleName string

// ParseRuleName accepts [a-z][a-z0-9_]{0,62} but no word that means something in a rule or in a list.
func ParseRuleName(s string) (RuleName, error) {
	ok := s != "" && len(s) <= MaxRuleName && s[0] >= 'a' && s[0] <= 'z'
	for i := range len(s) {
		c := s[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_')
	}
	if !ok {
		return "", fmt.Errorf("parse rule name %q: want a-z, 0-9 and '_', at most %d of them, a letter first", clip(s), MaxRuleName)
	}
	if reserved(s) {
		return "", fmt.Errorf("parse rule name %q: the word has a meaning in rules, choose another", s)
	}
	return RuleName(s), nil
}

// reserved reports CEL's reserved words and those of our vocabulary, present and to come.
func reserved(s string) bool {
	switch s {
	case "as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop",
		"namespace", "null", "package", "return", "true", "var", "void", "while",
		wordID, wordGroups, wordRoles, wordAttributes, wordDevice, wordAliases, wordClearance, wordExternal, wordClock, wordSource, wordPlatform, fnAtLeast,
		"label", "budget", "quorum", "approvals", "claims":
		return true
	}
	return false
}

// A GroupName names a list of decryptors kept in the box.
type GroupName string

// ParseGroupName accepts what ParseAccessID accepts.
func ParseGroupName(s string) (GroupName, error) {
	if _, err := kra.ParseAccessID(s); err != nil {
		return "", fmt.Errorf("parse group name %q: want a-z, 0-9 and '-', at most %d of them, not '-' first", clip(s), kra.MaxID)
	}
	return GroupName(s), nil
}

// A Definition is what a Book is compiled from. It is data of the sealed store.
type Definition struct {
	Rules       []RuleDef      `json:"rules,omitempty"`
	Access      []AccessDef    `json:"access,omitempty"`
	Groups      []GroupDef     `json:"groups,omitempty"`
	Roles       []RoleDef      `json:"roles,omitempty"`
	Authorities []AuthorityDef `json:"authorities,omitempty"`
	Services    []string       `json:"services,omitempty"` // external ones that rules may ask
	Levels      []string       `json:"levels,omitempty"`   // of clearances, lowest first; none: DefaultLevels
	Aliases     []KeyAlias     `json:"aliases,omitempty"`
	Tagged      []string       `json:"tagged,omitempty"` // age recipients of the keys that stock age may name by a tag
}

// A RuleDef is a named rule: CEL that yields a bool.
type RuleDef struct {
	Name RuleName `json:"name"`
	Expr string   `json:"expr"`
}

// An AccessDef is an access identifier: its keys, of which the first is current and the others are old but still open
// what was encrypted to them, and its rule lists. One without lists is nobody's.
type AccessDef struct {
	ID       AccessID      `json:"id"`
	Title    string        `json:"title,omitempty"`
	Keys     []block.KeyID `json:"keys,omitempty"`
	Lists    []string      `json:"lists,omitempty"`
	Logic    Logic         `json:"logic,omitempty"`
	Delivery Delivery      `json:"delivery,omitempty"`
	Portion  Portion       `json:"portion,omitempty"`
}

// A Logic is the language of an access identifier's lists.
type Logic string

// The logics.
const (
	Rules Logic = ""      // names of rules, joined
	Cedar Logic = "cedar" // Cedar policies
)

// A Portion says how much of an age header must be there for a key of it to be released. It is no part of a decision.
type Portion string

// The portions.
const (
	WholeHeader Portion = ""     // with the MAC that binds its stanzas to the key
	AnyPortion  Portion = "part" // also without, as age shows it to plugins
)

// A Delivery says over which channels keys of an access identifier may be delivered.
type Delivery string

// The deliveries.
const (
	ToAuthenticated Delivery = ""       // only to a decryptor that the secure channel proved
	ToAnyone        Delivery = "anyone" // also to whoever asks, encrypted to the decryptor's certificate
)

// A GroupDef is a group: its members, decryptor identifiers as kra.Decryptor.String writes them, and the groups whose
// members are members too.
type GroupDef struct {
	Name    GroupName   `json:"name"`
	Members []string    `json:"members,omitempty"`
	Groups  []GroupName `json:"groups,omitempty"`
}

// A RoleName names a role of the box.
type RoleName string

// ParseRoleName accepts what ParseGroupName accepts.
func ParseRoleName(s string) (RoleName, error) {
	if !isWord(s) {
		return "", fmt.Errorf("parse role name %q: want a-z, 0-9 and '-', at most %d of them, not '-' first", clip(s), kra.MaxID)
	}
	return RoleName(s), nil
}

// A RoleDef is a role of the box: a decryptor has it who has all that it needs.
type RoleDef struct {
	Name  RoleName `json:"name"`
	Needs []Need   `json:"needs"`
}

// A Need is one thing that a role needs, in the terms of Item. A group without authority is one of the box; a clearance
// without authority may come from any that may assert clearances, and need only dominate the one that is needed.
type Need struct {
	Kind      Kind       `json:"kind"`
	Name      string     `json:"name,omitempty"`
	Value     string     `json:"value,omitempty"`
	Authority kra.Anchor `json:"authority,omitempty"`
}

// A KeyAlias is another way in which headers may name a key.
type KeyAlias struct {
	Ref block.Ref   `json:"ref"`
	Key block.KeyID `json:"key"`
}

// An AuthorityDef says what an authority's word counts for.
type AuthorityDef struct {
	Alias kra.Anchor `json:"alias"`
	May   []Kind     `json:"may"`
}

// CheckTitle refuses a title that a terminal could not show on one line.
func CheckTitle(s string) error {
	if len(s) > MaxTitle || !utf8.ValidString(s) {
		return fmt.Errorf("check title: want UTF-8 of at most %d bytes", MaxTitle)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("check title %q: character %q cannot be shown", clip(s), r)
		}
	}
	return nil
}

// clip shortens what an error quotes.
func clip(s string) string {
	if len(s) > 80 {
		s = s[:77] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
