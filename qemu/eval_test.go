package qemu_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/image"
	"github.com/keyrelease/krabox/image/desk"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/receipt"
	"github.com/keyrelease/krabox/qemu/eval"
)

// TestBoxEvaluation runs the evaluation and computes every value of its last line again, from what it left.
func TestBoxEvaluation(t *testing.T) {
	t.Parallel()
	l, err := theLab()
	if err != nil {
		t.Fatal(err)
	}
	kra := filepath.Join(t.TempDir(), "kra")
	if out, err := exec.Command("go", "build", "-o", kra, "../kra/cmd/kra").CombinedOutput(); err != nil {
		t.Fatalf("build kra: %v\n%s", err, out)
	}
	o := eval.Options{Dist: *dist, Domain: *domain, Dir: filepath.Join(scratch(), "eval"), KRA: kra, Readme: "../README.md", Host: l.host}
	var told bytes.Buffer
	r, err := eval.Run(context.Background(), o, &told)
	if err != nil {
		t.Fatalf("%v\n%s", err, &told)
	}
	for name, want := range r.Images {
		if got := fileDigest(t, filepath.Join(*dist, name)); got != want {
			t.Errorf("%s: %s on the disk, %s told", name, got, want)
		}
	}
	uki := builtUKI(t)
	pcr4, err4 := l.keys.PCR4(uki)
	pcr11, err11 := image.PredictPCR11(uki)
	if err4 != nil || err11 != nil {
		t.Fatal(err4, err11)
	}
	request := requestSaid(t, filepath.Join(o.Dir, "box", "serial.log"))
	for register, predicted := range map[int]string{4: pcr4.String(), 7: l.keys.PCR7().String(), 11: pcr11.String()} {
		name := map[int]string{4: "4", 7: "7", 11: "11"}[register]
		if found := request.PCRs[register].String(); r.PCRsPredicted[name] != predicted || r.PCRsRead[name] != found || found != predicted {
			t.Errorf("PCR %s: predicted %s, told %s; found %s, told %s", name, predicted, r.PCRsPredicted[name], found, r.PCRsRead[name])
		}
	}
	if got := keyID(t, filepath.Join(o.Dir, "directory.json"), l.trust); got != r.KeyID {
		t.Errorf("key id %s, told %s", got, r.KeyID)
	}
	export, err := os.Open(filepath.Join(o.Dir, "log.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer export.Close()
	report, err := receipt.VerifyExport(export, l.trust.Roots())
	if err != nil {
		t.Fatal(err)
	}
	if root := base64.StdEncoding.EncodeToString(report.Head.Root[:]); report.Head.Size != r.LogSize || root != r.LogRoot {
		t.Errorf("log of %d records, root %s; told %d, %s", report.Head.Size, root, r.LogSize, r.LogRoot)
	}
	for plain, opened := range map[string]string{"README.md": "bob.md", "big.bin": "bob.bin"} {
		if a, b := fileDigest(t, filepath.Join(o.Dir, plain)), fileDigest(t, filepath.Join(o.Dir, opened)); a != b {
			t.Errorf("%s: %s, opened %s", plain, a, b)
		}
	}
	if last := strings.TrimSpace(told.String()); !strings.Contains(last, "exit code 3; no file was left") {
		t.Errorf("the evaluation shows no refusal:\n%s", last)
	}
	if _, err := os.Stat(filepath.Join(*domain, desk.RootFile)); err != nil {
		t.Error(err)
	}
}

func fileDigest(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

var requestBlock = regexp.MustCompile(`(?s)-----BEGIN KRA ENROLMENT REQUEST-----.*?-----END KRA ENROLMENT REQUEST-----\n`)

// requestSaid is the enrolment request as it went over the serial line.
func requestSaid(t *testing.T, log string) label.EnrolRequest {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	q, err := label.ParseRequest(requestBlock.Find(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))))
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func keyID(t *testing.T, directory string, trust client.Trust) string {
	t.Helper()
	b, err := os.ReadFile(directory)
	if err != nil {
		t.Fatal(err)
	}
	d, err := client.ParseDirectory(b, trust, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	k, ok := d.Lookup("legal-team")
	if !ok {
		t.Fatal("no key for legal-team")
	}
	return k.ID().String()
}
