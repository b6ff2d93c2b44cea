package desk

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/label"
	"golang.org/x/sys/unix"
)

// A line is the command line of the desk, in a folder of its own.
type line struct {
	t    *testing.T
	dir  string
	of   *Desk
	talk bytes.Buffer
}

func (l *line) file(name string) string { return filepath.Join(l.dir, name) }

func (l *line) write(name string, b []byte) string {
	l.t.Helper()
	if err := os.WriteFile(l.file(name), b, 0o600); err != nil {
		l.t.Fatal(err)
	}
	return l.file(name)
}

func (l *line) try(args ...string) (string, error) {
	var out bytes.Buffer
	l.talk.Reset()
	err := Command(args, &out, &l.talk)
	return out.String(), err
}

func (l *line) do(args ...string) string {
	l.t.Helper()
	out, err := l.try(args...)
	if err != nil {
		l.t.Fatalf("domain %s: %v\n%s", strings.Join(args, " "), err, l.talk.String())
	}
	return out
}

// says wants words in what the last line told.
func (l *line) says(words ...string) {
	l.t.Helper()
	for _, w := range words {
		if !strings.Contains(l.talk.String(), w) {
			l.t.Errorf("said %q; want %q", l.talk.String(), w)
		}
	}
}

func (l *line) manifest(v string) string {
	l.t.Helper()
	doc, err := json.Marshal(predicted(l.of, v, 1).Manifest)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.write(v+".json", doc)
}

