package admin

import (
	"strings"
	"testing"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/kra/receipt"
)

// TestEveryCommandIsLogged: before its answer, with officer, line and outcome, also if it fails.
func TestEveryCommandIsLogged(t *testing.T) {
	w := enrolled(t)
	w.do("access add legal-team")
	w.do("access list")
	w.fail("rule remove nosuch", []string{"yes"})
	w.try("rule remove nosuch") // fails before it asks
	w.try("access remove legal-team")
	w.do("time set 2030-01-01T00:00:00Z", "yes")
	var got []string
	err := w.log.Records(0, 0, func(_ int64, r receipt.Record) error {
		p, err := receipt.ParsePublic(r.Public)
		if err != nil {
			return err
		}
		line, err := recordLine(0, r, columns)
		if err != nil {
			return err
		}
		got = append(got, strings.Join(strings.Fields(strings.Replace(line, p.Time.Time().Format("2006-01-02 15:04:05"), "", 1)), " "))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `0 receipt-key
0 login olga admitted
0 command olga asked access add legal-team
0 command olga done access add legal-team
0 command olga asked access list
0 command olga asked rule remove nosuch
0 command olga failed rule remove nosuch There is no rule "nosuch".
0 command olga asked rule remove nosuch
0 command olga failed rule remove nosuch There is no rule "nosuch".
0 command olga asked time set 2030-01-01T00:00:00Z
0 time olga done time set 2030-01-01T00:00:00Z`
	if strings.Join(got, "\n") != want {
		t.Errorf("the log has\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	w.has("log show 4", "rule remove nosuch", "olga", "log show 4")
}

// TestBrokenLog: without a log nothing is changed and nothing is shown but what helps to mend it.
func TestBrokenLog(t *testing.T) {
	w := enrolled(t)
	w.do("access add legal-team")
	if err := w.log.Close(); err != nil {
		t.Fatal(err)
	}
	w.closed = true
	for _, line := range []string{"access add x", "access list", "key list", "key generate p256 for legal-team", "officer list", "log show",
		"rule add r is true", "log verify", "log export", "access test legal-team as corp:CN=a"} {
		if w.fail(line, nil, "the log takes no record", "status, log health"); t.Failed() {
			break
		}
		if out, _ := w.try(line); out != "" {
			t.Errorf("%s shows %q", line, out)
		}
	}
	w.fail("time set 2030-01-01T00:00:00Z", []string{"yes"}, "the log takes no record")
	w.fail("trust add x", []string{people(t, "x")}, "the log takes no record")
	w.has("log health", "cannot be written", "No key is released")
	w.has("status", "mode")
	w.has("help", "status")
	w.body.asked = nil
	w.start()
	w.login() // somebody must be able to come and mend
	if _, o := w.try("reboot", "yes"); o.Error != "" || strings.Join(w.body.asked, "") != "reboot" {
		t.Errorf("reboot: %+v, process 1 was asked for %q", o, w.body.asked)
	}
}

func TestLog(t *testing.T) {
	w := enrolled(t)
	w.do("access add legal-team")
	w.has("log size", "records", "root", "no unwrap")
	w.has("log health", "good")
	w.has("log verify", "The log is whole.", "box1 of example", "command")
	report, err := receipt.VerifyExport(strings.NewReader(w.do("log export")), w.c.Roots)
	if err != nil || report.Records[receipt.Command] < 2 {
		t.Errorf("an export does not verify: %v", err)
	}
	if _, err := receipt.VerifyExport(strings.NewReader(strings.Replace(w.do("log export"), "legal-team", "legal-tea2", 1)), w.c.Roots); err == nil {
		t.Error("an edited export verifies")
	}
	if _, err := receipt.VerifyExport(strings.NewReader(w.do("log export from 3")), w.c.Roots); err != nil {
		t.Errorf("the end of an export does not verify: %v", err)
	}
	w.fail("log export from 100000", nil, "The log has")
}

// What strangers make the port write must not hide what comes after.
func TestLogShowsWhatStrangersWrite(t *testing.T) {
	w := enrolled(t)
	for _, private := range []any{
		map[string]any{"reason": "claims to be another decryptor", "request": map[string]string{"decryptor": "corp:CN=mallory", "claim": "corp:CN=alice", "source": "10.0.0.9"}},
		map[string]any{"reason": 7, "decision": "of a form that nobody knows"},
	} {
		if _, err := w.log.Append(t.Context(), audit.Entry{Kind: receipt.Refusal, Private: private}); err != nil {
			t.Fatal(err)
		}
	}
	w.do("access add legal-team")
	w.has("log show", "corp:CN=mallory 10.0.0.9", "cannot be shown", "access add legal-team")
}
