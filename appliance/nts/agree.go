package nts

import (
	"slices"
	"time"
)

// MaxUncertainty is how uncertain a reading may be: wider intervals would agree with everything.
const MaxUncertainty = time.Second

func (r Reading) low() time.Duration  { return r.Offset - r.Uncertainty }
func (r Reading) high() time.Duration { return r.Offset + r.Uncertainty }

func (r Reading) holds(t time.Duration) bool { return r.low() <= t && t <= r.high() }

// With reports whether a reading can be true if what was agreed on is.
func (r Reading) With(agreed Reading) bool {
	return r.low() <= agreed.high() && agreed.low() <= r.high()
}

// Agree returns what more than half of all sources agree on, of which those that answered have the readings: from the first to the last
// moment that more than half of all hold to be possible (Marzullo; RFC 5905 section 11.2.1). If more than half tell the truth, it is in
// there. Sources that do not answer count against agreement.
func Agree(sources int, readings []Reading) (Reading, bool) {
	var low, high []time.Duration
	for _, r := range readings {
		if votes(readings, r.low()) > sources/2 {
			low = append(low, r.low())
		}
		if votes(readings, r.high()) > sources/2 {
			high = append(high, r.high())
		}
	}
	if len(low) == 0 {
		return Reading{}, false
	}
	from, to := slices.Min(low), slices.Max(high)
	agreed := Reading{Offset: from + (to-from)/2, Uncertainty: (to - from) / 2}
	return agreed, agreed.Uncertainty <= MaxUncertainty
}

// votes is how many readings hold t to be possible.
func votes(readings []Reading, t time.Duration) (n int) {
	for _, r := range readings {
		if r.Uncertainty >= 0 && r.Uncertainty <= MaxUncertainty && r.holds(t) {
			n++
		}
	}
	return n
}
