// Package cms reads and writes CMS EnvelopedData and AuthEnvelopedData, RFC 5652 and RFC 5083, as a container of encrypted content: its head for the agent, its content as a stream.
package cms

import (
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"github.com/keyrelease/krabox/kra/block"
)

// Limits. A parser refuses what is larger before it allocates for it.
const (
	MaxHead       = block.MaxHeader // bytes of a head, in its one form
	MaxRecipients = 1024            // encrypted keys of all recipients in one head
	MaxTail       = 64 << 10        // bytes of what follows the content: attributes and the MAC
)

// The advice that errors end in: what stock OpenSSL is to be told.
const (
	adviceRSA    = "encrypt with: openssl cms -encrypt ... -recip CERT -keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256"
	adviceEC     = "encrypt with: openssl cms -encrypt ... -recip CERT -keyopt ecdh_kdf_md:sha256 -aes256-wrap"
	adviceCipher = "encrypt with: openssl cms -encrypt -aes-256-gcm ..."
)

// Object identifiers, in DER with their tag.
var (
	oidEnveloped     = oid(1, 2, 840, 113549, 1, 7, 3)
	oidAuthEnveloped = oid(1, 2, 840, 113549, 1, 9, 16, 1, 23)
	oidData          = oid(1, 2, 840, 113549, 1, 7, 1)

	oidRSA    = oid(1, 2, 840, 113549, 1, 1, 1)
	oidOAEP   = oid(1, 2, 840, 113549, 1, 1, 7)
	oidMGF1   = oid(1, 2, 840, 113549, 1, 1, 8)
	oidPEmpty = oid(1, 2, 840, 113549, 1, 1, 9)
	oidSHA1   = oid(1, 3, 14, 3, 2, 26)
	oidSHA256 = oid(2, 16, 840, 1, 101, 3, 4, 2, 1)

	oidEC         = oid(1, 2, 840, 10045, 2, 1)
	oidP256       = oid(1, 2, 840, 10045, 3, 1, 7)
	oidP384       = oid(1, 3, 132, 0, 34)
	oidECDHSHA256 = oid(1, 3, 132, 1, 11, 1)
	oidECDHSHA384 = oid(1, 3, 132, 1, 11, 2)
	oidECDHSHA1   = oid(1, 3, 133, 16, 840, 63, 0, 2)
	oidWrap128    = oid(2, 16, 840, 1, 101, 3, 4, 1, 5)
	oidWrap192    = oid(2, 16, 840, 1, 101, 3, 4, 1, 25)
	oidWrap256    = oid(2, 16, 840, 1, 101, 3, 4, 1, 45)
)

var (
	// ErrNotCMS is what ReadHead and ParseHead return for something else than CMS encrypted content.
	ErrNotCMS = errors.New("not CMS EnvelopedData or AuthEnvelopedData")
	// ErrContent is returned where content does not authenticate, or does not decrypt.
	ErrContent = errors.New("content does not decrypt under the key: the message may be corrupted or tampered with")

	errForm     = errors.New("not in the one form of a head")
	errTooLarge = errors.New("head has more bytes than a head may have")
	errTooMany  = errors.New("too many recipients")
)

func oid(arcs ...int) string {
	b, err := asn1.Marshal(asn1.ObjectIdentifier(arcs))
	if err != nil {
		panic("cms: an object identifier of the table has no encoding")
	}
	return string(b)
}

// oidText is an object identifier in digits, for errors.
func oidText(der string) string {
	var id asn1.ObjectIdentifier
	s := cryptobyte.String(der)
	if !s.ReadASN1ObjectIdentifier(&id) {
		return "?"
	}
	return id.String()
}

func malformed(what string) error { return fmt.Errorf("%s is malformed", what) }
