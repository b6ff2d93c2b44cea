package admin

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/console"
)

// checkSupport checks a text as the manual tells whoever gets it.
func checkSupport(t *testing.T, text string) error {
	t.Helper()
	end := regexp.MustCompile(`(?m)^-----END KRA SUPPORT----- ([0-9]+) lines, SHA-256\r?\n([0-9a-f]{64})\r?$`).FindStringSubmatch(text)
	if end == nil {
		return errors.New("no end")
	}
	c := exec.Command("sh", "-c", `sed -n '/BEGIN KRA SUPPORT/,/END KRA SUPPORT/p' | sed '1d;$d' | tr -d '\r' | tee /dev/stderr | sha256sum`)
	c.Stdin = strings.NewReader(text)
	var between strings.Builder
	c.Stderr = &between
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	if sum, _, _ := strings.Cut(string(out), " "); sum != end[2] || fmt.Sprint(strings.Count(between.String(), "\n")) != end[1] {
		return errors.New("it was cut or altered")
	}
	return nil
}

// TestSupport: the text for who helps has what it takes and is whole, or is seen not to be; and nothing that this box or its people keep to
// themselves is in it, in any encoding.
func TestSupport(t *testing.T) {
	w := enrolled(t)
	w.do("access add legal-team")
	w.do("key generate p256 for legal-team")
	w.do("officer add otto", "a long passphrase", "a long passphrase")
	w.do("trust add corp", people(t, "Corp CA"))
	w.do("source add directory corp-ldap may group of corp at ldaps://h base dc=x bind cn=kra,dc=x", people(t, "Server CA"), hidden)
	w.do("group add legal corp:CN=Alice-Smith")
	w.do("source remove corp-ldap", "yes") // it waits, with the name of who asked

	text := w.do("system support")
	for _, want := range []string{"[software]", "version", "Go ", "[status]", "mode          enrolled", "health", "PCR 14", "approval", "[log]", "records", "[time]",
		"[sources]", "corp-ldap", "directory", "[service]", "[boot]", "[syslog]", "[limits]", "officers      2", "1 waits for a second officer", "disk          has room"} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q:\n%s", want, text)
		}
	}
	if err := checkSupport(t, "box1> system support\r\n"+strings.ReplaceAll(text, "\n", "\r\n")+"box1> "); err != nil {
		t.Errorf("as a serial line shows it: %v", err)
	}
	lines := strings.SplitAfter(text, "\n")
	for name, bad := range map[string]string{"cut": strings.Join(lines[:len(lines)/2], ""), "a line is missing": strings.Join(append(append([]string{}, lines[:9]...), lines[10:]...), ""),
		"a letter is another": strings.Replace(text, "enrolled", "enrolle_", 1)} {
		if checkSupport(t, bad) == nil {
			t.Errorf("%s, and it is not seen", name)
		}
	}

	st := w.store.State()
	pins := st.PINs()
	kept := map[string]string{"the PIN": string(pins.User.Bytes()), "the other PIN": string(pins.SO.Bytes()), "a passphrase": passphrase, "another": "a long passphrase",
		"a source's password": hidden, "an officer": officer, "another officer": "otto", "a decryptor": "Alice-Smith", "a session": string(w.session)}
	for _, o := range st.Officers() {
		kept["the hash of "+o.Name] = o.Hash
	}
	flat := strings.Join(strings.Fields(text), "")
	for what, secret := range kept {
		digest := sha256.Sum256([]byte(secret))
		for how, form := range map[string]string{"": secret, " in base64": base64.RawStdEncoding.EncodeToString([]byte(secret)), " in hexadecimal": hex.EncodeToString([]byte(secret)), " as its hash": hex.EncodeToString(digest[:])} {
			if form == "" || strings.Contains(text, form) || strings.Contains(flat, form) {
				t.Errorf("%s is there%s", what, how)
			}
		}
	}
	for _, k := range st.Keys() {
		if strings.Contains(flat, k.ID.String()) {
			t.Errorf("the key %s is there", k.ID)
		}
	}

	w.fault.holdings = errors.New("not asked")
	if err := w.log.Close(); err != nil { // help is wanted most when it does not work
		t.Fatal(err)
	}
	w.closed = true
	if text = w.do("system support"); !strings.Contains(text, "cannot be written") || checkSupport(t, text) != nil {
		t.Errorf("without a log:\n%s", text)
	}
}

// TestSupportOfAFactoryBox: it is to be had before there is anything.
func TestSupportOfAFactoryBox(t *testing.T) {
	w := factory(t)
	began := time.Now()
	if text := w.do("system support"); checkSupport(t, text) != nil || !strings.Contains(text, "mode          "+string(console.Factory)) || time.Since(began) > time.Minute {
		t.Errorf("it shows %s", text)
	}
}

// TestSupportLeavesOutServersWords: what a server answers may name people.
func TestSupportLeavesOutServersWords(t *testing.T) {
	const how = "read 2026-11-22 09:00:00 UTC; the last try failed"
	if got := withoutWhy(how + ": bind as cn=alice,dc=example: Invalid Credentials"); got != how {
		t.Errorf("the text has %q", got)
	}
}
