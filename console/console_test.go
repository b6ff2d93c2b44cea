package console

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyrelease/krabox/kra"
)

func person(t *testing.T, s string) kra.Decryptor {
	t.Helper()
	d, err := kra.ParseDecryptor(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestParse(t *testing.T) {
	noon := time.Date(2026, 11, 21, 12, 30, 0, 0, time.UTC)
	alice := person(t, "corp:CN=Alice Smith,O=Example\\, Inc")
	for _, c := range []struct {
		line string
		want Command
	}{
		{"", Nothing{}},
		{"   ", Nothing{}},
		{" status ", Status{}},
		{"help", Help{}},
		{"help key  generate", Help{Topic: "key  generate"}},
		{"enrol install", EnrolInstall{}},
		{"epoch advance", EpochAdvance{}},
		{"operator present attended", OperatorPresent{Label: "attended"}},
		{"operator challenge attended for 60", OperatorChallenge{Label: "attended", For: time.Minute}},
		{"operator answer", OperatorAnswer{}},
		{"system test", SystemTest{}},
		{"system support", SystemSupport{}},
		{"syslog add log.example.com", SyslogAdd{Host: "log.example.com", Port: 6514}},
		{"syslog add [2001:db8::5]:1601 from 17", SyslogAdd{Host: "2001:db8::5", Port: 1601, From: 17}},
		{"syslog add 2001:db8::5", SyslogAdd{Host: "2001:db8::5", Port: 6514}},
		{"operator leave attended", OperatorLeave{Label: "attended"}},
		{"key generate p256 for legal-team", KeyGenerate{Suite: P256, Custody: Replicable, Access: "legal-team"}},
		{"key generate p256 for legal-team label attended", KeyGenerate{Suite: P256, Custody: Bound, Access: "legal-team", Label: "attended"}},
		{"key generate p384 replicable for r-d", KeyGenerate{Suite: P384, Custody: Replicable, Access: "r-d"}},
		{"key generate rsa4096 for r-d", KeyGenerate{Suite: RSA4096, Custody: Replicable, Access: "r-d"}},
		{"key generate rsa3072 bound for legal-team", KeyGenerate{Suite: RSA3072, Custody: Bound, Access: "legal-team"}},
		{"key import replicable for r-d", KeyImport{Custody: Replicable, Access: "r-d"}},
		{"key import-key", KeyImportKey{}},
		{"key import-key new", KeyImportKeyNew{}},
		{"key rotate legal-team", KeyRotate{Access: "legal-team"}},
		{"key expire 0123456789abcdef at 2027-01-01T00:00:00Z", KeyExpire{Key: "0123456789abcdef", At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}},
		{"key expire 0123456789abcdef never", KeyExpire{Key: "0123456789abcdef"}},
		{"key delete 0123456789abcdef", KeyDelete{Key: "0123456789abcdef"}},
		{"key delete 0123456789abcdef after 30d", KeyDelete{Key: "0123456789abcdef", After: 30 * 24 * time.Hour}},
		{"key mode", KeyMode{}},
		{"key mode vault", KeyModeVault{}},
		{"key mode resident", KeyModeResident{}},
		{"key keep 0123456789abcdef", KeyKeep{Key: "0123456789abcdef"}},
		{"key request 0123456789abcdef", KeyRequest{Key: "0123456789abcdef"}},
		{"access rotate legal-team every 90d", AccessRotate{Access: "legal-team", Every: 90 * 24 * time.Hour}},
		{"access rotate legal-team never", AccessRotate{Access: "legal-team"}},
		{"key show 0123456789abcdef", KeyShow{Key: "0123456789abcdef"}},
		{`access add legal-team "Legal team"`, AccessAdd{Access: "legal-team", Title: "Legal team"}},
		{`access add legal-team`, AccessAdd{Access: "legal-team"}},
		{`access title r-d 'R&D "blue" team'`, AccessTitle{Access: "r-d", Title: `R&D "blue" team`}},
		{"access lists legal-team is office && (legal || boss) ; at_least(2, [a, b, c])",
			AccessLists{Access: "legal-team", Lists: []string{"office && (legal || boss)", "at_least(2, [a, b, c])"}}},
		{"access keys legal-team 00112233 44556677", AccessKeys{Access: "legal-team", Keys: []KeyRef{"00112233", "44556677"}}},
		{`access test legal-team as "corp:CN=Alice Smith,O=Example\, Inc" from 10.20.1.7 at 2026-11-21T12:30:00Z`,
			AccessTest{Access: "legal-team", As: alice, From: netip.MustParseAddr("10.20.1.7"), At: noon}},
		{`access test legal-team as "corp:CN=Alice Smith,O=Example\, Inc" at 2026-11-21T12:30`, AccessTest{Access: "legal-team", As: alice, At: noon}},
		{`rule add office when "Mon-Fri 08:00-18:00 Europe/Berlin" from 10.20.0.0/16`,
			RuleAdd{Rule: "office", Expr: `when "Mon-Fri 08:00-18:00 Europe/Berlin" from 10.20.0.0/16`}},
		{`rule add teller role teller clearance secret/crypto,nato from 10.0.0.0/8`, RuleAdd{Rule: "teller", Expr: `role teller clearance secret/crypto,nato from 10.0.0.0/8`}},
		{`rule set legal  group  legal,board`, RuleSet{Rule: "legal", Expr: `group legal,board`}},
		{`rule add r is  id == 'corp:CN=O"Neil' ? true : groups.has("it's") `, RuleAdd{Rule: "r", Expr: `id == 'corp:CN=O"Neil' ? true : groups.has("it's")`}},
		{`group add legal "corp:CN=Alice Smith,O=Example\, Inc"`, GroupAdd{Group: "legal", Member: alice}},
		{`group remove legal`, GroupRemove{Group: "legal"}},
		{"trust add corp", TrustAdd{Alias: "corp", Name: kra.WholeName}},
		{"trust add corp common", TrustAdd{Alias: "corp", Name: kra.CommonName}},
		{`access test legal-team as corp:CN=a with role:teller@corp-aa attribute:department=sales@corp-ldap clearance:secret/crypto,nato@corp-aa alias:mail=a@example.com@corp`,
			AccessTest{Access: "legal-team", As: person(t, "corp:CN=a"), With: []Item{{Kind: "role", Name: "teller", Authority: "corp-aa"},
				{Kind: "attribute", Name: "department", Value: "sales", Authority: "corp-ldap"}, {Kind: "clearance", Value: "secret/crypto,nato", Authority: "corp-aa"},
				{Kind: "alias", Name: "mail", Value: "a@example.com", Authority: "corp"}}}},
		{"who-am-i corp:CN=a from 10.20.1.7", WhoAmI{As: person(t, "corp:CN=a"), From: netip.MustParseAddr("10.20.1.7")}},
		{"access portion legal-team part", AccessPortion{Access: "legal-team", Portion: "part"}},
		{"access deliver legal-team anyone", AccessDeliver{Access: "legal-team", Delivery: "anyone"}},
		{"access logic legal-team cedar", AccessCedar{Access: "legal-team"}},
		{"access logic legal-team rules", AccessRules{Access: "legal-team"}},
		{"group nest board in legal", GroupNest{Group: "board", In: "legal"}},
		{"group unnest board from legal", GroupUnnest{Group: "board", From: "legal"}},
		{"group maintainer legal add corp:CN=a", MaintainerAdd{Group: "legal", Member: person(t, "corp:CN=a")}},
		{"group maintainer legal remove corp:CN=a", MaintainerRemove{Group: "legal", Member: person(t, "corp:CN=a")}},
		{"role add teller needs group:staff attribute:department=sales@corp-ldap", RoleAdd{Role: "teller", Needs: []Item{{Kind: "group", Name: "staff"},
			{Kind: "attribute", Name: "department", Value: "sales", Authority: "corp-ldap"}}}},
		{`role set teller needs "attribute:title=Head of Sales@corp-ldap"`, RoleSet{Role: "teller", Needs: []Item{{Kind: "attribute", Name: "title", Value: "Head of Sales", Authority: "corp-ldap"}}}},
		{"levels set open closed", LevelsSet{Levels: []string{"open", "closed"}}},
		{"levels set", LevelsSet{}},
		{"source add attribute corp-aa may group of corp", SourceAttribute{Alias: "corp-aa", May: []InfoKind{"group"}, Of: "corp"}},
		{"source add attribute corp-aa may clearance,group of corp", SourceAttribute{Alias: "corp-aa", May: []InfoKind{"group", "clearance"}, Of: "corp"}},
		{`source add directory corp-ldap may group,attribute of corp at ldaps://ldap.example.com base "ou=people,dc=example" bind cn=kra,dc=example`,
			SourceDirectory{Alias: "corp-ldap", May: []InfoKind{"group", "attribute"}, Of: "corp", URL: "ldaps://ldap.example.com", Base: "ou=people,dc=example", Bind: "cn=kra,dc=example"}},
		{"source add issuer idp may role at https://idp.example.com for kra", SourceIssuer{Alias: "idp", May: []InfoKind{"role"}, Issuer: "https://idp.example.com", Audience: "kra"}},
		{"source add repository keys at https://keys.example.com/", SourceRepository{Alias: "keys", URL: "https://keys.example.com/"}},
		{"source add repository keys", SourceRepository{Alias: "keys"}},
		{"source add service credit at https://pay.example.com reserve charge subject", SourceService{Alias: "credit", URL: "https://pay.example.com", Mode: "reserve", Charge: "subject"}},
		{"source add crl corp-crl of corp at http://ca.example.com/x.crl", SourceRevocation{Alias: "corp-crl", Of: "corp", URL: "http://ca.example.com/x.crl"}},
		{"source map corp-ldap group from memberOf", SourceMap{Alias: "corp-ldap", Kind: "group", From: "memberOf"}},
		{"source map corp-ldap attribute department from departmentNumber", SourceMap{Alias: "corp-ldap", Kind: "attribute", Name: "department", From: "departmentNumber"}},
		{"source unmap corp-ldap memberOf", SourceUnmap{Alias: "corp-ldap", From: "memberOf"}},
		{"source clearance corp-aa 1.2.840.99 4=secret 1.2.840.99.1:0c0161=crypto", SourceClearance{Alias: "corp-aa", Policy: "1.2.840.99",
			Marks: []Mark{{"4", "secret"}, {"1.2.840.99.1:0c0161", "crypto"}}}},
		{"source set corp-ldap every 600", SourceSet{Alias: "corp-ldap", Setting: "every", Number: 600}},
		{"source filter corp-ldap (objectClass=person)", SourceFilter{Alias: "corp-ldap", Filter: "(objectClass=person)"}},
		{"source name corp-ldap uid", SourceName{Alias: "corp-ldap", Field: "uid"}},
		{"source renew corp-crl", SourceRenew{Alias: "corp-crl"}},
		{"source secret corp-ldap", SourceSecret{Alias: "corp-ldap"}},
		{"source remove corp-ldap", SourceRemove{Alias: "corp-ldap"}},
		{"board add http://board.example.org every 10m limit 24h", BoardAdd{URL: "http://board.example.org", Every: 10 * time.Minute, Limit: 24 * time.Hour}},
		{"board add https://board.example.org limit 7d", BoardAdd{URL: "https://board.example.org", Limit: 7 * 24 * time.Hour}},
		{"board install", BoardInstall{}},
		{"board remove", BoardRemove{}},
		{"officer add mick maintainer legal", OfficerAdd{Officer: "mick", Duty: DutyMaintainer, Group: "legal"}},
		{"officer add mick", OfficerAdd{Officer: "mick", Duty: DutyOfficer}},
		{"officer add mick as auditor", OfficerAdd{Officer: "mick", Duty: DutyAuditor}},
		{"officer totp", OfficerCodes{}},
		{"officer totp off", OfficerCodesOff{}},
		{"officer totp remove mick", OfficerCodesRemove{Officer: "mick"}},
		{"system identity", SystemIdentity{}},
		{"system events", SystemEvents{}},
		{"officer duty mick box", OfficerDuty{Officer: "mick", Duty: DutyOfficer}},
		{"officer duty mick backup", OfficerDuty{Officer: "mick", Duty: DutyBackup}},
		{"officer duty mick maintainer legal", OfficerDuty{Officer: "mick", Duty: DutyMaintainer, Group: "legal"}},
		{"dual-control rules off", DualRulesOff{}},
		{"officer add tess team sales", OfficerAdd{Officer: "tess", Duty: DutyTeam, Team: "sales"}},
		{"team give sales access legal-team", TeamGive{Team: "sales", Thing: "access", Name: "legal-team"}},
		{"team free rule office", TeamGive{Thing: "rule", Name: "office"}},
		{"pending", PendingList{}},
		{"pending show 7", PendingShow{Request: 7}},
		{"approve 7", Approve{Request: 7}},
		{"reject 7", Reject{Request: 7}},
		{"time set 2026-11-21T13:30:00+01:00", TimeSet{At: noon}},
		{"time source add Time.example.com", TimeSourceAdd{Address: "time.example.com:4460"}},
		{"time source add 2001:db8::1", TimeSourceAdd{Address: "[2001:db8::1]:4460"}},
		{"time source remove 192.0.2.1:123", TimeSourceRemove{Address: "192.0.2.1:123"}},
		{"log show", LogShow{Count: 20}},
		{"log export from 17", LogExport{From: 17}},
		{"log export", LogExport{From: -1}},
		{"log exported 7 " + strings.Repeat("0a", 32), LogExported{Size: 7, Root: [32]byte(bytes.Repeat([]byte{10}, 32))}},
		{"log exported 7 " + strings.Repeat("CgoK", 10) + "Cgo=", LogExported{Size: 7, Root: [32]byte(bytes.Repeat([]byte{10}, 32))}},
		{"log prune before 7", LogPrune{Before: 7}},
		{"network static 192.0.2.10/24 gateway 192.0.2.1 dns 9.9.9.9 2620:fe::fe",
			NetworkStatic{Address: netip.MustParsePrefix("192.0.2.10/24"), Gateway: netip.MustParseAddr("192.0.2.1"), DNS: []netip.Addr{netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("2620:fe::fe")}}},
		{"network ipv6 static 2001:db8::7/64 gateway fe80::1", NetworkSix{Address: netip.MustParsePrefix("2001:db8::7/64"), Gateway: netip.MustParseAddr("fe80::1")}},
		{"network ipv6 auto", NetworkSixAuto{}},
		{"network route add 10.20.0.0/16 via 192.0.2.9", NetworkRouteAdd{To: netip.MustParsePrefix("10.20.0.0/16"), Via: netip.MustParseAddr("192.0.2.9")}},
		{"network route remove 2001:db8:20::/48", NetworkRouteRemove{To: netip.MustParsePrefix("2001:db8:20::/48")}},
		{"network hostname kra-1.example.org", NetworkHostName{Name: "kra-1.example.org"}},
		{"network hostname default", NetworkHostName{}},
		{"network confirm", NetworkConfirm{}},
	} {
		got, err := Parse(c.line)
		if err != nil {
			t.Errorf("Parse(%q): %v", c.line, err)
			continue
		}
		if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}),
			cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
			t.Errorf("Parse(%q): -want +got\n%s", c.line, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ line, text, caret string }{
		{"frobnicate", `unknown word "frobnicate"`, "^"},
		{"key", "the command is not complete", "   ^"},
		{"key generate rsa2048 for x", `unknown word "rsa2048"`, "             ^"},
		{"access add Legal", "use a-z, 0-9 and '-'", "           ^"},
		{"access add legal Legal team", `unexpected "team"; words that belong together are put in quotes`, "                       ^"},
		{`access add legal "Legal team`, "is not closed", "                 ^"},
		{"status now", `unexpected "now"`, "       ^"},
		{"rule add 1x is true", "use a-z, then", "         ^"},
		{"rule add r in legal", "unknown word \"in\"", "           ^"},
		{"key show 12", "8 to 64 hexadecimal digits", "         ^"},
		{"board add http://a every 0m", "not a length of time", "                         ^"},
		{"board add http://a every 10", "not a length of time", "                         ^"},
		{"network static 10.0.0.1", "not an address with a prefix length", "               ^"},
		{"network route add 10.20.0.1/16 via 10.0.0.1", "its network is 10.20.0.0/16", "                  ^"},
		{"network route add 10.20.0.0 via 10.0.0.1", "not a network", "                  ^"},
		{"network hostname Kra-1", "use a-z, 0-9", "                 ^"},
		{"network hostname " + strings.Repeat("a", 254), "at most 253", "                 ^"},
		{"time source add time/x", "not a server's name", "                ^"},
		{"time source add time:0", "the port is a number", "                ^"},
		{"time set yesterday", "not a time", "         ^"},
		{"group add legal alice", "ALIAS:NAME", "                ^"},
		{"role add teller needs wisdom:x", "kinds are group", "                      ^"},
		{"role add teller needs attribute:x", "want NAME=VALUE", "                      ^"},
		{"role add teller needs group:", "is empty", "                      ^"},
		{"source add attribute aa may group", "the command is not complete", "                                 ^"},
		{"source add attribute aa may wisdom", "kinds are group", "                            ^"},
		{"source add attribute aa may group,group", "is there twice", "                            ^"},
		{"source add issuer idp at x", "unknown word", "                      ^"},
		{"source add service s at http://x reserve", "begins with https://", "                        ^"},
		{"source add crl c of corp at https://me:pw@x", "without a user", "                            ^"},
		{"source clearance aa 1 4=secret", "not an object identifier", "                    ^"},
		{"source clearance aa 1.2 4", "want BIT=LEVEL", "                        ^"},
		{"source clearance aa 1.2 300=secret", "want the number of a bit", "                        ^"},
		{"source clearance aa 1.2 1.2:xy=secret", "hexadecimal", "                        ^"},
		{"source set ldap every never", "a number from 0", "                      ^"},
		{"status\x00", "unreadable character", "      ^"},
		{"status\x1b[2J", "unreadable character", "      ^"},
		{"status\xff", "unreadable character", "      ^"},
		{strings.Repeat("a", MaxLine+1), "a command has at most 4000", "^"},
	} {
		cmd, err := Parse(c.line)
		e, ok := err.(*SyntaxError)
		if !ok || cmd != nil {
			t.Errorf("Parse(%.40q) = %v, %v; want a SyntaxError", c.line, cmd, err)
			continue
		}
		if !strings.Contains(e.Text, c.text) {
			t.Errorf("Parse(%.40q): %q; want %q", c.line, e.Text, c.text)
		}
		if under := strings.Split(e.Caret(), "\n")[1]; !strings.HasPrefix(under, "  "+c.caret) {
			t.Errorf("Parse(%.40q): caret\n%s", c.line, e.Caret())
		}
	}
}

// Whose decryptors an attribute authority speaks of must be said, and the mistake says how.
func TestAttributeAuthorityIsOfAnAnchor(t *testing.T) {
	for line, want := range map[string]string{"source add attribute aa may group": "expected: of", "source add attribute aa may group of": "ANCHOR"} {
		_, err := Parse(line)
		if e, ok := err.(*SyntaxError); !ok || !strings.Contains(e.Caret(), want) {
			t.Errorf("Parse(%q) = %v; want %q", line, err, want)
		}
	}
}

// TestEveryForm holds the table to itself: each form, filled in with examples, is parsed by its own row and no other.
func TestEveryForm(t *testing.T) {
	example := map[string]string{"SERVER": "time.example.com", "BOX": "box2", "DISK": "sdb", "LABEL": "attended", "SECONDS": "60", "ACCESSES": "legal-team board", "ACCESS": "legal-team", "TITLE": `"Legal team"`, "LIST": "a && b", "KEY": "00112233", "KEYS": "00112233 44556677",
		"DECRYPTOR": "corp:CN=a", "ADDRESS": "10.0.0.1", "TIME": "2026-11-21T09:30:00Z", "RULE": "office", "EXPRESSION": "true",
		"CONDITION": `"Mon-Fri 08:00-18:00 UTC" from 10.0.0.0/8`, "GROUP": "legal", "ALIAS": "corp", "COUNT": "5", "INDEX": "0", "SIZE": "7", "ROOT": strings.Repeat("0a", 32),
		"ANCHOR": "corp", "ROLE": "teller", "NEEDS": "group:legal attribute:department=sales@corp-ldap", "ITEMS": "clearance:secret/crypto@corp-aa",
		"KINDS": "group,role", "LEVELS": "open closed", "LDAPS": "ldaps://ldap.example.com", "HTTPS": "https://keys.example.com/",
		"URL": "http://ca.example.com/people.crl", "DN": "ou=people,dc=example", "USER": "cn=kra,dc=example", "FILTER": "(uid=*)",
		"ISSUER": "https://idp.example.com", "AUDIENCE": "kra", "FIELD": "memberOf", "NAME": "department", "POLICY": "1.2.840.99",
		"MARKS": "4=secret 1.2.840.99.1=crypto", "NUMBER": "300", "EVERY": "10m", "LIMIT": "24h",
		"PLATFORMS": "fleet", "DOMAIN": "example.org", "WORD": "compute", "DIGEST": strings.Repeat("0123456789abcdef", 4),
		"PREFIX": "10.0.0.1/8", "GATEWAY": "10.0.0.2", "DESTINATION": "10.20.0.0/16", "HOSTNAME": "kra-1", "COLLECTOR": "log.example.org", "DNS": "10.0.0.3", "COMMAND": "key", "REQUEST": "7", "RECIPIENTS": "age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq", "TEAM": "sales", "OFFICER": "olga"}
	for i := range table {
		for _, form := range expand(table[i].form) {
			var words []string
			for w := range strings.FieldsSeq(form) {
				if x, ok := example[w]; ok {
					w = x
				}
				w, _, _ = strings.Cut(w, "|")
				words = append(words, w)
			}
			line := strings.Join(words, " ")
			var rows []string
			for _, p := range grammar {
				if _, r := p.match(line); r.full {
					rows = append(rows, p.row.form)
				}
			}
			if len(rows) != 1 || rows[0] != table[i].form {
				t.Errorf("%q is %q, want one row %q", line, rows, table[i].form)
			}
			cmd, err := Parse(line)
			if err != nil {
				t.Errorf("Parse(%q): %v", line, err)
				continue
			}
			for _, m := range []Mode{Factory, Enrolled, Locked, Maintenance, Attended} {
				if Allowed(cmd, m) != table[i].in(m) {
					t.Errorf("%q in mode %s: allowed %v, the table says %v", line, m, Allowed(cmd, m), table[i].in(m))
				}
			}
			if len([]rune(form)) > columns-4 {
				t.Errorf("%q is too wide for the help", form)
			}
		}
	}
}

func TestHelpFits(t *testing.T) {
	for _, m := range []Mode{Factory, Enrolled, Locked, Maintenance, Attended} {
		for l := range strings.SplitSeq(HelpText("", m, ""), "\n") {
			if len([]rune(l)) > columns-1 {
				t.Errorf("%d columns: %q", len([]rune(l)), l)
			}
		}
	}
	if got := HelpText("access te", Enrolled, ""); !strings.Contains(got, "No command begins") {
		t.Errorf("HelpText of half a word: %q", got)
	}
	if got := HelpText("key", Factory, ""); !strings.Contains(got, "No command begins") {
		t.Errorf("a factory box offers keys: %q", got)
	}
	if got := HelpText(" rule   add ", Enrolled, ""); strings.Count(got, "rule add RULE") != 3 {
		t.Errorf("HelpText(rule add) = %q", got)
	}
}

func names(list string) []string {
	switch list {
	case NamesAccess:
		return []string{"legal-team", "legal-team-eu", "r-d"}
	case NamesRule:
		return []string{"office", "legal"}
	case NamesMember:
		return []string{"corp:CN=Alice Smith,O=Example"}
	}
	return nil
}

func TestComplete(t *testing.T) {
	for _, c := range []struct {
		line, longer string
		all          int
	}{
		{"", "", 37},
		{"st", "status ", 0},
		{"key g", "key generate ", 0},
		{"key generate ", "key generate ", 5},
		{"key generate p256 ", "key generate p256 ", 3},
		{"key generate p256 f", "key generate p256 for ", 0},
		{"key generate p256 for l", "key generate p256 for legal-team", 0},
		{"key generate p256 for legal-team", "key generate p256 for legal-team", 2},
		{"access show r", "access show r-d ", 0},
		{"access lists r-d is off", "access lists r-d is office ", 0},
		{"access lists r-d is office && (le", "access lists r-d is office && (legal ", 0},
		{"access test r-d as co", `access test r-d as "corp:CN=Alice Smith,O=Example" `, 0},
		{`access test r-d as "co`, `access test r-d as "corp:CN=Alice Smith,O=Example" `, 0},
		{`group add legal "corp:CN=Alice Smith,O=Example" `, `group add legal "corp:CN=Alice Smith,O=Example" `, 0},
		{"frob", "frob", 0},
		{"frob x", "frob x", 0},
	} {
		longer, all := Complete(c.line, Enrolled, names)
		if longer != c.longer || len(all) != c.all {
			t.Errorf("Complete(%q) = %q, %q; want %q and %d", c.line, longer, all, c.longer, c.all)
		}
	}
	if longer, all := Complete("k", Locked, names); longer != "k" || all != nil {
		t.Errorf("a locked box completes %q, %q", longer, all)
	}
}

func TestExplain(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"", "key"},
		{"key generate p256 for ", "ACCESS"},
		{"access add legal-team ", "<Enter>"},
		{"rule add office when ", "CONDITION"},
		{"rule add office ", "when"},
		{"access keys legal-team 00112233 ", "KEYS"},
		{"log show ", "COUNT"},
		{"status x ", "nothing fits here"},
	} {
		if got := Explain(c.line, Enrolled); !strings.Contains(got, c.want) {
			t.Errorf("Explain(%q) lacks %q:\n%s", c.line, c.want, got)
		}
	}
}

func TestQuote(t *testing.T) {
	for _, s := range []string{"", "a", "a b", `a "b`, `it's`, `a "b" it's`, `c:\d`} {
		line := "x " + quote(s) + " y"
		w, ok := next(line, 1)
		if !ok || w.text != s || line[w.end:] != " y" {
			t.Errorf("next(%q) = %+v", line, w)
		}
	}
}
