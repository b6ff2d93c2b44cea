package kra

import (
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// checkName refuses a name that subject would not have written so: a rule about it would never match anybody.
func checkName(s string) error {
	if s == "" || len(s) > MaxName {
		return fmt.Errorf("name has %d bytes, want 1 to %d", len(s), MaxName)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("name %q is not UTF-8", clip(s))
	}
	for _, rdn := range splitOrWhole(s, ',') {
		for _, a := range splitOrWhole(rdn, '+') {
			if err := checkAttribute(a); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkAttribute(s string) error {
	typ, value, ok := strings.Cut(s, "=")
	if !ok || value == "" {
		return fmt.Errorf("name part %q: want TYPE=VALUE", clip(s))
	}
	if strings.HasPrefix(typ, " ") {
		return fmt.Errorf("name part %q: no blank before it", clip(strings.TrimLeft(s, " ")))
	}
	if strings.HasPrefix(value, "#") {
		return checkHex(typ, value[1:])
	}
	if typeOf(typ) == nil {
		return fmt.Errorf("name part %q: unknown type %q, want CN, OU, O, L, ST, C, STREET, DC, UID, serialNumber or emailAddress", clip(s), clip(typ))
	}
	plain, err := unescape(value)
	if err != nil {
		return fmt.Errorf("name part %q: %w", clip(s), err)
	}
	if want := escape(plain); want != value {
		return fmt.Errorf("name part %q: write it as %q", clip(s), clip(typ+"="+want))
	}
	return nil
}

// checkHex checks TYPE=#hex: the DER of a value that has no text form. It must be one that attribute.format writes so.
func checkHex(typ, digits string) error {
	der, err := hex.DecodeString(digits)
	if err != nil || hex.EncodeToString(der) != digits {
		return fmt.Errorf("name part %q: value after # is no lower-case hexadecimal", clip(typ))
	}
	var a attribute
	if rest, err := asn1.Unmarshal(der, &a.Value); err != nil || len(rest) != 0 {
		return fmt.Errorf("name part %q: value after # is no DER", clip(typ))
	}
	if a.Type, err = parseType(typ); err != nil {
		return err
	}
	if want := a.format(); want != typ+"=#"+digits {
		return fmt.Errorf("name part %q: write it as %q", clip(typ), clip(want))
	}
	return nil
}

func parseType(s string) (asn1.ObjectIdentifier, error) {
	if oid := typeOf(s); oid != nil {
		return oid, nil
	}
	var oid asn1.ObjectIdentifier
	for part := range strings.SplitSeq(s, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != part {
			return nil, fmt.Errorf("name part %q: type is neither a known name nor an object identifier", clip(s))
		}
		oid = append(oid, int(n))
	}
	if len(oid) < 2 {
		return nil, fmt.Errorf("name part %q: object identifier is too short", clip(s))
	}
	return oid, nil
}

// unescape undoes escape.
func unescape(s string) (string, error) {
	var b []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		if i++; i == len(s) {
			return "", fmt.Errorf("ends in a backslash")
		}
		if strings.IndexByte(`"+,;<>\# `, s[i]) >= 0 {
			b = append(b, s[i])
			continue
		}
		if i+1 == len(s) {
			return "", fmt.Errorf("unknown escape")
		}
		c, err := hex.DecodeString(s[i : i+2])
		if err != nil {
			return "", fmt.Errorf("unknown escape")
		}
		b = append(b, c[0])
		i++
	}
	if !utf8.Valid(b) {
		return "", fmt.Errorf("is not UTF-8")
	}
	return string(b), nil
}

func splitOrWhole(s string, sep byte) []string {
	if parts := splitUnescaped(s, sep); parts != nil {
		return parts
	}
	return []string{s}
}

// splitUnescaped splits at each sep that no backslash precedes. It returns nil when there is none.
func splitUnescaped(s string, sep byte) []string {
	var parts []string
	start := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case sep:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	if parts == nil {
		return nil
	}
	return append(parts, s[start:])
}
