package console

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// modules reads what was drawn back into dark modules, and fails on what is no character of a drawing or no square.
func modules(t *testing.T, drawn string, g Ground) (m [][]bool) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(drawn, "\n"), "\n")
	for _, l := range lines {
		var upper, lower []bool
		for _, r := range l {
			i := slices.Index([]rune(" ▀▄█"), r)
			if i < 0 {
				t.Fatalf("%q in a QR code", r)
			}
			upper = append(upper, (i&1 != 0) == (g == Paper))
			lower = append(lower, (i&2 != 0) == (g == Paper))
		}
		m = append(m, upper, lower)
	}
	side := len(m[0])
	for y, row := range m {
		if len(row) != side || y >= side && slices.Contains(row, true) {
			t.Fatalf("line %d of a QR code of %d columns: %d columns, or dark below its end", y, side, len(row))
		}
	}
	return m[:side]
}

// bare is a symbol without its quiet zone, which must be light.
func bare(t *testing.T, m [][]bool) [][]bool {
	t.Helper()
	end := len(m) - 4
	var inner [][]bool
	for y, row := range m {
		out := slices.Concat(row[:4], row[end:])
		if y < 4 || y >= end {
			out = row
		} else {
			inner = append(inner, row[4:end])
		}
		if slices.Contains(out, true) {
			t.Fatalf("the quiet zone is dark in row %d", y)
		}
	}
	return inner
}

// blocks are the data codewords of the blocks of level L, versions 1 to 10 (ISO/IEC 18004:2015, table 9).
var blocks = [][]int{{19}, {34}, {55}, {80}, {108}, {68, 68}, {78, 78}, {97, 97}, {116, 116}, {68, 68, 69, 69}}

// aligned are the middles of alignment patterns beside 6, versions 1 to 10 (annex E).
var aligned = [][]int{nil, {18}, {22}, {26}, {30}, {34}, {22, 38}, {24, 42}, {26, 46}, {28, 50}}

// function reports modules that hold no data.
func function(version, x, y int) bool {
	n := 17 + 4*version
	switch {
	case x == 6 || y == 6, x < 9 && y < 9, x < 9 && y >= n-8, x >= n-8 && y < 9:
		return true
	case version >= 7 && (x < 6 && y >= n-11 || y < 6 && x >= n-11):
		return true
	}
	near := func(a, b int) bool { return max(a-b, b-a) <= 2 }
	at := append([]int{6}, aligned[version-1]...)
	for _, cx := range at {
		for _, cy := range at {
			corner := cx == 6 && cy == 6 || cx == 6 && cy == n-7 || cx == n-7 && cy == 6
			if !corner && near(x, cx) && near(y, cy) {
				return true
			}
		}
	}
	return false
}

// masks are the conditions of table 10; i is the row.
var masks = []func(i, j int) bool{
	func(i, j int) bool { return (i+j)%2 == 0 }, func(i, j int) bool { return i%2 == 0 },
	func(i, j int) bool { return j%3 == 0 }, func(i, j int) bool { return (i+j)%3 == 0 },
	func(i, j int) bool { return (i/2+j/3)%2 == 0 }, func(i, j int) bool { return i*j%2+i*j%3 == 0 },
	func(i, j int) bool { return (i*j%2+i*j%3)%2 == 0 }, func(i, j int) bool { return ((i+j)%2+i*j%3)%2 == 0 },
}

// codewords reads all codewords of a symbol in their order (7.7.3).
func codewords(t *testing.T, m [][]bool) []byte {
	t.Helper()
	n, version := len(m), (len(m)-17)/4
	var format uint // its first five bits: the level, the mask
	for j := range 5 {
		format <<= 1
		if m[8][j] {
			format |= 1
		}
	}
	if format ^= 0b10101; format>>3 != 1 {
		t.Fatalf("level %b, want L", format>>3)
	}
	mask := masks[format&7]
	var out []byte
	var word, got uint
	for right, up := n-1, true; right > 0; right, up = right-2, !up {
		if right == 6 {
			right--
		}
		for k := range n {
			y := k
			if up {
				y = n - 1 - k
			}
			for _, x := range []int{right, right - 1} {
				if function(version, x, y) {
					continue
				}
				word <<= 1
				if m[y][x] != mask(y, x) {
					word |= 1
				}
				if got++; got%8 == 0 {
					out = append(out, byte(word))
				}
			}
		}
	}
	return out
}

