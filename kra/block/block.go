// Package block is the encryption block: an age v1 file whose header may carry kra stanzas, each the file key wrapped to one key-release key, and what other envelopes have in common with it.
package block

// Limits of the format. A parser refuses what is larger before it allocates for it.
const (
	MaxHeader    = 64 << 10 // bytes of a header that an agent looks at
	MaxWraps     = 64       // wraps of known suites in one header
	MaxStanzas   = 1024     // stanzas of all types in one header
	MaxArguments = 32       // words of one stanza's first line, its type included

	FileKeySize = 16 // bytes of an age file key
	MaxKeySize  = 64 // bytes of a message key of any format: A256CBC-HS512's
)

// aesSize reports whether n bytes can be an AES key.
func aesSize(n int) bool { return n == 16 || n == 24 || n == 32 }

// keySize reports whether n bytes can be a message key: an AES key, or that and a MAC key of its size (RFC 7518 section 5.2).
func keySize(n int) bool { return aesSize(n) || n == 48 || n == MaxKeySize }

// StanzaType is the first word of our stanzas.
const StanzaType = "kra"

// contextWrap separates our wraps from every other use of a key-release key. It is
// followed by a zero byte and the key id: see Info.
const contextWrap = "kra/block/v1"

// Info is what binds a wrap to its purpose and to one key: HPKE's info, and the
// label of RSA-OAEP.
func Info(id KeyID) []byte {
	b := make([]byte, 0, len(contextWrap)+1+len(id))
	b = append(b, contextWrap...)
	b = append(b, 0)
	return append(b, id[:]...)
}
