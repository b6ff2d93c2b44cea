package console

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// A kind is what a word of a command that is not fixed can be.
type kind struct {
	name  string // as it stands in the table
	help  string
	rest  rest               // how much of the line it takes
	check func(string) error // nil accepts every word
	cel   bool               // it is written in the rule language
	names string             // the list of names that the agent completes it from, or empty
}

type rest uint8

const (
	oneWord rest = iota
	manyWords
	restOfLine
)

// Names that the agent can list for completion.
const (
	NamesAccess    = "access"
	NamesRule      = "rule"
	NamesGroup     = "group"
	NamesKey       = "key"
	NamesMember    = "member"
	NamesOfficer   = "officer"
	NamesRole      = "role"
	NamesRequest   = "request"
	NamesTeam      = "team"
	NamesBox       = "box"
	NamesDisk      = "disk"
	NamesAlias     = "alias" // certification authorities and sources
	NamesPlatforms = "platforms"
	NamesAnchor    = "anchor" // certification and attribute authorities
)

// Limits of words.
const (
	maxName      = 63
	maxTitle     = 128
	maxHost      = 253
	maxDisk      = 16
	minKeyRef    = 8
	maxKeyRef    = 64
	maxRecords   = 10000
	maxRecipient = 2500 // a hybrid one has 1959
	maxSeconds   = 600  // an operator is present: the TPM takes no more
)

