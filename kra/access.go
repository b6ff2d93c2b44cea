package kra

import "fmt"

// MaxID is the greatest length in bytes of an access identifier and of a trust anchor's alias.
const MaxID = 63

// An AccessID names whom a block is encrypted to: "legal-team". Who that is, only the rules in the box say.
type AccessID string

// ParseAccessID accepts [a-z0-9][a-z0-9-]{0,62}.
func ParseAccessID(s string) (AccessID, error) {
	if !isID(s) {
		return "", fmt.Errorf("parse access identifier %q: want a-z, 0-9 and '-', at most %d of them, not '-' first", clip(s), MaxID)
	}
	return AccessID(s), nil
}

// CheckName accepts what ParseAccessID accepts: the form of all names that an administrator gives, of groups, roles,
// levels, officers and boxes.
func CheckName(s string) error {
	if !isID(s) {
		return fmt.Errorf("name %q: want a-z, 0-9 and '-', at most %d of them, not '-' first", clip(s), MaxID)
	}
	return nil
}

// An Anchor is the alias of a trust anchor, the certification authority that vouches for a decryptor's name.
type Anchor string

// ParseAnchor accepts what ParseAccessID accepts.
func ParseAnchor(s string) (Anchor, error) {
	if !isID(s) {
		return "", fmt.Errorf("parse anchor alias %q: want a-z, 0-9 and '-', at most %d of them, not '-' first", clip(s), MaxID)
	}
	return Anchor(s), nil
}

func isID(s string) bool {
	if s == "" || len(s) > MaxID || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// clip shortens what is quoted in an error, so that an error is never as long as the input was.
func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
