// Package kra holds the words that a decryptor and a key release agent exchange: who asks, for what, and what is answered.
//
// PROTOCOL.md describes the exchange and openapi.yaml the port. Everything that comes from outside is parsed once, here,
// into a closed value; nothing behind the door checks it again.
package kra

// Paths of the release port.
const (
	PathRelease = "/v1/release"
	PathKeys    = "/v1/keys"
	PathStatus  = "/v1/status"
	PathGroups  = "/v1/groups"
	PathWhoAmI  = "/v1/whoami"

	PathChallenge = "/v1/challenge"
	PathPlatform  = "/v1/platform"
)

// ContentType is the only media type that the port speaks.
const ContentType = "application/json"

// Limits of one exchange. A block's own limits (size of a header, wraps in a header) are those of package block.
const (
	MaxHeaders      = 64       // headers in one request
	MaxCertificates = 8        // certificates in one request
	MaxAttributes   = 8        // attribute certificates in one request
	MaxTokens       = 4        // tokens in one request
	MaxCertificate  = 16 << 10 // bytes of a certificate or attribute certificate
	MaxToken        = 16 << 10 // bytes of a token
	MaxBody         = 1 << 20  // bytes of a request
	MaxResponse     = 4 << 20  // bytes of an answer
	MaxName         = 1024     // bytes of a decryptor's name, as text

	maxSignature = 1024        // bytes of a signature over a delivery key
	maxJSONText  = MaxName * 6 // bytes of a JSON string other than a header: every byte may be escaped
)