var kinds = []kind{
	{"ACCESS", "an access identifier, such as legal-team", oneWord, checkAccess, false, NamesAccess},
	{"ACCESSES", "access identifiers", manyWords, checkAccess, false, NamesAccess},
	{"BOX", "another box's name, as its request says", oneWord, checkAccess, false, NamesBox},
	{"DISK", "a disk's name, such as sdb (backup disks)", oneWord, checkDisk, false, NamesDisk},
	{"SECONDS", "how long, in seconds, at most 600", oneWord, checkSeconds, false, ""},
	{"TITLE", `a title, such as "Legal team"`, oneWord, checkTitle, false, ""},
	{"LIST", "rule lists, tried in order: office && legal ; at_least(2, [a, b, c])", restOfLine, nil, true, NamesRule},
	{"KEY", "a key id, or its first 8 or more digits", oneWord, checkKeyRef, false, NamesKey},
	{"KEYS", "key ids, the current one first", manyWords, checkKeyRef, false, NamesKey},
	{"DECRYPTOR", `who asks: ALIAS:NAME, such as "corp:CN=Alice Smith,O=Example"`, oneWord, checkDecryptor, false, NamesMember},
	{"ADDRESS", "an IP address, such as 10.20.1.7", oneWord, checkAddress, false, ""},
	{"TIME", "a time, such as 2026-11-21T09:30:00Z", oneWord, checkTime, false, ""},
	{"RULE", "a rule's name: a-z, 0-9 and _", oneWord, checkWord, false, NamesRule},
	{"EXPRESSION", "a condition in the rule language, such as groups.has(\"legal\")", restOfLine, nil, true, ""},
	{"CONDITION", `its value, and more: when "Mon-Fri 08:00-18:00 Europe/Berlin" from 10.20.0.0/16 group legal`, restOfLine, nil, false, NamesGroup},
	{"GROUP", "a group's name, such as legal", oneWord, checkAccess, false, NamesGroup},
	{"ALIAS", "a short name for a certification authority or a source, such as corp", oneWord, checkAccess, false, NamesAlias},
	{"ANCHOR", "the alias of a certification or attribute authority", oneWord, checkAccess, false, NamesAnchor},
	{"ROLE", "a role's name, such as teller", oneWord, checkAccess, false, NamesRole},
	{"NEEDS", "what it takes: group:legal attribute:department=sales@corp-ldap clearance:secret/crypto@corp-aa", manyWords, checkItem, false, ""},
	{"ITEMS", "what is known: role:teller@corp-aa attribute:department=sales@corp-ldap clearance:secret@corp-aa", manyWords, checkItem, false, ""},
	{"KINDS", "what its word counts for: any of group,role,attribute,clearance,alias,device", oneWord, checkInfoKinds, false, ""},
	{"LEVELS", "levels, lowest first: unclassified restricted confidential secret top-secret", manyWords, checkAccess, false, ""},
	{"LDAPS", "a directory server, such as ldaps://ldap.example.com", oneWord, checkURL("ldaps"), false, ""},
	{"HTTPS", "an address, such as https://keys.example.com/", oneWord, checkURL("https"), false, ""},
	{"URL", "an address, such as http://ca.example.com/people.crl", oneWord, checkURL("http", "https"), false, ""},
	{"DN", `where entries are, such as "ou=people,dc=example,dc=com"`, oneWord, checkText, false, ""},
	{"USER", `whom to bind as, such as "cn=kra,dc=example,dc=com"; asks for the password`, oneWord, checkText, false, ""},
	{"FILTER", `an LDAP filter, such as "(objectClass=person)"`, oneWord, checkText, false, ""},
	{"ISSUER", "the issuer as tokens name it, such as https://idp.example.com", oneWord, checkText, false, ""},
	{"AUDIENCE", "the audience that tokens must be for", oneWord, checkText, false, ""},
	{"FIELD", "an attribute of a directory's entries, or a claim of a token; more in the text above", oneWord, checkText, false, ""},
	{"NAME", "the name that rules use: department, or for an alias mail, dns, uri or upn", oneWord, checkText, false, ""},
	{"POLICY", "the object identifier of a security policy, such as 1.3.6.1.4.1.99.1", oneWord, checkOID, false, ""},
	{"MARKS", "BIT=LEVEL, OID=COMPARTMENT or OID:HEX=COMPARTMENT: 4=secret 1.3.6.1.4.1.99.2=crypto", manyWords, checkMark, false, ""},
	{"PLATFORMS", "the alias of a domain whose platforms may be decryptors", oneWord, checkAccess, false, NamesPlatforms},
	{"DOMAIN", "a domain's name, such as example.org", oneWord, checkDomain, false, ""},
	{"LABEL", "a label, such as attended", oneWord, checkAccess, false, ""},
	{"WORD", "what rules call it (platform.label), such as analysis", oneWord, checkAccess, false, ""},
	{"DIGEST", "the SHA-256 of a label's description, 64 hexadecimal digits", oneWord, checkDigest, false, ""},
	{"NUMBER", "a number", oneWord, checkNumber, false, ""},
	{"OFFICER", "an officer's name, such as olga", oneWord, checkAccess, false, NamesOfficer},
	{"TEAM", "a team's name, such as sales", oneWord, checkAccess, false, NamesTeam},
	{"REQUEST", "the number of a request (pending)", oneWord, checkNumber, false, NamesRequest},
	{"COUNT", "how many records", oneWord, checkCount, false, ""},
	{"INDEX", "the number of the first record, from 0", oneWord, checkIndex, false, ""},
	{"SIZE", "how many records, from the first on", oneWord, checkSize, false, ""},
	{"ROOT", "their root as kra log verify or log size shows it: in base64, or 64 hexadecimal digits", oneWord, checkRoot, false, ""},
	{"PREFIX", "the box's address with its prefix length, such as 192.0.2.10/24", oneWord, checkPrefix, false, ""},
	{"GATEWAY", "the gateway's IP address", oneWord, checkAddress, false, ""},
	{"DESTINATION", "another network, such as 10.20.0.0/16 or 2001:db8:20::/48", oneWord, checkDestination, false, ""},
	{"HOSTNAME", "a host name, such as kra-1 or kra-1.example.org", oneWord, checkHostName, false, ""},
	{"DNS", "name servers' IP addresses, three at most", manyWords, checkAddress, false, ""},
	{"SERVER", "a time server, such as time.example.com or 192.0.2.123:4460", oneWord, checkServer, false, ""},
	{"EVERY", "a length of time, such as 10m, 1h or 7d", oneWord, checkSpan, false, ""},
	{"LIMIT", "how long at most, such as 24h or 7d", oneWord, checkSpan, false, ""},
	{"RECIPIENTS", "recipients of age: age1… or age1pq1…", manyWords, checkRecipient, false, ""},
	{"COLLECTOR", "a syslog server that speaks TLS, such as log.example.com or 192.0.2.5:6514", oneWord, checkCollector, false, ""},
	{"COMMAND", "the beginning of a command", restOfLine, nil, false, ""},
}

func kindOf(name string) (kind, bool) {
	for _, k := range kinds {
		if k.name == name {
			return k, true
		}
	}
	return kind{}, false
}

func checkDisk(s string) error {
	if len(s) > maxDisk || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return errors.New("not a disk's name: see backup disks")
	}
	return nil
}

func checkAccess(s string) error {
	if _, err := kra.ParseAccessID(s); err != nil {
		return errors.New("use a-z, 0-9 and '-', at most 63, not '-' first")
	}
	return nil
}

func checkDomain(s string) error {
	if s == "" || len(s) > maxName || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
		return errors.New("use a-z, 0-9, '.' and '-', at most 63")
	}
	return nil
}

func checkDigest(s string) error {
	if len(s) != maxKeyRef || strings.Trim(s, "0123456789abcdef") != "" {
		return errors.New("want 64 digits of 0-9 and a-f")
	}
	return nil
}

func checkSeconds(s string) error {
	if n, err := strconv.ParseUint(s, 10, 16); err != nil || n < 1 || n > maxSeconds {
		return fmt.Errorf("use a number from 1 to %d", maxSeconds)
	}
	return nil
}

