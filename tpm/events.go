package tpm

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// Events reads the log that the firmware and the boot loader left, and holds what it adds up to against the registers. A log that is not
// there or cannot be read is a Refused.
func (a *Agent) Events(ctx context.Context) (wire.Events, error) {
	leave, err := a.enter(ctx)
	if err != nil {
		return wire.Events{}, err
	}
	defer leave()
	log, err := a.cfg.EventLog()
	switch {
	case err != nil:
		return wire.Events{}, wire.Refused{Reason: "the event log cannot be read: " + err.Error()}
	case len(log) == 0:
		return wire.Events{}, wire.Refused{Reason: "there is no event log: this machine's firmware left none, or the kernel does not show it"}
	}
	found, err := a.device.readPCRs()
	if err != nil {
		return wire.Events{}, err
	}
	return events(log, found)
}

// events reads a log, beside the registers that there are now.
func events(log []byte, found label.PCRs) (wire.Events, error) {
	out := wire.Events{}
	sum, err := replay(log, func(e event) {
		if out.Count++; out.Count <= wire.MaxEvents {
			out.Events = append(out.Events, e.shown())
		}
	})
	if err != nil {
		return wire.Events{}, wire.Refused{Reason: "the event log is none that can be trusted to say anything: " + err.Error()}
	}
	for i := 0; i <= label.MaxPCR; i++ {
		if sum[i] != found[i] {
			out.Differs = append(out.Differs, wire.Difference{PCR: i, Log: sum[i], TPM: found[i], After: after(i, sum[i], found[i])})
		}
	}
	return out, nil
}

// imaPCR is the register of the kernel's integrity measurement (IMA): it extends its boot aggregate, and logs that elsewhere.
const imaPCR = 10

// after says who extended a register after the log, of those who do so in each boot; "" where nobody should have.
func after(pcr int, from, to label.Digest) string {
	switch pcr {
	case imaPCR:
		return "the kernel (IMA), which keeps a log of its own"
	case label.StagePCR:
		if stage := stageOf(to); from == (label.Digest{}) && stage != stageUnknown && stage != stageNone {
			return "this box, to stage " + stage
		}
	}
	return ""
}

// Types of events (TCG PC Client Platform Firmware Profile 1.06, section 10.4.1).
const evEFI = 0x80000000

var eventTypes = map[uint32]string{
	0: "EV_PREBOOT_CERT", 1: "EV_POST_CODE", 2: "EV_UNUSED", evNoAction: "EV_NO_ACTION", 4: "EV_SEPARATOR", 5: "EV_ACTION", 6: "EV_EVENT_TAG",
	7: "EV_S_CRTM_CONTENTS", 8: "EV_S_CRTM_VERSION", 9: "EV_CPU_MICROCODE", 10: "EV_PLATFORM_CONFIG_FLAGS", 11: "EV_TABLE_OF_DEVICES",
	12: "EV_COMPACT_HASH", 13: "EV_IPL", 14: "EV_IPL_PARTITION_DATA", 15: "EV_NONHOST_CODE", 16: "EV_NONHOST_CONFIG", 17: "EV_NONHOST_INFO",
	18: "EV_OMIT_BOOT_DEVICE_EVENTS", 19: "EV_POST_CODE2",
	evEFI + 1: "EV_EFI_VARIABLE_DRIVER_CONFIG", evEFI + 2: "EV_EFI_VARIABLE_BOOT", evEFI + 3: "EV_EFI_BOOT_SERVICES_APPLICATION",
	evEFI + 4: "EV_EFI_BOOT_SERVICES_DRIVER", evEFI + 5: "EV_EFI_RUNTIME_SERVICES_DRIVER", evEFI + 6: "EV_EFI_GPT_EVENT", evEFI + 7: "EV_EFI_ACTION",
	evEFI + 8: "EV_EFI_PLATFORM_FIRMWARE_BLOB", evEFI + 9: "EV_EFI_HANDOFF_TABLES", evEFI + 10: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
	evEFI + 11: "EV_EFI_HANDOFF_TABLES2", evEFI + 12: "EV_EFI_VARIABLE_BOOT2", evEFI + 13: "EV_EFI_GPT_EVENT2", evEFI + 16: "EV_EFI_HCRTM_EVENT",
	evEFI + 0xe0: "EV_EFI_VARIABLE_AUTHORITY", evEFI + 0xe1: "EV_EFI_SPDM_FIRMWARE_BLOB", evEFI + 0xe2: "EV_EFI_SPDM_FIRMWARE_CONFIG",
	evEFI + 0xe3: "EV_EFI_SPDM_DEVICE_POLICY", evEFI + 0xe4: "EV_EFI_SPDM_DEVICE_AUTHORITY",
}

func (e event) shown() wire.Event {
	name, ok := eventTypes[e.typ]
	if !ok {
		name = fmt.Sprintf("%#x", e.typ)
	}
	x := wire.Event{PCR: e.pcr, Type: name, Text: e.text()}
	if e.typ != evNoAction {
		x.Digest = hex.EncodeToString(e.digest)
	}
	return x
}

// text is what of an event's data somebody can read.
func (e event) text() string {
	if strings.HasPrefix(eventTypes[e.typ], "EV_EFI_VARIABLE_") {
		if t, err := variable(e.data); err == nil {
			return t
		}
	}
	return readable(e.data)
}

// maxShownValue is the length of the values of variables that are shown, in bytes: on, off, an order of few boots.
const maxShownValue = 16

// variable reads UEFI_VARIABLE_DATA (the same profile, section 10.2.6): GUID 16 | letters 8 | bytes 8 | name, UTF-16 | value.
func variable(data []byte) (string, error) {
	c := cursor{b: data}
	c.take(16)
	letters, high, size, huge := c.u32(), c.u32(), c.u32(), c.u32()
	if c.bad || high != 0 || huge != 0 || letters > wire.MaxEventText {
		return "", errors.New("no variable")
	}
	name, value := c.take(2*letters), c.take(size)
	if c.bad {
		return "", errors.New("no variable")
	}
	units := make([]uint16, letters)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(name[2*i:])
	}
	text := strings.Map(plainOnly, string(utf16.Decode(units)))
	if len(value) > 0 && len(value) <= maxShownValue {
		text += " = " + hex.EncodeToString(value)
	}
	return text[:min(len(text), wire.MaxEventText)], nil
}

func plainOnly(r rune) rune {
	if r < ' ' || r > '~' {
		return '.'
	}
	return r
}

// minRun is how many letters in a row are text: fewer are chance.
const minRun = 4

// readable is the text in data: its runs of printable ASCII, of one byte or in UTF-16, one behind the other.
func readable(data []byte) string {
	var out []byte
	for i := 0; i < len(data) && len(out) < wire.MaxEventText; {
		run, n := asciiRun(data[i:])
		if len(run) < minRun {
			i++
			continue
		}
		if len(out) > 0 {
			out = append(out, ' ')
		}
		out = append(out, run...)
		i += n
	}
	return strings.TrimSpace(string(out[:min(len(out), wire.MaxEventText)]))
}

// asciiRun is the run that data begins with, at most as much as is ever shown, and how many bytes it takes.
func asciiRun(data []byte) (run []byte, n int) {
	width := 1
	if len(data) > 1 && data[1] == 0 {
		width = 2
	}
	for n+width <= len(data) && len(run) < wire.MaxEventText && data[n] >= ' ' && data[n] <= '~' && (width == 1 || data[n+1] == 0) {
		run, n = append(run, data[n]), n+width
	}
	return run, n
}
