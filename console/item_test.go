package console

import "testing"

// TestItems: an item is read back as it is written, and what it is made of is where it belongs.
func TestItems(t *testing.T) {
	for s, want := range map[string]Item{
		"group:legal":                           {Kind: "group", Name: "legal"},
		"group:CN=legal,OU=groups@ldap":         {Kind: "group", Name: "CN=legal,OU=groups", Authority: "ldap"},
		"role:urn:x:teller@aa":                  {Kind: "role", Name: "urn:x:teller", Authority: "aa"},
		"attribute:department=a=b@ldap":         {Kind: "attribute", Name: "department", Value: "a=b", Authority: "ldap"},
		"device:managed=yes@mdm":                {Kind: "device", Name: "managed", Value: "yes", Authority: "mdm"},
		"alias:mail=alice@example.com@corp":     {Kind: "alias", Name: "mail", Value: "alice@example.com", Authority: "corp"},
		"alias:mail=alice@example.com":          {Kind: "alias", Name: "mail", Value: "alice@example.com"},
		"clearance:top-secret/crypto,nato@aa":   {Kind: "clearance", Value: "top-secret/crypto,nato", Authority: "aa"},
		"attribute:title=Head of Sales, EMEA@x": {Kind: "attribute", Name: "title", Value: "Head of Sales, EMEA", Authority: "x"},
	} {
		got, err := parseItem(s)
		if err != nil || got != want || got.String() != s {
			t.Errorf("parseItem(%q) = %+v, %v, written %q", s, got, err, got)
		}
	}
	for _, s := range []string{"", "group", "group:", "group:@aa", "wisdom:x", "attribute:x", "attribute:=x", "attribute:x=", "clearance:@aa", "device:@aa"} {
		if got, err := parseItem(s); err == nil {
			t.Errorf("parseItem(%q) = %+v", s, got)
		}
	}
}