// scan reads the text of a symbol in byte mode as a camera would that sees every module.
func scan(t *testing.T, m [][]bool) string {
	t.Helper()
	version := (len(m) - 17) / 4
	if version < 1 || version > len(blocks) || len(m) != 17+4*version {
		t.Fatalf("a symbol of %d modules", len(m))
	}
	words, shape := codewords(t, m), blocks[version-1]
	data := make([][]byte, len(shape))
	for i := 0; i < slices.Max(shape); i++ {
		for b, size := range shape {
			if i < size {
				data[b] = append(data[b], words[0])
				words = words[1:]
			}
		}
	}
	all := slices.Concat(data...)
	at := 0
	take := func(n int) (v int) {
		for range n {
			v = v<<1 | int(all[at/8]>>(7-at%8)&1)
			at++
		}
		return v
	}
	if mode := take(4); mode != 4 {
		t.Fatalf("mode %d, want bytes", mode)
	}
	size := 8
	if version > 9 {
		size = 16
	}
	text := make([]byte, take(size))
	for i := range text {
		text[i] = byte(take(8))
	}
	return string(text)
}

// TestSymbol: what is drawn can be read again, of every length, on either ground; what does not fit is refused in words.
func TestSymbol(t *testing.T) {
	versions := map[int]bool{}
	for n := 1; n <= MaxSymbol; n++ {
		text := strings.Repeat("fingerprint 4f2a-ü ", 20)[:n]
		for _, g := range []Ground{Dark, Paper} {
			drawn, err := Symbol(text, g)
			if err != nil {
				t.Fatal(err)
			}
			m := bare(t, modules(t, drawn, g))
			if got := scan(t, m); got != text {
				t.Fatalf("ground %d: %q is read as %q", g, text, got)
			}
			if len(m)+8 >= columns {
				t.Errorf("%d bytes take %d columns", n, len(m)+8)
			}
			versions[(len(m)-17)/4] = true
			if lines := strings.Count(drawn, "\n"); n <= 106 && lines > 23 {
				t.Errorf("%d bytes take %d lines", n, lines)
			}
		}
	}
	if len(versions) != len(blocks) {
		t.Errorf("versions %v, want all up to %d", versions, len(blocks))
	}
	for _, c := range []struct{ text, want string }{{"", "nothing to make a QR code of"}, {strings.Repeat("x", MaxSymbol+1), "272 bytes, and a QR code here holds 271"}} {
		if drawn, err := Symbol(c.text, Dark); err == nil || !strings.Contains(err.Error(), c.want) || drawn != "" {
			t.Errorf("Symbol(%d bytes) = %q, %v; want %q", len(c.text), drawn, err, c.want)
		}
	}
	plain, err := Symbol("the same text", Paper)
	if err != nil {
		t.Fatal(err)
	}
	if first, _, _ := strings.Cut(plain, "\n"); strings.TrimSpace(first) != "" {
		t.Errorf("the quiet zone on paper is drawn: %q", first)
	}
}

// TestSymbolOnTheLine: a person asks for a code of a line, and has it whole on the terminal; of too much, a refusal.
func TestSymbolOnTheLine(t *testing.T) {
	p, _ := sit(t, &listener{mode: Enrolled}, time.Minute)
	p.login()
	for verb, g := range map[string]Ground{"qr": Dark, "qr-paper": Paper} {
		p.send("key list | include \"Key 7 of\" | " + verb + "\r")
		p.expect("| " + verb + "\r\n")
		from := p.at
		p.expect("box1> ")
		drawn := strings.ReplaceAll(p.text()[from:p.at-len("box1> ")], "\r\n", "\n")
		if got := scan(t, bare(t, modules(t, drawn, g))); got != "Key 7 of fifty" {
			t.Errorf("the terminal shows a code of %q", got)
		}
	}
	p.send("key list | qr\r")
	p.expect("bytes, and a QR code here holds 271: choose a line of it")
	p.send("key list | include nowhere | qr\r")
	p.expect("There is nothing to make a QR code of.")
	p.send("reboot | qr\r") // it asks first
	p.expect("Type yes to go on: ")
	p.send("\x03")
	p.expect("Cancelled; nothing was done.")
}

func TestSymbolSyntax(t *testing.T) {
	for _, line := range []string{"status | qr", "status | include health | qr-paper | more"} {
		if _, err := Parse(line); err != nil {
			t.Errorf("Parse(%q) = %v", line, err)
		}
	}
	var mistake *SyntaxError
	if _, err := Parse("status | qr dark"); !errors.As(err, &mistake) || mistake.Text != "unknown word" {
		t.Errorf("a word after qr: %v", err)
	}
}
