package backup

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	hsm "github.com/keyrelease/krabox/hsm/wire"
)

func key(t *testing.T) (Seed, []byte) {
	t.Helper()
	s := NewSeed()
	public, err := s.Public()
	if err != nil {
		t.Fatal(err)
	}
	return s, public
}

func split(t *testing.T, s Seed, public []byte, k, n int) []Share {
	t.Helper()
	all, err := Split(s, hsm.PeerOf(public), k, n)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestFormat holds FORMAT.md to the code.
func TestFormat(t *testing.T) {
	page, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{keyContext, stateContext, shareContext, lineContext, armorContext} {
		if !strings.Contains(string(page), "`"+want+"`") {
			t.Errorf("FORMAT.md lacks %s", want)
		}
	}
	text := string(Armor([]byte("0123456789abcdef0123456789abcdef0123456789abcdef012")))
	if !strings.Contains(strings.ReplaceAll(string(page), "\n    ", "\n"), text) {
		t.Errorf("FORMAT.md lacks the example\n%s", text)
	}
}

// TestShares: any k of n shares, as they are typed, open what is sealed to the backup key, and fewer or others do not.
func TestShares(t *testing.T) {
	s, public := key(t)
	sealed, err := SealState(public, []byte("state"))
	if err != nil {
		t.Fatal(err)
	}
	all := split(t, s, public, 2, 3)
	for i := range all {
		for j := range all {
			var typed []Share
			for _, x := range []Share{all[i], all[j]} {
				y, err := ParseShare(strings.ToUpper(strings.ReplaceAll(x.Text(), "0", "O")))
				if err != nil {
					t.Fatal(err)
				}
				typed = append(typed, y)
			}
			seed, err := Combine(typed)
			if i == j {
				if err == nil {
					t.Error("one share twice is two shares")
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := seed.OpenState(sealed); err != nil || string(got) != "state" {
				t.Errorf("shares %d and %d open %q, %v", i+1, j+1, got, err)
			}
		}
	}
	if _, err := Combine(all[:1]); err == nil {
		t.Error("one share of two is enough")
	}
	other, p := key(t)
	if _, err := other.OpenState(sealed); err == nil {
		t.Error("another key opens the state")
	}
	if _, err := Combine([]Share{all[0], split(t, other, p, 2, 3)[1]}); err == nil {
		t.Error("shares of two keys go together")
	}
	one := split(t, s, public, 1, 1)
	if seed, err := Combine(one); err != nil || !bytes.Equal(seed.take()[:], s.take()[:]) {
		t.Errorf("one of one is not the seed: %v", err)
	}
	if strings.Contains(fmt.Sprintf("%#v%+v%+v", all[0], all[0], s), fmt.Sprintf("%x", all[0].value()[:4])) {
		t.Error("a share prints its value")
	}
}

// TestWrongShareIsNamed: whatever letter of a share is changed, its line is named; and a share is told from every other one.
func TestWrongShareIsNamed(t *testing.T) {
	s, public := key(t)
	all := split(t, s, public, 2, 3)
	text := all[0].Text()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for n, l := range lines {
		for i := 3; i < len(l); i++ {
			if l[i] == ' ' {
				continue
			}
			to := "x"
			if l[i] == 'x' {
				to = "y"
			}
			bad := append([]string{}, lines...)
			bad[n] = l[:i] + to + l[i+1:]
			if _, err := ParseShare(strings.Join(bad, "\n")); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("line %d ", n+1)) {
				t.Errorf("letter %d of line %d: %v", i, n+1, err)
			}
		}
	}
	second := strings.Split(strings.TrimSpace(all[1].Text()), "\n")
	if _, err := ParseShare(strings.Join(append(append([]string{}, lines[:3]...), second[3:]...), "\n")); err == nil || !strings.Contains(err.Error(), "line 4 ") {
		t.Errorf("two shares mixed: %v", err)
	}
	for name, bad := range map[string]string{"empty": "", "four lines": strings.Join(lines[:4], "\n"), "swapped": strings.Join([]string{lines[0], lines[2], lines[1], lines[3], lines[4]}, "\n"),
		"long": strings.Repeat(text, 100)} {
		if _, err := ParseShare(bad); err == nil {
			t.Errorf("%s is a share", name)
		}
	}
	for i, x := range all {
		for j, y := range all {
			if x.Is(y.Commitment()) != (i == j) {
				t.Errorf("share %d is share %d: %v", i+1, j+1, i != j)
			}
		}
	}
	again := split(t, s, public, 2, 3)
	if again[0].Is(all[0].Commitment()) {
		t.Error("a share of another splitting is right")
	}
}

// TestGarbledLineIsNamed: a backup that a terminal spoiled is refused, by line.
func TestGarbledLineIsNamed(t *testing.T) {
	doc := bytes.Repeat([]byte("0123456789abcdef"), 40)
	text := string(Armor(doc))
	if got, err := Unarmor("box1> backup make\r\n" + strings.ReplaceAll(text, "\n", "\r\n") + "Done."); err != nil || !bytes.Equal(got, doc) {
		t.Fatalf("Unarmor: %v", err)
	}
	lines := strings.Split(text, "\n")
	for i := 3; i < len(lines)-2; i++ {
		for what, l := range map[string][]string{"garbled": {lines[i][:5] + "!" + lines[i][6:]}, "is ": {lines[i][:5] + "AAAA" + lines[i][9:]}, "missing": {}} {
			bad := strings.Join(append(append(append([]string{}, lines[:i]...), l...), lines[i+1:]...), "\n")
			_, err := Unarmor(bad)
			if want := fmt.Sprintf("line %d of", i-2); err == nil || !strings.Contains(err.Error(), want) && !(i == len(lines)-3 && strings.Contains(err.Error(), "ends after line")) || !strings.Contains(err.Error()+" missing", what) {
				t.Errorf("line %d %s: %v", i-2, what, err)
			}
		}
	}
	for name, bad := range map[string]string{"nothing": "", "cut": text[:len(text)/2], "long": strings.Repeat("x", MaxArmor+1), "more": strings.Replace(text, end, lines[4]+"\n"+end, 1),
		"no number": strings.Replace(text, "Lines: ", "Lines:", 1)} {
		if _, err := Unarmor(bad); err == nil {
			t.Errorf("%s is a backup", name)
		}
	}
}

// TestAge: who has the recipient's identity, and nobody else, reads the one share.
func TestAge(t *testing.T) {
	s, public := key(t)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	one := split(t, s, public, 1, 1)[0]
	text, err := ToAge(one, []string{id.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(text)), id)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if x, err := ParseShare(string(plain)); err != nil || !x.Is(one.Commitment()) {
		t.Errorf("what was decrypted: %v", err)
	}
	if _, err := ToAge(one, []string{"age1x"}); err == nil {
		t.Error("encrypted to nobody")
	}
}

// TestForward: a letter for the backup key reaches another token's transport key and no other.
func TestForward(t *testing.T) {
	s, public := key(t)
	to, transport := key(t)
	letter, err := hsm.SealLetter(public, make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	on, err := s.Forward(letter, transport)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Opens(on); err != nil {
		t.Error(err)
	}
	if s.Opens(on) == nil || to.Opens(letter) == nil {
		t.Error("a letter opens for whom it is not")
	}
	if _, err := to.Forward(letter, transport); err == nil {
		t.Error("forwarded by whom it is not for")
	}
	s.Clear()
	if _, err := s.Public(); err == nil {
		t.Error("a seed that was cleared has a key")
	}
}

func FuzzParseShare(f *testing.F) {
	s := NewSeed()
	public, err := s.Public()
	if err != nil {
		f.Fatal(err)
	}
	all, err := Split(s, hsm.PeerOf(public), 2, 3)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(all[0].Text())
	f.Fuzz(func(t *testing.T, text string) {
		if x, err := ParseShare(text); err == nil {
			if again, err := ParseShare(x.Text()); err != nil || !again.Is(x.Commitment()) {
				t.Errorf("%q: not read again: %v", text, err)
			}
		}
	})
}

func FuzzUnarmor(f *testing.F) {
	f.Add(string(Armor([]byte("a backup"))))
	f.Fuzz(func(t *testing.T, text string) {
		if doc, err := Unarmor(text); err == nil {
			if again, err := Unarmor(string(Armor(doc))); err != nil || !bytes.Equal(again, doc) {
				t.Errorf("%q: not read again: %v", text, err)
			}
		}
	})
}
