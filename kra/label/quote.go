package label

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
)

// Values of TPM 2.0 part 2 that a quote contains.
const (
	tpmGenerated = 0xff544347 // TPM_GENERATED_VALUE, 6.2
	attestQuote  = 0x8018     // TPM_ST_ATTEST_QUOTE, 6.9
	algSHA256    = 0x000b     // 6.3
	algECDSA     = 0x0018     // 6.3
	clockSize    = 8 + 4 + 4 + 1
	firmwareSize = 8
	selectBytes  = 3 // of a PCR selection on a PC client
)

var errQuote = errors.New("quote: not a TPM's quote over the approved registers")

// quoted checks that a TPM with the key ak quotes the approved registers, with these values, and for this statement. It reads a
// TPMS_ATTEST (TPM 2.0 part 2, 10.12.12) and a TPMT_SIGNATURE (11.3.4); whatever is not exactly the form expected is refused.
func quoted(s Signed, ak *ecdsa.PublicKey, statement [32]byte, pcrs PCRs) error {
	if !signedBy(ak, s) {
		return errors.New("quote: not signed by the key of the platform certificate")
	}
	extra, digest, err := readQuote(s.Attest)
	if err != nil {
		return err
	}
	if string(extra) != string(statement[:]) {
		return errors.New("quote: it was made for another statement")
	}
	if string(digest) != string(pcrDigest(pcrs)) {
		return errors.New("quote: the registers told are not the ones quoted")
	}
	return nil
}

// pcrDigest is the digest of the approved registers, ascending (TPM 2.0 part 1, 17.5).
func pcrDigest(pcrs PCRs) []byte {
	h := sha256.New()
	for _, i := range approvedPCRs {
		d := pcrs[i]
		h.Write(d[:])
	}
	return h.Sum(nil)
}

func readQuote(attest []byte) (extra, digest []byte, err error) {
	b := cryptobyte.String(attest)
	var magic, count uint32
	var kind, hash uint16
	var size uint8
	var signer, extraData, pcrDigest cryptobyte.String
	var selected []byte
	if !b.ReadUint32(&magic) || !b.ReadUint16(&kind) || !b.ReadUint16LengthPrefixed(&signer) || !b.ReadUint16LengthPrefixed(&extraData) ||
		!b.Skip(clockSize+firmwareSize) || !b.ReadUint32(&count) || !b.ReadUint16(&hash) || !b.ReadUint8(&size) || !b.ReadBytes(&selected, int(size)) ||
		!b.ReadUint16LengthPrefixed(&pcrDigest) || !b.Empty() {
		return nil, nil, errQuote
	}
	if magic != tpmGenerated || kind != attestQuote || count != 1 || hash != algSHA256 || string(selected) != string(selection()) {
		return nil, nil, errQuote
	}
	return extraData, pcrDigest, nil
}

// selection is the bit map of the approved registers.
func selection() []byte {
	m := make([]byte, selectBytes)
	for _, i := range approvedPCRs {
		m[i/8] |= 1 << (i % 8)
	}
	return m
}

func signedBy(ak *ecdsa.PublicKey, s Signed) bool {
	b := cryptobyte.String(s.Signature)
	var scheme, hash uint16
	var r, t cryptobyte.String
	if !b.ReadUint16(&scheme) || !b.ReadUint16(&hash) || !b.ReadUint16LengthPrefixed(&r) || !b.ReadUint16LengthPrefixed(&t) || !b.Empty() {
		return false
	}
	if scheme != algECDSA || hash != algSHA256 || ak.Curve != elliptic.P256() || len(r) > 32 || len(t) > 32 {
		return false
	}
	d := sha256.Sum256(s.Attest)
	return ecdsa.Verify(ak, d[:], new(big.Int).SetBytes(r), new(big.Int).SetBytes(t))
}
