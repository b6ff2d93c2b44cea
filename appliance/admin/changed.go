package admin

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/appliance/store"
)

// unshown are the parts of records that nobody is shown.
var unshown = []string{"hash", "password", "value", "user", "so", "pin", "secret", "secrets", "sealed", "pasted", "codes"}

// maxShown is how long a part of a record may be to be shown as it is and not by its digest.
const maxShown = 72

// changeLines say of each record that would change what it is before and after, part by part.
func changeLines(all []store.Changed) (lines []string) {
	for _, c := range all {
		name := strings.TrimSpace(c.Bucket + " " + c.Key)
		switch {
		case c.Bucket == "file":
			lines = append(lines, "change a file of the token: "+c.Key)
		case c.Before == nil:
			lines = append(lines, "make "+name+": "+parts(nil, c.After))
		case c.After == nil:
			lines = append(lines, "remove "+name+": "+parts(nil, c.Before))
		default:
			lines = append(lines, "change "+name+": "+parts(c.Before, c.After))
		}
	}
	return lines
}

// parts lists the parts of a record, or those that differ from what it was.
func parts(before, after []byte) string {
	was, is := map[string]any{}, map[string]any{}
	if json.Unmarshal(after, &is) != nil || before != nil && json.Unmarshal(before, &was) != nil {
		return "(not shown)" // no record of this store is like that
	}
	both := maps.Clone(was)
	maps.Copy(both, is)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(both)) {
		a, b := shown(k, was[k]), shown(k, is[k])
		switch {
		case before == nil:
			out = append(out, k+" "+b)
		case a != b || slices.Contains(unshown, k) && !same(was[k], is[k]):
			out = append(out, k+" "+a+" -> "+b)
		}
	}
	return strings.Join(out, ", ")
}

func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// shown is one part of a record: a long one by the SHA-256 of what it is, of bytes the bytes themselves.
func shown(name string, v any) string {
	if v == nil {
		return "nothing"
	}
	if slices.Contains(unshown, name) {
		return "(hidden)"
	}
	switch v := v.(type) {
	case map[string]any:
		var out []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out = append(out, k+" "+shown(k, v[k]))
		}
		return "{" + strings.Join(out, ", ") + "}"
	case []any:
		var out []string
		for _, x := range v {
			out = append(out, shown(name, x))
		}
		return "[" + strings.Join(out, ", ") + "]"
	case string:
		if len(v) <= maxShown {
			return v
		}
		b := []byte(v)
		if der, err := base64.StdEncoding.DecodeString(v); err == nil {
			b = der
		}
		return fmt.Sprintf("SHA-256 %x", sha256.Sum256(b))
	}
	return fmt.Sprint(v)
}
