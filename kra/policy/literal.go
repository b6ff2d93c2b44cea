package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// checkBase accepts ALIAS: and ALIAS:NAME.
func checkBase(s string) error {
	if alias, ok := strings.CutSuffix(s, ":"); ok {
		_, err := kra.ParseAnchor(alias)
		return err
	}
	return checkIdentity(s)
}

func checkIdentity(s string) error {
	_, err := kra.ParseDecryptor(s)
	return err
}

func parseInstant(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("bad time %q, want one such as 2027-01-31T00:00:00Z", clip(s))
	}
	return t, nil
}

func parseNet(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return netip.Prefix{}, fmt.Errorf("bad network %q, want one such as 10.20.0.0/16 or 2001:db8::/32", clip(s))
	case p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("bad network %q: write IPv4 as IPv4", s)
	case p.Masked().String() != s:
		return netip.Prefix{}, fmt.Errorf("bad network %q: write it as %s", s, p.Masked())
	}
	return p, nil
}
