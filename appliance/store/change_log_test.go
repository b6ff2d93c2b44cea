package store

import (
	"testing"
	"time"
)

// An acknowledgement names records, a root, a person and a time, and never goes back.
func TestExportedRefused(t *testing.T) {
	good := Exported{Size: 7, Root: [32]byte{1}, By: "anna", At: time.Unix(1_800_000_000, 5)}
	b, err := EncodeChange(ExportedSet{good})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseChange(b)
	if err != nil {
		t.Fatal(err)
	}
	st, err := Apply(newState(), c)
	if err != nil || st.Exported().Size != 7 || st.Exported().By != "anna" || st.Exported().At.Nanosecond() != 0 {
		t.Fatalf("%+v, %v", st.Exported(), err)
	}
	for name, change := range map[string]func(*Exported){
		"the same again": func(*Exported) {},
		"less":           func(e *Exported) { e.Size = 6 },
		"nothing":        func(e *Exported) { e.Size = 0 },
		"less than that": func(e *Exported) { e.Size = -1 },
		"no root":        func(e *Exported) { e.Size, e.Root = 8, [32]byte{} },
		"nobody":         func(e *Exported) { e.Size, e.By = 8, "" },
		"at no time":     func(e *Exported) { e.Size, e.At = 8, time.Time{} },
	} {
		e := good
		change(&e)
		if _, err := Apply(st, ExportedSet{e}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	more := good
	more.Size = 8
	if st, err = Apply(st, ExportedSet{more}); err != nil || st.Exported().Size != 8 {
		t.Errorf("more: %+v, %v", st.Exported(), err)
	}
	records, err := st.Records(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if r.Bucket == "exported" {
			t.Error("a backup has it: the new box's log is another")
		}
	}
}