// A domain under a passphrase, its recovery key in shares, from the command line: box, passport, rekey, recovery, escrow.
func TestCommandCustody(t *testing.T) {
	l := &line{t: t, dir: t.TempDir()}
	key := []string{"-key-passphrase-file", l.write("key", []byte(keyPassphrase+"\n"))}
	dir := []string{"-dir", l.file("d")}
	with := func(args ...string) []string { return append(append(args, dir...), key...) }

	_, err := l.try("init", l.file("d"))
	wantText(t, err, "there is no terminal", "-key-passphrase-file FILE", "-plain for evaluation")
	_, err = l.try("init", l.file("d"), "-key-passphrase-file", l.write("short", []byte("secret")))
	wantText(t, err, "at least 12 characters")
	_, err = l.try("init", l.file("d"), "-plain", "-recipients", l.file("key"))
	wantText(t, err, "say one of")
	_, err = l.try(append([]string{"init", l.file("d"), "-recovery", "2/3"}, key...)...)
	wantText(t, err, "-shares is missing")
	_, err = l.try(append([]string{"init", l.file("d"), "-recovery", "two", "-shares", l.file("s")}, key...)...)
	wantText(t, err, "such as 2/3")
	_, err = l.try(append([]string{"init", l.file("d"), "-token", "t"}, key...)...)
	wantText(t, err, "-module FILE and -token LABEL")
	_, err = l.try(append([]string{"init", l.file("d"), "-recovery", "4/3", "-shares", l.file("s")}, key...)...)
	wantText(t, err, "4 of 3 shares", "threshold <= shares")
	_, err = l.try(append([]string{"init", l.file("d"), "-name", "Example Org"}, key...)...)
	wantText(t, err, "want a host name")
	if err := os.MkdirAll(l.file("s"), 0o700); err != nil {
		t.Fatal(err)
	}
	l.write("s/example.org-share-2-of-3.pem", nil)
	_, err = l.try(append([]string{"init", l.file("d"), "-name", "example.org", "-recovery", "2/3", "-shares", l.file("s")}, key...)...)
	wantText(t, err, "share-2-of-3.pem is there already")
	if _, err := os.Stat(l.file("d")); err == nil {
		t.Error("a refused init has made a folder")
	}
	l.do(append([]string{"init", l.file("first"), "-name", "example.org", "-recovery", "2/3", "-shares", l.file("others")}, key...)...)
	l.says("in 3 shares", "any 2 give the key", "without it they are lost", "keep a copy of the folder elsewhere")
	if strings.Contains(l.talk.String(), "WARNING") {
		t.Errorf("warns: %s", l.talk.String())
	}
	holdsNoSecret(t, l.file("first"))
	if err := Make(l.file("d"), "example.org", Custody{Files: SealedFiles, To: quick(t, keyPassphrase), Recovery: Quorum{Need: 2, Of: 3, Dir: l.file("shares")}}); err != nil {
		t.Fatal(err)
	}

	d := opened(t, l.file("d"), Hands{})
	l.of = d
	b := newBox(t, d)
	b.boot(boot("v1"))
	request := l.write("request.pem", func() []byte { b.stage(label.Running); return b.request() }())
	seen, err := Fingerprint(b.request())
	if err != nil {
		t.Fatal(err)
	}
	enrol := with("enrol", "-manifest", l.manifest("v1"), "-request", request, "-officer", "alice", "-passphrase-file", l.write("pass", []byte("correct horse battery\n")),
		"-name", "box1", "-ip", "127.0.0.1", "-first-seen", seen, "-firmware-as-seen")
	bundle := l.do(enrol...)
	l.says("owner      its secrets are escrowed; that they open this TPM shows only when they are used")
	if _, err := b.EnrolInstall(t.Context(), []byte(bundle)); err != nil {
		t.Fatal(err)
	}
	if out := l.do("passport", "-dir", l.file("d")); !strings.HasPrefix(out, "box1 ") {
		t.Errorf("passport: %s", out)
	}
	out := l.do("passport", "-dir", l.file("d"), "-name", "box1")
	for _, w := range []string{"box        box1, 127.0.0.1", seen, "kra://example.org/platform/box1", "kra://example.org/label/key-release/box1", "officer    alice was the first"} {
		if !strings.Contains(out, w) {
			t.Errorf("passport %s lacks %q", out, w)
		}
	}
	_, err = l.try("passport", "-dir", l.file("d"), "-name", "box2")
	wantText(t, err, `no box "box2" is enrolled; there are box1`)

	again := l.write("again.pem", b.request())
	rekey := with("rekey", "-manifest", l.manifest("v1"), "-request", again, "-name", "box1", "-firmware-as-seen")
	before := l.do("journal", "-dir", l.file("d"))
	if out := l.do(append(rekey, "-dry-run")...); out != "" {
		t.Error("a dry run made something")
	}
	l.says(nothingDone, "TPM        as enrolled")
	if after := l.do("journal", "-dir", l.file("d")); after != before {
		t.Error("a dry run is in the journal")
	}
	if _, err := b.EnrolInstall(t.Context(), []byte(l.do(rekey...))); err != nil {
		t.Errorf("install the new certificates: %v", err)
	}
	_, err = l.try(rekey...)
	wantText(t, err, "this request was answered on")
	stranger := asking(t, d)
	_, err = l.try(with("rekey", "-manifest", l.manifest("v1"), "-request", l.write("stranger.pem", stranger.request()), "-name", "box1", "-firmware-as-seen")...)
	wantText(t, err, "box1 was enrolled with another TPM")

	shares, err := filepath.Glob(l.file("shares/*"))
	if err != nil || len(shares) != 3 {
		t.Fatal(shares, err)
	}
	recover := []string{"recovery", "approve", "-dir", l.file("d"), "-manifest", l.manifest("v2"), "-share"}
	_, err = l.try(append(recover, shares[1])...)
	wantText(t, err, "recovery key", "too few shares: 1 of the 2 that it takes")
	_, err = l.try(append(recover, shares[0]+","+shares[2])...)
	wantText(t, err, "label.key.age: it is encrypted to a passphrase", "say -label-key-lost")
	l.do(append(recover, shares[0]+","+shares[2], "-label-key-lost")...)
	l.says("WARNING: without the label key nobody can note this")
	fix := l.do(append(append(recover, shares[0]+","+shares[2]), key...)...)
	l.says("WARNING: the recovery key approves", "v2 (0123456789ab), epoch 1, by the recovery key")
	if i, err := b.EnrolInstall(t.Context(), []byte(fix)); err != nil || i.Approvals == 0 {
		t.Errorf("installed %+v, %v", i, err)
	}

	if out := l.do(with("escrow", "-request", request)...); !strings.Contains(out, "ownerAuth (hex)") {
		t.Errorf("escrow: %s", out)
	}
	_, err = l.try(with("escrow", "-request", l.file("stranger.pem"))...)
	wantText(t, err, "a platform that this domain has not enrolled")

	l.do("journal", "-dir", l.file("d"))
	last := regexp.MustCompile(`the last is ([0-9a-f]{64})`).FindStringSubmatch(l.talk.String())
	if last == nil {
		t.Fatalf("journal: %s", l.talk.String())
	}
	l.do("journal", "-dir", l.file("d"), "-expect", last[1])
	l.says("the act that you kept is in it")
	_, err = l.try("journal", "-dir", l.file("d"), "-expect", strings.Repeat("1", 64))
	wantText(t, err, "its end was cut off, or it is another one")
}

