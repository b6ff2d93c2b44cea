package client

import (
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra/block"
)

// Encrypt starts an encryption block to all of to, key-release keys and ordinary age
// recipients in any mixture. What is written to the result is encrypted to dst, a
// chunk at a time; Close ends the block, and a block that was not closed is not one.
// A key that is named twice is used once.
func Encrypt(dst io.Writer, to ...age.Recipient) (io.WriteCloser, error) {
	var kept []age.Recipient
	seen := map[block.KeyID]bool{}
	for _, r := range to {
		if k, ok := r.(block.Recipient); ok {
			if seen[k.KeyID()] {
				continue
			}
			seen[k.KeyID()] = true
		}
		kept = append(kept, r)
	}
	if len(kept) == 0 {
		return nil, errors.New("encrypt: nobody to encrypt to")
	}
	if len(seen) > block.MaxWraps {
		return nil, fmt.Errorf("encrypt: %d key-release keys, at most %d fit a block", len(seen), block.MaxWraps)
	}
	w, err := age.Encrypt(dst, kept...)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return w, nil
}
