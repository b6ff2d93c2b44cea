package machine

import (
	"errors"
	"strings"
)

// Limits of host names (RFC 1123 section 2.1, RFC 1035 section 2.3.4), in bytes.
const (
	MaxHost  = 253
	maxLabel = 63
)

// A HostName is what the box is called by others on its network, such as kra-1.example.org. The empty one is none.
type HostName string

// Check refuses what RFC 1123 does not call a host name, and capital letters: there is one form. What ends in a number could be taken for
// an address.
func (h HostName) Check() error {
	if h == "" {
		return nil
	}
	if len(h) > MaxHost {
		return errors.New("a host name has at most 253 characters")
	}
	last := ""
	for l := range strings.SplitSeq(string(h), ".") {
		if l == "" || len(l) > maxLabel || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return errors.New("between the dots of a host name are 1 to 63 of a-z, 0-9 and '-', with '-' neither first nor last")
		}
		last = l
	}
	if strings.Trim(last, "0123456789") == "" {
		return errors.New("the last part of a host name is not a number")
	}
	return nil
}