// Lists can be taken back: makers and firmware; and the recovery key be split.
func TestCommandLists(t *testing.T) {
	l := &line{t: t, dir: t.TempDir()}
	l.do("init", l.file("d"), "-name", "example.org", "-plain")
	d := opened(t, l.file("d"), Hands{})
	root, err := os.ReadFile(filepath.Join(l.file("d"), RootFile))
	if err != nil {
		t.Fatal(err)
	}
	l.do("vendor", "add", "-dir", l.file("d"), "-name", "maker", "-certificates", l.write("maker.pem", root))
	l.says("to believe", "CN=example.org root")
	if out := l.do("vendor", "list", "-dir", l.file("d")); out != "maker\n" {
		t.Errorf("vendor list: %q", out)
	}
	l.do("vendor", "remove", "-dir", l.file("d"), "-name", "maker")
	if out := l.do("vendor", "list", "-dir", l.file("d")); out != "" {
		t.Errorf("vendor list: %q", out)
	}
	_, err = l.try("vendor", "remove", "-dir", l.file("d"), "-name", "maker")
	wantText(t, err, "forget vendor")
	b := asking(t, d)
	request := l.write("request.pem", b.request())
	seen, err := Fingerprint(b.request())
	if err != nil {
		t.Fatal(err)
	}
	l.do("firmware", "approve", "-dir", l.file("d"), "-request", request, "-first-seen", seen)
	pcr := regexp.MustCompile(`PCR 0  ([0-9a-f]{64})`).FindStringSubmatch(l.do("firmware", "list", "-dir", l.file("d")))
	_, err = l.try("firmware", "remove", "-dir", l.file("d"), "-model", "other", "-pcr0", pcr[1])
	wantText(t, err, `the list has none of model "other"`)
	l.do("firmware", "remove", "-dir", l.file("d"), "-model", "unknown", "-pcr0", pcr[1])
	if out := l.do("firmware", "list", "-dir", l.file("d")); out != "" {
		t.Errorf("firmware list: %q", out)
	}
	define := []string{"label", "define", "-dir", l.file("d"), "-name", "archive", "-stages", "running", "-description", "keeps what was released"}
	l.do(append(define, "-dry-run")...)
	l.says("to define  label archive: of boxes at running", "cannot be changed", nothingDone)
	l.do(define...)
	_, err = l.try(define...)
	wantText(t, err, `the domain has a label "archive" already`)
	l.do("label", "define", "-dir", l.file("d"), "-name", "teller", "-part", "peer", "-description", "a teller's desk")
	out := l.do("label", "list", "-dir", l.file("d"))
	for _, w := range []string{"key-release    of boxes at running", "attended       of boxes at running, while an operator is present", "archive        of boxes", "teller         peer, of other platforms than boxes"} {
		if !strings.Contains(out, w) {
			t.Errorf("label list %s lacks %q", out, w)
		}
	}
	for line, want := range map[string]string{"label": "say define or approve or list or client or peer", "label define -dir d -name x": "-description is missing", "label define -dir d -name x -description y -stages open": "want running or maintenance",
		"label define -dir d -name x -description y -part some": "want server, client or peer", "label approve -dir d -manifest m": "-name is missing"} {
		_, err := l.try(strings.Fields(line)...)
		wantText(t, err, want)
	}
	l.do("recovery", "split", "-dir", l.file("d"), "-recovery", "2/2", "-shares", l.file("s"), "-dry-run")
	l.says("to write   2 shares", "to remove  the whole recovery key", nothingDone)
	if _, err := os.Stat(l.file("s")); err == nil {
		t.Error("a dry run wrote shares")
	}
	l.do("recovery", "split", "-dir", l.file("d"), "-recovery", "2/2", "-shares", l.file("s"))
	if _, err := os.Stat(filepath.Join(l.file("d"), "recovery.key")); err == nil {
		t.Error("the whole key is still there")
	}
}

