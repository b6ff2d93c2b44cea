package manifest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sample() Image {
	return Image{
		Release: Release{
			Version: "v0.1.0", Epoch: 1, Commit: "0eacb1b",
			Domain:   Domain{Name: "example", SHA256: Digest{1}},
			Inputs:   []Input{{Package: "linux-image", Version: "6.1.192-2", SHA256: Digest{2}}},
			Programs: []Program{{Path: "/bin/krad", SHA256: Digest{5}}, {Path: "/init", SHA256: Digest{6}}},
		},
		CommandLine: "console=ttyS0,115200 quiet",
		Files:       map[string]File{"kra.efi": {Size: 12, SHA256: Digest{3}}, "kra.img": {Size: 13, SHA256: Digest{4}}},
		SecureBoot:  SecureBoot{PK: Digest{8}, KEK: Digest{9}, DB: Digest{10}},
		PCR4:        Digest{4}, PCR7: Digest{7}, PCR11: Digest{11},
	}
}

func TestImageHasOneEncoding(t *testing.T) {
	want := sample()
	got, err := ParseImage(want.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	release, err := ParseRelease(want.Release.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want.Release, release); d != "" {
		t.Error(d)
	}
}

func TestParseImageRefuses(t *testing.T) {
	good := sample().Bytes()
	for name, bad := range map[string][]byte{
		"empty":           nil,
		"trailing":        append(bytes.Clone(good), '\n'),
		"second value":    append(bytes.Clone(good), "{}"...),
		"unknown field":   bytes.Replace(good, []byte("{"), []byte(`{"x":1,`), 1),
		"repeated field":  bytes.Replace(good, []byte("{"), []byte(`{"epoch":1,`), 1),
		"other case":      bytes.Replace(good, []byte(`"epoch"`), []byte(`"Epoch"`), 1),
		"upper-case hex":  bytes.Replace(good, []byte(`"0b0000`), []byte(`"0B0000`), 1),
		"short digest":    bytes.Replace(good, []byte(`"0b00`), []byte(`"0b`), 1),
		"epoch zero":      bytes.Replace(good, []byte(`"epoch": 1`), []byte(`"epoch": 0`), 1),
		"version missing": bytes.Replace(good, []byte(`"v0.1.0"`), []byte(`""`), 1),
		"commit escapes":  bytes.Replace(good, []byte(`"0eacb1b"`), []byte(`"a\u001bb"`), 1),
		"program's path":  bytes.Replace(good, []byte(`"/bin/krad"`), []byte(`"/bin/../krad"`), 1),
		"relative path":   bytes.Replace(good, []byte(`"/bin/krad"`), []byte(`"bin/krad"`), 1),
		"program twice":   bytes.Replace(good, []byte(`"/bin/krad"`), []byte(`"/init"`), 1),
		"order":           bytes.Replace(good, []byte(`"/bin/krad"`), []byte(`"/kernel"`), 1),
		"no programs":     bytes.Replace(good, good[bytes.Index(good, []byte(`"programs": [`)):bytes.Index(good, []byte(`"cmdline"`))], []byte("\"programs\": null,\n  "), 1),
		"too long":        append(bytes.Clone(good), bytes.Repeat([]byte(" "), MaxSize)...),
	} {
		t.Run(name, func(t *testing.T) {
			if bytes.Equal(bad, good) {
				t.Fatal("the case changes nothing")
			}
			if _, err := ParseImage(bad); err == nil {
				t.Error("accepted")
			}
		})
	}
}

func FuzzParseImage(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzParseImage/*")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	if _, err := os.Stat(seeds[0]); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := ParseImage(data)
		if err == nil && !bytes.Equal(i.Bytes(), data) {
			t.Errorf("accepted a second encoding: %q", data)
		}
	})
}
