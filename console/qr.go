package console

import (
	"errors"
	"fmt"
	"strings"

	"rsc.io/qr"
)

// MaxSymbol is how many bytes a QR code on the terminal holds: version 10 at level L in byte mode (ISO/IEC 18004:2015, table 7), which is
// 65 columns and 33 lines with its quiet zone. Up to 106 bytes it is version 5, which fits 24 lines.
const MaxSymbol = 271

// quietZone is the breadth of the quiet zone in modules (ISO/IEC 18004:2015, 5.3.8).
const quietZone = 4

// A Ground is what a terminal shows where nothing is written.
type Ground uint8

// The grounds. A QR code with dark and light exchanged is one that many cameras do not read.
const (
	Dark  Ground = iota + 1 // light characters on a dark ground, as on most serial terminals
	Paper                   // dark characters on a light ground
)

// Symbol draws a QR code (ISO/IEC 18004) of text with its quiet zone: a character is one module wide and two high, each line ends in a
// line feed. It refuses what is empty or over MaxSymbol.
func Symbol(text string, g Ground) (string, error) {
	switch {
	case text == "":
		return "", errors.New("there is nothing to make a QR code of")
	case len(text) > MaxSymbol:
		return "", fmt.Errorf("that is %d bytes, and a QR code here holds %d: choose a line of it, as in: status | include \"PCR 11\" | qr", len(text), MaxSymbol)
	}
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return "", fmt.Errorf("make a QR code: %w", err)
	}
	// Drawn is what takes ink: the light modules on a dark ground, the dark ones on paper. Below the last line all is light.
	drawn := func(x, y int) int {
		if code.Black(x, y) == (g == Paper) {
			return 1
		}
		return 0
	}
	var b strings.Builder
	for y := -quietZone; y < code.Size+quietZone; y += 2 {
		for x := -quietZone; x < code.Size+quietZone; x++ {
			b.WriteString([]string{" ", "▀", "▄", "█"}[drawn(x, y)+2*drawn(x, y+1)])
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}
