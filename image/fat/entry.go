package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
)

const (
	entrySize       = 32
	attrLabel       = 0x08
	attrFolder      = 0x10
	attrArchive     = 0x20
	attrLongName    = 0x0f
	lastLongEntry   = 0x40
	charsPerEntry   = 13
	maxName         = 255
	deleted         = 0xe5
	fixedDate       = 1<<5 | 1 // 1 January 1980
	allowedInShort  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789$%'-_@~`!(){}^#&"
	forbiddenInLong = `\/:*?"<>|`
)

// longNameSlots are the offsets of the thirteen characters within a long-name entry.
var longNameSlots = [charsPerEntry]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > maxName || strings.HasSuffix(name, " ") || strings.HasSuffix(name, ".") {
		return fmt.Errorf("bad file name %q", name)
	}
	for _, r := range name {
		if r < 0x20 || r > 0x7e || strings.ContainsRune(forbiddenInLong, r) {
			return fmt.Errorf("bad file name %q", name)
		}
	}
	return nil
}

// shortName returns the eleven bytes of a name that needs no long form.
func shortName(name string) ([11]byte, bool) {
	var short [11]byte
	base, ext, dotted := strings.Cut(name, ".")
	if base == "" || len(base) > 8 || len(ext) > 3 || (dotted && ext == "") ||
		strings.Trim(base, allowedInShort) != "" || strings.Trim(ext, allowedInShort) != "" {
		return short, false
	}
	copy(short[:], padded(base, 8)+padded(ext, 3))
	return short, true
}

// alias is the short name of the i-th entry of a folder when its name is long:
// unique because i is, and never a name that shortName takes without a tilde.
func alias(i int) [11]byte {
	var short [11]byte
	copy(short[:], padded(fmt.Sprintf("K~%05d", i), 11))
	return short
}

func entriesFor(name string) int {
	if _, ok := shortName(name); ok {
		return 1
	}
	return 1 + (len(name)+charsPerEntry-1)/charsPerEntry
}

// entries encodes the i-th child of a folder.
func entries(n *node, i int, first uint32) []byte {
	attr := byte(attrArchive)
	if n.folder {
		attr = attrFolder
	}
	short, ok := shortName(n.name)
	if ok {
		return shortEntry(short, attr, first, uint32(len(n.data)))
	}
	short = alias(i)
	return append(longEntries(n.name, checksum(short)), shortEntry(short, attr, first, uint32(len(n.data)))...)
}

func shortEntry(name [11]byte, attr byte, first, size uint32) []byte {
	e := make([]byte, entrySize)
	copy(e, name[:])
	e[11] = attr
	le := binary.LittleEndian
	for _, at := range []int{16, 18, 24} { // created, accessed, written
		le.PutUint16(e[at:], fixedDate)
	}
	le.PutUint16(e[20:], uint16(first>>16))
	le.PutUint16(e[26:], uint16(first))
	le.PutUint32(e[28:], size)
	return e
}

func dotEntry(name string, cluster uint32) []byte {
	var short [11]byte
	copy(short[:], padded(name, 11))
	return shortEntry(short, attrFolder, cluster, 0)
}

func volumeLabel(label string) []byte {
	var short [11]byte
	copy(short[:], padded(label, 11))
	return shortEntry(short, attrLabel, 0, 0)
}

// longEntries stores the name backwards, thirteen UTF-16 characters an entry, before the short entry.
func longEntries(name string, sum byte) []byte {
	wide := utf16.Encode([]rune(name))
	if len(wide)%charsPerEntry != 0 {
		wide = append(wide, 0)
	}
	for len(wide)%charsPerEntry != 0 {
		wide = append(wide, 0xffff)
	}
	var out []byte
	for n := len(wide) / charsPerEntry; n > 0; n-- {
		e := make([]byte, entrySize)
		e[0] = byte(n)
		if len(out) == 0 {
			e[0] |= lastLongEntry
		}
		e[11], e[13] = attrLongName, sum
		for i, at := range longNameSlots {
			binary.LittleEndian.PutUint16(e[at:], wide[(n-1)*charsPerEntry+i])
		}
		out = append(out, e...)
	}
	return out
}

func checksum(short [11]byte) byte {
	var sum byte
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

var errLongName = errors.New("broken long file name")

// A longName collects the entries that precede a short one.
type longName struct {
	wide []uint16
	sum  byte
	next int // number of the entry that must follow; 0 when complete
}

func (l *longName) take(e []byte) error {
	n := int(e[0] &^ lastLongEntry)
	if e[0]&lastLongEntry != 0 {
		*l = longName{sum: e[13], next: n}
	}
	if n == 0 || n != l.next || e[13] != l.sum || n*charsPerEntry > maxName+charsPerEntry {
		return errLongName
	}
	part := make([]uint16, charsPerEntry)
	for i, at := range longNameSlots {
		part[i] = binary.LittleEndian.Uint16(e[at:])
	}
	l.wide = append(part, l.wide...)
	l.next--
	return nil
}

// name returns the long name if it belongs to this short entry, else the short name.
func (l *longName) name(e []byte) string {
	short := [11]byte(e[:11])
	if len(l.wide) > 0 && l.next == 0 && l.sum == checksum(short) {
		for i, c := range l.wide {
			if c == 0 {
				return string(utf16.Decode(l.wide[:i]))
			}
		}
		return string(utf16.Decode(l.wide))
	}
	base, ext := strings.TrimRight(string(short[:8]), " "), strings.TrimRight(string(short[8:]), " ")
	if ext != "" {
		return base + "." + ext
	}
	return base
}
