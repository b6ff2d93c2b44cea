package shares

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

func secret() (s [Size]byte) {
	rand.Read(s[:])
	return s
}

func split(t testing.TB, s [Size]byte, k, n int, domain string) []Share {
	t.Helper()
	all, err := Split(s, k, n, domain)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The field is that of FIPS 197: its example products, and every inverse.
func TestField(t *testing.T) {
	for _, c := range []struct{ a, b, want byte }{{0x57, 0x83, 0xc1}, {0x57, 0x13, 0xfe}, {0x57, 0x02, 0xae}, {0x57, 0x10, 0x07}, {0, 9, 0}, {1, 9, 9}} {
		if got := multiply(c.a, c.b); got != c.want {
			t.Errorf("multiply(%#x, %#x) = %#x; want %#x", c.a, c.b, got, c.want)
		}
	}
	for a := 1; a < 256; a++ {
		if got := multiply(byte(a), inverse(byte(a))); got != 1 {
			t.Errorf("%#x times its inverse = %#x", a, got)
		}
	}
}

// Every set of at least k of n shares gives the secret, every smaller one is refused.
func TestCombine(t *testing.T) {
	for _, c := range []struct{ k, n int }{{2, 2}, {2, 3}, {3, 5}, {5, 5}} {
		s := secret()
		all := split(t, s, c.k, c.n, "example.org")
		for choice := range 1 << c.n {
			var some []Share
			for i := range c.n {
				if choice>>i&1 == 1 {
					some = append(some, all[i])
				}
			}
			got, err := Combine(some)
			if len(some) < c.k {
				if !errors.Is(err, ErrTooFew) || got != [Size]byte{} {
					t.Errorf("%d of %d/%d: %v", len(some), c.k, c.n, err)
				}
			} else if err != nil || got != s {
				t.Errorf("choice %b of %d/%d: %v", choice, c.k, c.n, err)
			}
		}
	}
}

// Fewer shares than it takes fit every secret: with k-1 given, each value of a byte is as good as another.
func TestFewerTellNothing(t *testing.T) {
	s := secret()
	all := split(t, s, 2, 3, "example.org")
	known, x := all[0].value[0], byte(1)
	seen := map[byte]bool{}
	for guess := range 256 { // a line through (0, guess) and (1, known) exists, with slope known - guess
		slope := multiply(known^byte(guess), inverse(x))
		if at(x, []byte{byte(guess), slope}) != known {
			t.Fatalf("no line for %d", guess)
		}
		seen[byte(guess)] = true
	}
	if len(seen) != 256 {
		t.Errorf("%d secrets fit", len(seen))
	}
	again := split(t, s, 2, 3, "example.org")
	if again[0].value == all[0].value || again[0].Set == all[0].Set {
		t.Error("two splittings give the same share")
	}
}

func TestCombineRefuses(t *testing.T) {
	s := secret()
	all, again, other := split(t, s, 2, 3, "example.org"), split(t, s, 2, 3, "example.org"), split(t, s, 2, 3, "example.net")
	for name, c := range map[string]struct {
		shares []Share
		want   error
	}{
		"none":          {nil, ErrTooFew},
		"one":           {all[:1], ErrTooFew},
		"twice":         {[]Share{all[0], all[0]}, ErrTwice},
		"two domains":   {[]Share{all[0], other[1]}, ErrMixed},
		"two sets":      {[]Share{all[0], again[1]}, ErrMixed},
		"one too many":  {[]Share{all[0], all[1], again[2]}, ErrMixed},
		"other quorum":  {[]Share{all[0], {Domain: "example.org", Set: all[0].Set, Threshold: 1, Shares: 3, Index: 2}}, ErrMixed},
		"thrice, twice": {[]Share{all[0], all[1], all[0]}, ErrTwice},
	} {
		if got, err := Combine(c.shares); !errors.Is(err, c.want) || got != [Size]byte{} {
			t.Errorf("%s: %v; want %v", name, err, c.want)
		}
	}
	for _, c := range []struct{ k, n int }{{1, 3}, {0, 0}, {3, 2}, {2, MaxShares + 1}, {1, 1}, {-1, 2}} {
		if _, err := Split(s, c.k, c.n, "example.org"); err == nil {
			t.Errorf("split %d of %d", c.k, c.n)
		}
	}
	if _, err := Split(s, 2, 2, "Example\n"); err == nil {
		t.Error("split for a name that is none")
	}
}

// A text comes back as it was; with any character changed it is refused as damaged.
func TestText(t *testing.T) {
	s := split(t, secret(), 2, 3, "example.org")[1]
	text := s.PEM()
	got, err := Parse(text)
	if err != nil || got != s {
		t.Fatalf("Parse() = %v, %v", got, err)
	}
	for i := range text {
		bad := bytes.Clone(text)
		bad[i] ^= 1
		got, err := Parse(bad)
		if err == nil && got == s && text[i]^1 == '\v' && i == len(text)-1 { // white space at its end
			continue
		}
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("changed at %d (%q): %v, %v", i, text[i], got, err)
		}
	}
	for name, good := range map[string][]byte{"spaces": append([]byte("\n \t"), append(text, " \n\n"...)...), "another system's": bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))} {
		if got, err := Parse(good); err != nil || got != s {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, bad := range map[string][]byte{"empty": nil, "two": append(bytes.Clone(text), text...), "long": bytes.Repeat(text, 30),
		"cut": text[:len(text)/2], "before": append([]byte("my share:\n"), text...), "after": append(bytes.Clone(text), "keep it safe"...),
		"spaced": bytes.Replace(text, []byte("Index: 2"), []byte("Index:  2"), 1), "threshold": bytes.Replace(text, []byte("Threshold: 2"), []byte("Threshold: 3"), 1),
		"number": bytes.Replace(text, []byte("Index: 2"), []byte("Index: 02"), 1)} {
		if _, err := Parse(bad); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, shown := range []string{fmt.Sprint(s), fmt.Sprintf("%#v", s), fmt.Sprintf("%+v", s)} {
		if strings.Contains(shown, fmt.Sprintf("%x", s.value[:4])) || strings.Contains(shown, fmt.Sprintf("%d %d", s.value[0], s.value[1])) {
			t.Errorf("the value shows: %s", shown)
		}
	}
	s.Clear()
	if s.value != [Size]byte{} {
		t.Error("cleared, it is still there")
	}
}

func FuzzParse(f *testing.F) {
	if seeds, err := os.ReadDir("testdata/fuzz/FuzzParse"); err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		if again, err := Parse(s.PEM()); err != nil || again != s {
			t.Errorf("%q: not read again: %v", b, err)
		}
	})
}
