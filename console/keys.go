package console

import "unicode/utf8"

// What a byte turned out to be.
type keyKind uint8

const (
	keyPart     keyKind = iota + 1 // the beginning of something
	keyText                        // a printable character
	keySequence                    // a key that the line editor knows
	keyControl                     // a control byte
	keyGarbage                     // nothing
)

// maxSequence bounds an escape sequence.
const maxSequence = 16

// A keyState assembles characters and key sequences from bytes.
//
//	ground --ESC--> escape --[--> params --final--> ground
//	   |               '----O--> final ----------> ground
//	   '--lead byte--> character --continuation--> ground
type keyState struct {
	part   []byte // of a character or a sequence
	escape bool
}

// next takes one byte. The bytes it returns are valid until the next call.
func (s *keyState) next(b byte) ([]byte, keyKind) {
	switch {
	case s.escape:
		return s.sequence(b)
	case len(s.part) > 0:
		return s.character(b)
	case b == byteEscape:
		s.escape = true
		return nil, keyPart
	case b < 0x20 || b == byteDelete:
		return nil, keyControl
	case b < utf8.RuneSelf:
		return []byte{b}, keyText
	}
	return s.character(b)
}

func (s *keyState) character(b byte) ([]byte, keyKind) {
	s.part = append(s.part, b)
	if !utf8.FullRune(s.part) {
		return nil, keyPart
	}
	k := s.part
	s.part = nil
	if r, n := utf8.DecodeRune(k); n != len(k) || unreadable(r) {
		return nil, keyGarbage
	}
	return k, keyText
}

// sequence reads the forms of ECMA-48 that keys send: ESC [ parameters final, and ESC O final.
func (s *keyState) sequence(b byte) ([]byte, keyKind) {
	switch {
	case b < 0x20 || b >= byteDelete: // no part of a sequence: start anew with it
		*s = keyState{}
		return s.next(b)
	case len(s.part) == 0 && (b == '[' || b == 'O'):
		s.part = append(s.part, b)
		return nil, keyPart
	case len(s.part) == 0: // a lone ESC before a character
		*s = keyState{}
		return s.next(b)
	case len(s.part) > maxSequence:
		*s = keyState{}
		return nil, keyGarbage
	}
	s.part = append(s.part, b)
	if s.part[0] == '[' && b < 0x40 {
		return nil, keyPart
	}
	k := keySequenceOf(string(s.part[1:]))
	*s = keyState{}
	if k == "" {
		return nil, keyPart // a key without a meaning here
	}
	return []byte(k), keySequence
}

// keySequenceOf translates what terminals send to what the line editor understands.
func keySequenceOf(s string) string {
	switch s {
	case "A", "B", "C", "D", "H", "F", "3~":
		return "\x1b[" + s
	case "1~", "7~":
		return "\x1b[H"
	case "4~", "8~":
		return "\x1b[F"
	case "1;3C", "1;5C":
		return "\x1b[1;3C"
	case "1;3D", "1;5D":
		return "\x1b[1;3D"
	}
	return ""
}