// People without a PKI: a key made here, or their own by a request; OpenSSL verifies both, and that a list revokes one.
func TestCommandPeople(t *testing.T) {
	l := &line{t: t, dir: t.TempDir()}
	l.do("init", l.file("d"), "-name", "example.org", "-plain")
	dir := []string{"-dir", l.file("d")}
	in := func(name string) string { return filepath.Join(l.file("d"), name) }
	person := func(args ...string) []string { return append(append([]string{"person"}, args...), dir...) }
	l.do(person("issue", "-name", "Bob Example", "-organization", "Example", "-dry-run")...)
	l.says("to certify CN=Bob Example,O=Example as a decryptor for 365 days", nothingDone)
	if _, err := os.Stat(in("people.pem")); err == nil {
		t.Error("a dry run made the CA")
	}
	l.do(person("issue", "-name", "Bob Example", "-organization", "Example")...)
	l.says("certificate in "+in("people/Bob Example.pem"), "keep no copy", "openssl pkcs12 -export")
	if st, err := os.Stat(in("people/Bob Example.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v", st, err)
	}
	own := newSigner(t)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"box1.example.org"}}, own)
	if err != nil {
		t.Fatal(err)
	}
	l.do(person("issue", "-name", "carol", "-days", "7", "-request", l.write("carol.csr", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})))...)
	if _, err := os.Stat(in("people/carol.key")); err == nil {
		t.Error("a key was made for who has one")
	}
	text, err := os.ReadFile(in("people/carol.pem"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(derOf(t, text))
	if err != nil || !own.Public().(*ecdsa.PublicKey).Equal(c.PublicKey) || len(c.DNSNames) != 0 || c.IsCA || c.Subject.String() != "CN=carol" {
		t.Errorf("certificate of carol: %+v, %v", c, err)
	}
	csr[len(csr)-1] ^= 1
	for name, x := range map[string]struct {
		args []string
		want string
	}{
		"not its own":   {[]string{"-name", "eve", "-request", l.write("eve.csr", csr)}, "not signed by its own key"},
		"not a request": {[]string{"-name", "eve", "-request", l.write("no.csr", []byte("no"))}, "not a PKCS #10 request"},
		"a path":        {[]string{"-name", "../eve"}, "not a usable common name"},
		"too long":      {[]string{"-name", "eve", "-days", "100000"}, "at most 1095 days"},
		"no name":       {nil, "-name is missing"},
	} {
		_, err := l.try(person(append([]string{"issue"}, x.args...)...)...)
		t.Run(name, func(t *testing.T) { wantText(t, err, x.want) })
	}
	verify := func(ok bool, args ...string) {
		t.Helper()
		args = append([]string{"verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", in("people.pem")}, args...)
		if out, err := exec.Command("openssl", args...).CombinedOutput(); (err == nil) != ok {
			t.Errorf("openssl: %v; want ok %v: %s", err, ok, out)
		}
	}
	verify(true, in("people/Bob Example.pem"))
	verify(true, in("people/carol.pem"))
	number := strings.Fields(strings.Split(l.do(person("list")...), "\n")[0])[0]
	l.do(person("revoke", "-serial", number, "-dry-run")...)
	l.says("to revoke  certificate "+number+" of Bob Example", nothingDone)
	l.do(person("revoke", "-serial", number)...)
	if out := l.do(person("list")...); !strings.Contains(out, "Bob Example           revoked") || !strings.Contains(out, "carol                 until") {
		t.Errorf("list: %s", out)
	}
	time.Sleep(time.Second) // the list says when, in whole seconds
	verify(false, "-crl_check", "-CRLfile", in(ListFile), in("people/Bob Example.pem"))
	verify(true, "-crl_check", "-CRLfile", in(ListFile), in("people/carol.pem"))
	_, err = l.try(person("revoke", "-serial", number)...)
	wantText(t, err, "was revoked on", "domain person publish")
	older := contents(t, in(ListFile))
	l.do(person("publish", "-dry-run")...)
	if l.says("good for 30 days", nothingDone); !bytes.Equal(contents(t, in(ListFile)), older) {
		t.Error("a dry run signed the list")
	}
	l.do(person("publish")...)
	number1, number2 := numberOf(t, older), numberOf(t, contents(t, in(ListFile)))
	if number2.Cmp(number1) <= 0 {
		t.Errorf("list number %v after %v", number2, number1)
	}
	time.Sleep(time.Second)
	verify(false, "-crl_check", "-CRLfile", in(ListFile), in("people/Bob Example.pem"))
	// who was stopped between the authority's key and its certificate goes on with that key
	for _, name := range []string{PeopleFile, ListFile} {
		if err := os.Remove(in(name)); err != nil {
			t.Fatal(err)
		}
	}
	l.do(person("issue", "-name", "dora")...)
	verify(true, in("people/dora.pem"))
	_, err = l.try(person("revoke", "-serial", "abc")...)
	wantText(t, err, "no certificate with number")
}

func numberOf(t *testing.T, list []byte) *big.Int {
	t.Helper()
	b, _ := pem.Decode(list)
	l, err := x509.ParseRevocationList(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return l.Number
}

// At a terminal the desk asks for a new passphrase twice, unseen, and before it signs; a word other than yes leaves all as it was.
func TestTerminal(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "domain")
	if out, err := exec.Command("go", "build", "-o", bin, "github.com/keyrelease/krabox/image/cmd/domain").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dir := filepath.Join(t.TempDir(), "d")
	s := terminal(t, bin, []string{"init", dir, "-name", "example.org"}, []exchange{
		{"New passphrase for the domain's keys (not shown): ", keyPassphrase}, {"The same again (not shown): ", "something else"}})
	if !strings.Contains(s, "the two passphrases differ") {
		t.Errorf("said %s", s)
	}
	s = terminal(t, bin, []string{"init", dir, "-name", "example.org"}, []exchange{
		{"New passphrase for the domain's keys (not shown): ", keyPassphrase}, {"The same again (not shown): ", keyPassphrase}})
	if strings.Contains(s, keyPassphrase) || !strings.Contains(s, `domain "example.org" in `) {
		t.Errorf("said %s", s)
	}
	holdsNoSecret(t, dir)
	issue := []string{"person", "issue", "-dir", dir, "-name", "bob"}
	if s := terminal(t, bin, issue, []exchange{{"Do this? [y/N] ", ""}}); !strings.Contains(s, errNotAgreed.Error()) {
		t.Errorf("said %s", s)
	}
	if _, err := os.Stat(filepath.Join(dir, PeopleFile)); err == nil {
		t.Error("done, though nobody agreed")
	}
	s = terminal(t, bin, issue, []exchange{{"Do this? [y/N] ", "y"}, {"Passphrase of the domain's keys (not shown): ", "another passphrase"}})
	if !strings.Contains(s, "wrong passphrase") {
		t.Errorf("said %s", s)
	}
	s = terminal(t, bin, issue, []exchange{{"Do this? [y/N] ", "y"}, {"Passphrase of the domain's keys (not shown): ", keyPassphrase}})
	if !strings.Contains(s, "certificate in ") || strings.Contains(s, keyPassphrase) {
		t.Errorf("said %s", s)
	}
}

// An exchange is a question, and what is typed then.
type exchange struct{ question, answer string }

// terminal runs a program at a terminal of its own and gives what it showed.
func terminal(t *testing.T, bin string, args []string, say []exchange) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(bin, args...)
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	parts := make(chan []byte)
	go func() {
		defer close(parts)
		for {
			b := make([]byte, 4096)
			n, err := master.Read(b)
			if err != nil { // EIO: nobody has the other end any more
				return
			}
			parts <- b[:n]
		}
	}()
	var shown []byte
	limit := time.After(10 * time.Minute) // scrypt, on a machine that does other things too
	for at := 0; ; {
		select {
		case p, ok := <-parts:
			if !ok {
				_ = c.Wait()
				if len(say) > 0 {
					t.Errorf("domain %s did not ask %q: %s", strings.Join(args, " "), say[0].question, shown)
				}
				return string(shown)
			}
			shown = append(shown, p...)
		case <-limit:
			_ = c.Process.Kill()
			t.Fatalf("domain %s does not end: %s", strings.Join(args, " "), shown)
		}
		if len(say) > 0 {
			if i := bytes.Index(shown[at:], []byte(say[0].question)); i >= 0 {
				at += i + len(say[0].question)
				if _, err := master.WriteString(say[0].answer + "\n"); err != nil {
					t.Fatal(err)
				}
				say = say[1:]
			}
		}
	}
}
