// Package noise holds what a random generator gives to the health tests of SP 800-90B section 4.4. They find a generator that is stuck
// or badly bent; that the rest cannot be guessed they do not show.
package noise

import (
	"errors"
	"fmt"
)

// Cutoffs for bytes that are to have all of their 8 bits of entropy. A generator that is well fails each of them with a probability
// below 2^-40 for one byte, or one window.
const (
	repeats    = 6   // repetition count test, section 4.4.1: so many equal bytes in a row
	window     = 512 // adaptive proportion test, section 4.4.2: in so many bytes
	proportion = 20  // so many like the first
)

// Size is how many bytes are tested at a time.
const Size = 2 * window

// ErrUnfit is a generator that failed a health test.
var ErrUnfit = errors.New("random generator is unfit")

var (
	errStuck = fmt.Errorf("%w: %d equal bytes in a row (SP 800-90B section 4.4.1)", ErrUnfit, repeats)
	errBent  = fmt.Errorf("%w: of %d bytes %d are equal (SP 800-90B section 4.4.2)", ErrUnfit, window, proportion)
)

// Check draws Size bytes and tests them. A generator that fails is not to be used: the error is an ErrUnfit. Others are read's.
func Check(read func([]byte) error) error {
	b := make([]byte, Size)
	if err := read(b); err != nil {
		return fmt.Errorf("draw random bytes: %w", err)
	}
	return errors.Join(repetition(b), adaptive(b[:window]), adaptive(b[window:]))
}

func repetition(b []byte) error {
	run := 0
	for i := range b {
		if i > 0 && b[i] != b[i-1] {
			run = 0
		}
		if run++; run >= repeats {
			return errStuck
		}
	}
	return nil
}

func adaptive(b []byte) error {
	same := 0
	for _, x := range b {
		if x == b[0] {
			same++
		}
	}
	if same >= proportion {
		return errBent
	}
	return nil
}
