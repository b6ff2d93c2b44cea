package admin

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/console"
)

// TestJSON: every command that only looks shows one JSON object when it is asked to, whole cells where a terminal has too little room, and
// text that is no field under "text".
func TestJSON(t *testing.T) {
	w := enrolled(t)
	long := "a title that is much too long for the last column of a table on a terminal of eighty columns"
	w.do("access add legal-team \"" + long + "\"")
	w.do("key generate p256 for legal-team")
	object := func(line string) map[string]any {
		t.Helper()
		out := map[string]any{}
		if err := json.Unmarshal([]byte(w.do(line+" | json")), &out); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		return out
	}
	rows, _ := object("access list")["rows"].([]any)
	if len(rows) != 1 || !reflect.DeepEqual(rows[0].(map[string]any)["title"], long) {
		t.Errorf("access list: %v", rows)
	}
	if got := object("rule list"); !reflect.DeepEqual(got, map[string]any{"rows": []any{}}) {
		t.Errorf("rule list, which is empty: %v", got)
	}
	if got := object("status"); got["box"] != "box1" || got["mode"] != "enrolled" {
		t.Errorf("status: %v", got)
	}
	if all, _ := object("system secrets")["secret"].([]any); len(all) < 5 {
		t.Errorf("system secrets: %v", all)
	}
	if got := object("help key list"); !strings.Contains(got["text"].(string), "key list") {
		t.Errorf("help: %v", got)
	}
	for _, form := range console.Forms() {
		line := filled(t, form, func(int) int { return 0 })
		c, _, err := console.Read(line)
		if err != nil {
			t.Fatal(err)
		}
		if c.Ask() != console.AskNothing || strings.HasPrefix(form, "logout") || slices.Contains([]string{"reboot", "poweroff"}, form) {
			continue
		}
		if out, o := w.try(line + " | json"); o.Ask == nil && o.Error == "" && !json.Valid([]byte(out)) {
			t.Errorf("%s shows no JSON: %q", line, out)
		}
	}
}
