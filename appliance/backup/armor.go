package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	armorContext = "kra/backup-line/v1"
	begin        = "-----BEGIN KRA BACKUP-----"
	end          = "-----END KRA BACKUP-----"
	count        = "Lines: "
	armorBytes   = 48 // in one line: 64 letters
	armorCheck   = 3  // behind them: 4 letters

	// MaxArmor bounds a text, in bytes: what a disk takes. A paste takes less.
	MaxArmor = 64 << 20
)

// Armor is a document as the console prints it. Each line has its own checksum, so that what a terminal spoiled is found by line.
func Armor(doc []byte) []byte {
	var b bytes.Buffer
	lines := (len(doc) + armorBytes - 1) / armorBytes
	fmt.Fprintf(&b, "%s\n%s%d\n\n", begin, count, lines)
	for n := range lines {
		part := doc[n*armorBytes : min(len(doc), (n+1)*armorBytes)]
		fmt.Fprintf(&b, "%s %s\n", base64.StdEncoding.EncodeToString(part), lineCheck(n+1, part))
	}
	b.WriteString(end + "\n")
	return b.Bytes()
}

// lineCheck is over a line and its number, so that one that is missing shows.
func lineCheck(n int, part []byte) string {
	h := sha256.Sum256(append(binary.BigEndian.AppendUint32([]byte(armorContext+"\x00"), uint32(n)), part...))
	return base64.StdEncoding.EncodeToString(h[:armorCheck])
}

// Unarmor gives the document of a text, which may have other things around it. The error names the first line that is wrong, from
// 1 behind the empty one.
func Unarmor(text string) ([]byte, error) {
	if len(text) > MaxArmor {
		return nil, fmt.Errorf("%d bytes, and a backup has at most %d", len(text), MaxArmor)
	}
	_, text, ok := strings.Cut(strings.ReplaceAll(text, "\r", ""), begin+"\n")
	text, _, whole := strings.Cut(text, end)
	number, text, head := strings.Cut(text, "\n\n")
	lines, err := strconv.Atoi(strings.TrimPrefix(number, count))
	if !ok || !head || err != nil || number != count+strconv.Itoa(lines) || lines < 1 || lines > MaxArmor/armorBytes {
		return nil, errors.New("that is no backup: it begins with " + begin + " and the number of its lines")
	}
	var doc []byte
	n := 0
	for l := range strings.Lines(text) {
		if n++; n > lines {
			return nil, fmt.Errorf("the backup has %d lines, and there are more", lines)
		}
		part, why := armorLine(n, strings.TrimSpace(l))
		if why != "" {
			return nil, fmt.Errorf("line %d of the backup's %d %s", n, lines, why)
		}
		if n < lines && len(part) != armorBytes {
			return nil, fmt.Errorf("line %d of the backup's %d is too short", n, lines)
		}
		doc = append(doc, part...)
	}
	if n < lines || !whole {
		return nil, fmt.Errorf("the backup ends after line %d of %d", n, lines)
	}
	return doc, nil
}

// armorLine reads a line, or says what is wrong with it.
func armorLine(n int, line string) (part []byte, why string) {
	text, check, _ := strings.Cut(line, " ")
	part, err := base64.StdEncoding.Strict().DecodeString(text)
	switch {
	case err != nil || len(part) == 0 || len(part) > armorBytes:
		return nil, "is garbled"
	case check == lineCheck(n, part):
		return part, ""
	case check == lineCheck(n+1, part):
		return nil, "is missing"
	}
	return nil, "is garbled: its checksum does not match"
}
