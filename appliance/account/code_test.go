package account

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// rfcSecret is that of the appendices of RFC 4226 and RFC 6238.
var rfcSecret = []byte("12345678901234567890")

// TestHOTP: RFC 4226 appendix D.
func TestHOTP(t *testing.T) {
	for i, want := range []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"} {
		if got := hotp(rfcSecret, uint64(i)); got != want {
			t.Errorf("hotp(%d) = %s; want %s", i, got, want)
		}
	}
}

// TestTOTP: RFC 6238 appendix B, the last six of the eight digits there.
func TestTOTP(t *testing.T) {
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		now := time.Unix(at, 0)
		if got := CodeAt(rfcSecret, now); got != want {
			t.Errorf("CodeAt(%d) = %s; want %s", at, got, want)
		}
		if step, ok := CheckCode(rfcSecret, 0, now, want); !ok || step != uint64(at)/30 {
			t.Errorf("CheckCode(%d, %s) = %d, %v", at, want, step, ok)
		}
	}
}

// TestCheckCode: a code counts in its step and one to either side, and not once its step is over for good.
func TestCheckCode(t *testing.T) {
	now := time.Unix(2000000000, 0)
	present := uint64(now.Unix()) / 30
	code := CodeAt(rfcSecret, now)
	for off := -4; off <= 4; off++ {
		at := now.Add(time.Duration(off) * Step)
		step, ok := CheckCode(rfcSecret, 0, at, code)
		if near := off >= -1 && off <= 1; ok != near || near && step != present || !near && step != 0 {
			t.Errorf("%d steps off: %d, %v", off, step, ok)
		}
	}
	for last, want := range map[uint64]bool{present - 1: true, present: false, present + 1: false, present + 100: false} {
		if _, ok := CheckCode(rfcSecret, last, now, code); ok != want {
			t.Errorf("step %d was the last, and that of step %d counts: %v", last, present, ok)
		}
	}
	for _, typed := range []string{code[:3] + " " + code[3:], " " + code + " ", code[:3] + "-" + code[3:]} {
		if _, ok := CheckCode(rfcSecret, 0, now, typed); !ok {
			t.Errorf("%q does not count", typed)
		}
	}
	for _, typed := range []string{"", "0", code[:5], code + "0", "0" + code, strings.Repeat("0", 1000), code + strings.Repeat(" ", 100), "27903x"} {
		if _, ok := CheckCode(rfcSecret, 0, now, typed); ok {
			t.Errorf("%q counts", typed)
		}
	}
	for _, at := range []time.Time{{}, time.Unix(-1, 0), time.Unix(0, 0), time.Unix(29, 0)} {
		if _, ok := CheckCode(rfcSecret, 0, at, "755224"); ok {
			t.Errorf("a code counts at %s", at)
		}
	}
	if _, ok := CheckCode(NewSecret(), 0, now, code); ok {
		t.Error("a code counts for another secret")
	}
}

// TestRecovery: the codes are all different, count in any case and grouping, and only for their secret.
func TestRecovery(t *testing.T) {
	codes, hashes := NewRecovery(rfcSecret)
	if len(codes) != RecoveryCodes || len(hashes) != RecoveryCodes || len(slices.Compact(slices.Sorted(slices.Values(hashes)))) != RecoveryCodes {
		t.Fatalf("%d codes, hashes %q", len(codes), hashes)
	}
	for i, c := range codes {
		if strings.Contains(fmt.Sprint(hashes), strings.ReplaceAll(c, " ", "")) || len(c) != 14 {
			t.Errorf("recovery code %q of hashes %q", c, hashes)
		}
		for _, typed := range []string{c, strings.ToLower(c), strings.ReplaceAll(c, " ", ""), strings.ReplaceAll(c, " ", "-")} {
			if hash, ok := CheckRecovery(rfcSecret, hashes, typed); !ok || hash != hashes[i] {
				t.Errorf("%q: %s, %v", typed, hash, ok)
			}
		}
		if _, ok := CheckRecovery(rfcSecret, slices.Delete(slices.Clone(hashes), i, i+1), c); ok {
			t.Error("a code counts whose hash is gone")
		}
		if _, ok := CheckRecovery(NewSecret(), hashes, c); ok {
			t.Error("a code counts for another secret")
		}
	}
	for _, typed := range []string{"", codes[0][:13], codes[0] + "A", hashes[0]} {
		if _, ok := CheckRecovery(rfcSecret, hashes, typed); ok {
			t.Errorf("%q counts", typed)
		}
	}
}

func TestSecretText(t *testing.T) {
	if got, want := Grouped(SecretText(rfcSecret)), "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ"; got != want {
		t.Errorf("the secret is written %q; want %q", got, want)
	}
	if a, b := NewSecret(), NewSecret(); len(a) != SecretSize || slices.Equal(a, b) {
		t.Errorf("secrets %x and %x", a, b)
	}
}
