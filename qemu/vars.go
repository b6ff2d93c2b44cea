package qemu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unicode/utf16"

	"github.com/keyrelease/krabox/image"
)

// SetLoadOptions edits the firmware's variable store of a stopped box: the boot
// option that starts it will pass these load options to the program it starts.
// The box must have been started once, for the firmware to have made its options.
func SetLoadOptions(varsFile, options string) error {
	data, err := os.ReadFile(varsFile)
	if err != nil {
		return fmt.Errorf("set load options: %w", err)
	}
	s, err := openStore(data)
	if err != nil {
		return fmt.Errorf("set load options: %w", err)
	}
	name, option, err := s.bootOption()
	if err != nil {
		return fmt.Errorf("set load options: %w", err)
	}
	head, err := splitOption(option)
	if err != nil {
		return fmt.Errorf("set load options: %w", err)
	}
	if err := s.replace(name, append(head, wide(options+"\x00")...)); err != nil {
		return fmt.Errorf("set load options: %w", err)
	}
	if err := os.WriteFile(varsFile, data, 0o600); err != nil {
		return fmt.Errorf("set load options: %w", err)
	}
	return nil
}

// Attributes of variables (UEFI 2.10, 8.2.1).
const (
	varNonVolatile   = 0x01
	varBoot          = 0x02
	varRuntime       = 0x04
	varAuthenticated = 0x20 // by time: changed only under a signature of the key above
)

// Variables by which OVMF remembers that Secure Boot is on (EDK2 SecurityPkg, AuthenticatedVariableFormat.h).
var (
	enableVendor = [16]byte{0xc7, 0x0b, 0xa3, 0xf0, 0x08, 0xaf, 0x56, 0x45, 0x99, 0xc4, 0x00, 0x10, 0x09, 0xc9, 0x3a, 0x44}
	customVendor = [16]byte{0x0c, 0xec, 0x76, 0xc0, 0x28, 0x70, 0x99, 0x43, 0xa0, 0x72, 0x71, 0xee, 0x5c, 0x44, 0x8b, 0x9f}
)

// enrolKeys puts a domain's Secure Boot keys into the empty variable store of a new box and switches Secure Boot on, as somebody would in
// a machine's set-up program. From then on the firmware wants a signature for any change.
func enrolKeys(varsFile string, keys image.SecureBoot) error {
	flash, err := os.ReadFile(varsFile)
	if err != nil {
		return fmt.Errorf("enrol Secure Boot keys: %w", err)
	}
	s, err := openStore(flash)
	if err != nil {
		return fmt.Errorf("enrol Secure Boot keys: %w", err)
	}
	add := func(name string, vendor [16]byte, attributes uint32, data []byte) error {
		free, err := s.each(func(variable) bool { return true })
		if err != nil || data == nil {
			return err
		}
		return s.put(free, newHeader(vendor, attributes), name, data)
	}
	err = errors.Join(add("SecureBootEnable", enableVendor, varNonVolatile|varBoot, []byte{1}), add("CustomMode", customVendor, varNonVolatile|varBoot, []byte{0}))
	for _, v := range keys.Variables() {
		err = errors.Join(err, add(v.Name, v.Vendor, varNonVolatile|varBoot|varRuntime|varAuthenticated, v.Data))
	}
	if err == nil {
		err = os.WriteFile(varsFile, flash, 0o600)
	}
	if err != nil {
		return fmt.Errorf("enrol Secure Boot keys: %w", err)
	}
	return nil
}

// keysSince is the time of the keys in the store: a later change must be younger. EFI_TIME begins with the year, month and day.
var keysSince = [4]byte{2025 & 0xff, 2025 >> 8, 1, 1}

func newHeader(vendor [16]byte, attributes uint32) []byte {
	h := make([]byte, headerSize)
	binary.LittleEndian.PutUint16(h, variableStart)
	h[2] = stateAdded
	binary.LittleEndian.PutUint32(h[4:], attributes)
	if attributes&varAuthenticated != 0 {
		copy(h[16:], keysSince[:])
	}
	copy(h[44:], vendor[:])
	return h
}

// A store is the variable region of a flash image (EDK2 MdeModulePkg,
// VariableFormat.h, AUTHENTICATED_VARIABLE_HEADER):
//
//	volume header | store header | { variable header | name | data | pad to 4 }…  | 0xff…
type store struct {
	flash []byte
	first int // offset of the first variable
	end   int
}

const (
	volumeSignature  = "_FVH" // at offset 40 of the volume header
	storeHeaderSize  = 28
	headerSize       = 60
	variableStart    = 0x55aa
	stateAdded       = 0x3f
	stateDeleted     = 0x3d // added, then deleted
	optionActive     = 1
	optionCategory   = 0x1f00 // zero: started in BootOrder; else only on request
	bootOptionFormat = "Boot%04X"
)

