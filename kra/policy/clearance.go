package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Limits of clearances.
const (
	MaxLevels       = 32 // levels of a box
	MaxCompartments = 32 // compartments of one clearance
)

// DefaultLevels are the levels of a definition that names none, lowest first.
func DefaultLevels() []string {
	return []string{"unclassified", "restricted", "confidential", "secret", "top-secret"}
}

// A clearance is a level and compartments: "secret", "secret/crypto,nato". One dominates another if its level is not
// lower and it has all the compartments of the other: a lattice.
type clearance struct {
	level        string
	compartments []string // sorted, each once
}

// parseClearance reads a clearance in its one form. Whether the box knows the level is not asked here.
func parseClearance(s string) (clearance, error) {
	level, list, some := strings.Cut(s, "/")
	c := clearance{level: level}
	if some {
		c.compartments = strings.Split(list, ",")
	}
	if len(c.compartments) > MaxCompartments {
		return clearance{}, fmt.Errorf("clearance %q has more than %d compartments", clip(s), MaxCompartments)
	}
	for i, name := range append([]string{c.level}, c.compartments...) {
		if !isWord(name) || i > 1 && c.compartments[i-2] >= name {
			return clearance{}, fmt.Errorf("bad clearance %q, want one such as secret or secret/crypto,nato: compartments sorted, each once", clip(s))
		}
	}
	return c, nil
}

// isWord reports whether s is [a-z0-9][a-z0-9-]{0,62}.
func isWord(s string) bool {
	_, err := ParseGroupName(s)
	return err == nil
}

// dominates compares two clearances by the ranks that the box gives to levels. An unknown level dominates nothing.
func (c clearance) dominates(other clearance, levels []string) bool {
	have, need := slices.Index(levels, c.level), slices.Index(levels, other.level)
	if have < 0 || need < 0 || have < need {
		return false
	}
	for _, name := range other.compartments {
		if _, ok := slices.BinarySearch(c.compartments, name); !ok {
			return false
		}
	}
	return true
}
