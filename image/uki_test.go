package image

import (
	"bytes"
	"debug/pe"
	"testing"
)

func TestUKIKeepsSections(t *testing.T) {
	uki := testUKI(t, "an initramfs of odd length")
	sections, err := ReadUKI(uki)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(sectionNamed(sections, sectionInitrd)); got != "an initramfs of odd length" {
		t.Errorf("initramfs: %q", got)
	}
	f, err := pe.NewFile(bytes.NewReader(uki))
	if err != nil {
		t.Fatal(err)
	}
	end, fileEnd := uint32(0), uint32(0)
	for _, s := range f.Sections {
		if s.VirtualAddress < end || s.Offset < fileEnd {
			t.Errorf("section %s overlaps the one before it", s.Name)
		}
		end, fileEnd = s.VirtualAddress+s.VirtualSize, s.Offset+s.Size
	}
	if f.OptionalHeader.(*pe.OptionalHeader64).SizeOfImage < end {
		t.Error("image is smaller than its sections")
	}
}

// TestPredictionSeesEveryByte changes single bytes of each part: the registers that the design relies on must move.
func TestPredictionSeesEveryByte(t *testing.T) {
	uki := testUKI(t, "initramfs")
	pcr4, pcr11 := predict(t, uki)
	for _, name := range []string{sectionRelease, sectionCmdline, sectionLinux, sectionInitrd} {
		f, err := pe.NewFile(bytes.NewReader(uki))
		if err != nil {
			t.Fatal(err)
		}
		changed := bytes.Clone(uki)
		last := f.Section(name)
		changed[last.Offset+last.VirtualSize-1] ^= 1
		new4, new11 := predict(t, changed)
		if new4 == pcr4 || new11 == pcr11 {
			t.Errorf("a byte of %s changed: PCR 4 moved %v, PCR 11 moved %v", name, new4 != pcr4, new11 != pcr11)
		}
	}
}

func predict(t *testing.T, uki []byte) (pcr4, pcr11 [32]byte) {
	t.Helper()
	a, err := SecureBoot{}.PCR4(uki)
	if err != nil {
		t.Fatal(err)
	}
	b, err := PredictPCR11(uki)
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func TestBuildUKIRefuses(t *testing.T) {
	stub := read(t, debianStub)
	for name, c := range map[string]struct {
		stub []byte
		add  []Section
	}{
		"no stub":        {nil, nil},
		"no PE":          {bytes.Repeat([]byte("x"), 4096), nil},
		"section twice":  {stub, []Section{{".linux", []byte("a")}, {".linux", []byte("b")}}},
		"stub's section": {stub, []Section{{".text", []byte("a")}}},
		"long name":      {stub, []Section{{".linux-kernel", []byte("a")}}},
		"no name":        {stub, []Section{{"", []byte("a")}}},
		"too many":       {stub, make([]Section, maxPESections)},
	} {
		if _, err := BuildUKI(c.stub, c.add); err == nil {
			t.Errorf("%s: built", name)
		}
	}
}

func TestAuthenticodeRefusesDamage(t *testing.T) {
	uki := testUKI(t, "initramfs")
	for _, cut := range []int{0, 1, 63, 200, len(uki) / 2} {
		if _, err := Authenticode(uki[:cut]); err == nil {
			t.Errorf("hashed %d bytes of %d", cut, len(uki))
		}
	}
}
