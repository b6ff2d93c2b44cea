// Package inform resolves what is known of a decryptor, and on whose word, into one immutable snapshot before a decision.
package inform