// authenticatedStore is EFI_AUTHENTICATED_VARIABLE_GUID, globalVendor EFI_GLOBAL_VARIABLE.
var (
	authenticatedStore = [16]byte{0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92}
	globalVendor       = [16]byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
)

func openStore(flash []byte) (*store, error) {
	if len(flash) < 64 || string(flash[40:44]) != volumeSignature {
		return nil, errors.New("no firmware volume")
	}
	header := int(binary.LittleEndian.Uint16(flash[48:]))
	if header+storeHeaderSize > len(flash) || !bytes.Equal(flash[header:header+16], authenticatedStore[:]) {
		return nil, errors.New("no authenticated variable store")
	}
	s := &store{flash: flash, first: align4(header + storeHeaderSize), end: header + int(binary.LittleEndian.Uint32(flash[header+16:]))}
	if s.end > len(flash) {
		return nil, errors.New("variable store is cut short")
	}
	return s, nil
}

// A variable is a view of the flash image.
type variable struct {
	at     int // offset of its header
	header []byte
	name   string
	data   []byte
}

// each calls f for every variable until it returns false, and returns where free space begins.
func (s *store) each(f func(variable) bool) (int, error) {
	at := s.first
	for at+headerSize <= s.end && binary.LittleEndian.Uint16(s.flash[at:]) == variableStart {
		h := s.flash[at : at+headerSize]
		nameSize, dataSize := int(binary.LittleEndian.Uint32(h[36:])), int(binary.LittleEndian.Uint32(h[40:]))
		next := at + headerSize + nameSize + dataSize
		if nameSize < 0 || dataSize < 0 || next > s.end {
			return 0, errors.New("broken variable store")
		}
		name := s.flash[at+headerSize : at+headerSize+nameSize]
		if !f(variable{at, h, narrow(name), s.flash[at+headerSize+nameSize : next]}) {
			return at, nil
		}
		at = align4(next)
	}
	return at, nil
}

// find returns the living global variable of that name.
func (s *store) find(name string) (variable, error) {
	var found *variable
	_, err := s.each(func(v variable) bool {
		if v.header[2] == stateAdded && v.name == name && bytes.Equal(v.header[44:60], globalVendor[:]) {
			found = &v
		}
		return found == nil
	})
	if err == nil && found == nil {
		err = fmt.Errorf("no variable %s; was the box ever started?", name)
	}
	if err != nil {
		return variable{}, err
	}
	return *found, nil
}

// replace marks the old value deleted and appends the new one, as the firmware would.
func (s *store) replace(name string, data []byte) error {
	old, err := s.find(name)
	if err != nil {
		return err
	}
	free, err := s.each(func(variable) bool { return true })
	if err != nil {
		return err
	}
	header := bytes.Clone(old.header)
	if err := s.put(free, header, name, data); err != nil {
		return err
	}
	old.header[2] = stateDeleted
	return nil
}

// put writes a variable into free space.
func (s *store) put(free int, header []byte, name string, data []byte) error {
	full := wide(name + "\x00")
	binary.LittleEndian.PutUint32(header[36:], uint32(len(full)))
	binary.LittleEndian.PutUint32(header[40:], uint32(len(data)))
	record := append(append(header, full...), data...)
	if free+len(record) > s.end {
		return errors.New("variable store is full")
	}
	copy(s.flash[free:], record)
	return nil
}

// bootOption returns the first option that the firmware starts by itself.
func (s *store) bootOption() (string, []byte, error) {
	order, err := s.find("BootOrder")
	if err != nil {
		return "", nil, err
	}
	for list := order.data; len(list) >= 2; list = list[2:] {
		name := fmt.Sprintf(bootOptionFormat, binary.LittleEndian.Uint16(list))
		v, err := s.find(name)
		if err != nil {
			return "", nil, err
		}
		if len(v.data) >= 6 {
			if a := binary.LittleEndian.Uint32(v.data); a&optionActive != 0 && a&optionCategory == 0 {
				return name, v.data, nil
			}
		}
	}
	return "", nil, errors.New("no active boot option")
}

// splitOption returns an EFI_LOAD_OPTION without its optional data:
//
//	uint32 attributes | uint16 path length | description, UTF-16 with NUL | path | optional data
func splitOption(option []byte) ([]byte, error) {
	path := int(binary.LittleEndian.Uint16(option[4:]))
	for at := 6; at+2 <= len(option); at += 2 {
		if option[at] == 0 && option[at+1] == 0 {
			if at+2+path > len(option) {
				break
			}
			return bytes.Clone(option[:at+2+path]), nil
		}
	}
	return nil, errors.New("broken boot option")
}

func wide(s string) []byte {
	var out []byte
	for _, c := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, c)
	}
	return out
}

func narrow(b []byte) string {
	var chars []uint16
	for ; len(b) >= 2 && (b[0] != 0 || b[1] != 0); b = b[2:] {
		chars = append(chars, binary.LittleEndian.Uint16(b))
	}
	return string(utf16.Decode(chars))
}

func align4(n int) int { return (n + 3) &^ 3 }
