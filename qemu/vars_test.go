package qemu

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyrelease/krabox/image"
)

// putVariable appends a variable to a store, as firmware does.
func putVariable(t *testing.T, s *store, name string, data []byte) {
	t.Helper()
	free, err := s.each(func(variable) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.put(free, newHeader(globalVendor, varNonVolatile|varBoot|varRuntime), name, data); err != nil {
		t.Fatal(err)
	}
}

func loadOption(attributes uint32, description string, path, optional []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, attributes)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(path)))
	b = append(b, wide(description+"\x00")...)
	return append(append(b, path...), optional...)
}

func TestSetLoadOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "vars.fd")
	if err := image.CopyFile(file, firmwareVars); err != nil {
		t.Fatal(err)
	}
	if err := SetLoadOptions(file, "quiet"); err == nil {
		t.Error("set the options of a box that was never started")
	}
	flash, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openStore(flash)
	if err != nil {
		t.Fatal(err)
	}
	const application = 0x100 // a category that is not started in order
	path := []byte("device path.")
	putVariable(t, s, "BootOrder", []byte{0, 0, 3, 0, 1, 0})
	putVariable(t, s, "Boot0000", loadOption(optionActive|application, "Setup", path, nil))
	putVariable(t, s, "Boot0003", loadOption(0, "Inactive", path, nil))
	putVariable(t, s, "Boot0001", loadOption(optionActive, "Disk", path, []byte("sixteen byte tag")))
	if err := os.WriteFile(file, flash, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, options := range []string{"lockdown=none", "", "init=/bin/sh console=ttyS0"} {
		if err := SetLoadOptions(file, options); err != nil {
			t.Fatal(err)
		}
		if flash, err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		if s, err = openStore(flash); err != nil {
			t.Fatal(err)
		}
		got, err := s.find("Boot0001")
		if err != nil {
			t.Fatal(err)
		}
		if want := loadOption(optionActive, "Disk", path, wide(options+"\x00")); !bytes.Equal(got.data, want) {
			t.Errorf("option is %q, want %q", got.data, want)
		}
	}
	if _, err := s.find("Boot0002"); err == nil {
		t.Error("found a variable that is not there")
	}
}

func TestSetLoadOptionsRefuses(t *testing.T) {
	for name, flash := range map[string][]byte{"empty": {}, "zeroes": make([]byte, 4096), "no volume": bytes.Repeat([]byte{0xff}, 4096)} {
		file := filepath.Join(t.TempDir(), "vars.fd")
		if err := os.WriteFile(file, flash, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := SetLoadOptions(file, "x"); err == nil {
			t.Errorf("%s: done", name)
		}
	}
}
