package kra

import "github.com/keyrelease/krabox/kra/block"

// A MessageKey is the key that an encryption block is encrypted under, in the clear: a block's file key.
type MessageKey = block.FileKey
