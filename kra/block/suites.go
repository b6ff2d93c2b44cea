package block

import "crypto"

// SuitesOf returns every suite that wraps to a key of pub's kind, that of our own stanzas first.
func SuitesOf(pub crypto.PublicKey) ([]Suite, error) {
	own, err := SuiteOf(pub)
	if err != nil {
		return nil, err
	}
	all := []Suite{own}
	for s := SuiteP256; s <= suiteLast; s++ {
		if s != own && own.Opens(s) {
			all = append(all, s)
		}
	}
	return all, nil
}
