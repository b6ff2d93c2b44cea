package boxtest_test

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra/block"
)

// A box whose algorithms do not give their known answers opens and releases nothing, and its console says why. With good programs it is
// what it was.
func TestErrorOfABox(t *testing.T) {
	b := boxtest.Start(t)
	legalTeam(b)
	bob := b.Person("bob")
	h, _ := header(t, b.Agent(&bob), "x")
	releases := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err := b.Agent(&bob).Release(ctx, []block.Header{h})
		return err
	}
	if err := releases(); err != nil {
		t.Fatal(err)
	}
	if shown := b.Do("system test"); !strings.Contains(shown, "Argon2id") || !strings.Contains(shown, "self-tests passed in") || !strings.Contains(shown, "FIPS 140 mode") {
		t.Errorf("system test says %s", shown)
	}
	if err := releases(); err != nil {
		t.Errorf("after the test: %v", err)
	}
	b.Rebuild(boxtest.Edit{File: "appliance/selftest/known.go", Old: `"ba7816bf8f01`, New: `"ca7816bf8f01`})
	b.Reset()
	shown := b.Do("status")
	if text := strings.Join(strings.Fields(shown), " "); !strings.Contains(text, "state error: self-test of SHA-256 (FIPS 180-4): the answer is not the known one") {
		t.Errorf("status says %s", shown)
	}
	if err := releases(); err == nil {
		t.Error("a box in the state error releases")
	}
	for _, line := range []string{"enrol install", "system test", "key list", "access list"} {
		if _, failure := b.Try(line); failure == "" || strings.HasPrefix(failure, "asks") {
			t.Errorf("%s: %q in the state error", line, failure)
		}
	}
	b.Rebuild()
	b.Reset()
	b.Login()
	if err := releases(); err != nil {
		t.Errorf("with good programs: %v", err)
	}
	var starts []int
	for _, m := range regexp.MustCompile(`start ([0-9]+), 1[0-9] self-tests passed`).FindAllStringSubmatch(words(b.Do("log show 200")), -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		starts = append(starts, n)
	}
	slices.Sort(starts)
	if n := len(starts); n < 2 || starts[n-1] != starts[n-2]+2 {
		t.Errorf("the log has the starts %d; want all but the last but one", starts)
	}
}

// TestCertifiedModule: a box whose programs were built with Go's validated module says so, passes its tests, and makes keys of every algorithm that
// release.
func TestCertifiedModule(t *testing.T) {
	b := boxtest.StartCertified(t)
	legalTeam(b)
	bob := b.Person("bob")
	suites := map[block.Suite]bool{}
	for _, algorithm := range []string{"p256", "p384", "rsa3072", "mlkem768p256"} {
		if algorithm != "p256" {
			b.Do("key generate " + algorithm + " for legal-team")
		}
		h, _ := header(t, b.Agent(&bob), "x")
		if _, err := b.Agent(&bob).Release(t.Context(), []block.Header{h}); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		suites[h.Wraps()[0].Suite()] = true
	}
	if len(suites) != 4 {
		t.Errorf("files were encrypted to keys of %v only", suites)
	}
	for _, line := range []string{"system test", "status"} {
		if shown := b.Do(line); !strings.Contains(shown, "Go's, FIPS 140 mode on, module v1.") || strings.Contains(shown, "FAILED") {
			t.Errorf("%s says %s", line, shown)
		}
	}
}