func checkRecipient(s string) error {
	if !strings.HasPrefix(s, "age1") || len(s) > maxRecipient {
		return errors.New("a recipient of age begins with age1")
	}
	return nil
}

func checkWord(s string) error {
	for i, r := range s {
		if (r < 'a' || r > 'z') && (i == 0 || r != '_' && (r < '0' || r > '9')) {
			return errors.New("use a-z, then a-z, 0-9 and '_'")
		}
	}
	if s == "" || len(s) > maxName {
		return errors.New("use 1 to 63 characters")
	}
	return nil
}

func checkTitle(s string) error {
	if s == "" || len(s) > maxTitle {
		return errors.New("a title has 1 to 128 bytes")
	}
	return nil
}

func checkKeyRef(s string) error {
	if len(s) < minKeyRef || len(s) > maxKeyRef {
		return errors.New("a key id is 8 to 64 hexadecimal digits")
	}
	if strings.Trim(s, "0123456789abcdef") != "" {
		return errors.New("a key id is made of 0-9 and a-f")
	}
	return nil
}

func checkDecryptor(s string) error {
	if _, err := kra.ParseDecryptor(s); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "parse decryptor: "))
	}
	return nil
}

func checkAddress(s string) error {
	if a, err := netip.ParseAddr(s); err != nil || a.Zone() != "" {
		return errors.New("not an IP address")
	}
	return nil
}

func checkPrefix(s string) error {
	if _, err := netip.ParsePrefix(s); err != nil {
		return errors.New("not an address with a prefix length, such as 10.20.0.0/16")
	}
	return nil
}

func checkDestination(s string) error {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return errors.New("not a network, such as 10.20.0.0/16")
	}
	if p != p.Masked() {
		return fmt.Errorf("that is an address in a network; its network is %s", p.Masked())
	}
	return nil
}

// checkHostName leaves the rest of RFC 1123 to what is done with the name.
func checkHostName(s string) error {
	if s == "default" || s == "" || len(s) > maxHost || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
		return errors.New("use a-z, 0-9, '.' and '-', at most 253")
	}
	return nil
}

func checkTime(s string) error {
	_, err := parseTime(s)
	return err
}

func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errors.New("not a time; write 2026-11-21T09:30:00Z (without a zone it is UTC)")
}

func checkServer(s string) error {
	_, err := parseServer(s)
	return err
}

// portNTS is where time servers establish keys (RFC 8915 section 7.1).
const portNTS = "4460"

// parseServer returns a time server's HOST:PORT. A host has letters, digits, hyphens and dots, or is an address.
func parseServer(s string) (string, error) {
	host, port := s, portNTS
	if h, p, err := net.SplitHostPort(s); err == nil {
		host, port = h, p
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", errors.New("the port is a number from 1 to 65535")
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Zone() == "" {
		return netip.AddrPortFrom(a, uint16(n)).String(), nil
	}
	host = strings.ToLower(host)
	if host == "" || len(host) > maxHost || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
		return "", errors.New("not a server's name or address; write time.example.com, 192.0.2.123 or either with :PORT")
	}
	return net.JoinHostPort(host, strconv.FormatUint(n, 10)), nil
}

func checkCount(s string) error {
	if n, err := strconv.Atoi(s); err != nil || n < 1 || n > maxRecords {
		return errors.New("a number from 1 to 10000")
	}
	return nil
}

func checkSize(s string) error {
	if n, err := strconv.ParseInt(s, 10, 64); err != nil || n < 1 {
		return errors.New("a number from 1 on")
	}
	return nil
}

func checkRoot(s string) error {
	_, err := parseRoot(s)
	return err
}

// parseRoot reads 32 bytes in hexadecimal or base64, each in its one form.
func parseRoot(s string) (root [32]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || hex.EncodeToString(b) != s {
		if b, err = base64.StdEncoding.DecodeString(s); err != nil || base64.StdEncoding.EncodeToString(b) != s {
			return root, errors.New("want a root as kra log verify or log size shows it")
		}
	}
	if copy(root[:], b); len(b) != len(root) {
		return root, fmt.Errorf("a root has %d bytes, this has %d", len(root), len(b))
	}
	return root, nil
}

func checkIndex(s string) error {
	if n, err := strconv.ParseInt(s, 10, 64); err != nil || n < 0 {
		return errors.New("a number from 0 on")
	}
	return nil
}

func checkSpan(s string) error {
	_, err := parseSpan(s)
	return err
}

// parseSpan reads a length of time in whole seconds: a number and s, m, h or d.
func parseSpan(s string) (time.Duration, error) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	if n := len(s) - 1; n > 0 {
		v, err := strconv.ParseUint(s[:n], 10, 24)
		if unit := units[s[n]]; err == nil && unit > 0 && v > 0 {
			return time.Duration(v) * unit, nil
		}
	}
	return 0, errors.New("not a length of time; write 90s, 10m, 24h or 7d")
}
