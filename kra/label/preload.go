package label

import "errors"

// PreloadPath is where a box looks for approvals on its boot partition (ESP). Anybody may have written there: what counts is the
// domain's signature.
const PreloadPath = "EFI/kra/approvals.pem"

// MaxPreload bounds the file at PreloadPath.
const MaxPreload = 1 << 18

// OpenPreload opens a bundle that lay on the boot partition. One for a single box has no place there: it goes in at the box's console.
func OpenPreload(text []byte, d Domain) (Bundle, error) {
	if len(text) > MaxPreload {
		return Bundle{}, errors.New("open preloaded bundle: it is too long")
	}
	if IsSealed(text) {
		return Bundle{}, errors.New("open preloaded bundle: it is for one box")
	}
	b, err := OpenBundle(text, d)
	if err == nil && b.Enrolment != nil {
		err = errors.New("open preloaded bundle: it is for one box")
	}
	return b, err
}
