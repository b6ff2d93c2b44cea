package boxtest_test

import (
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra/label"
)

// A quote is what a TPM signed of its registers.
type quote struct {
	signed     label.Signed
	qualifying [32]byte
	pcrs       label.PCRs
	ak         []byte // SubjectPublicKeyInfo
}

// check has tpm2-tools check it.
func (q quote) check(t *testing.T) ([]byte, error) {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		t.Helper()
		f := filepath.Join(dir, name)
		if err := os.WriteFile(f, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return f
	}
	return exec.Command("tpm2_checkquote", "-u", file("ak.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: q.ak})),
		"-m", file("attest", q.signed.Attest), "-s", file("signature", q.signed.Signature), "-g", "sha256",
		"-q", hex.EncodeToString(q.qualifying[:]), "-f", file("pcrs", registers(q.pcrs))).CombinedOutput()
}

// registers writes registers as tpm2_quote does: the structures TPML_PCR_SELECTION and TPML_DIGEST as the compiler lays them out, with
// their numbers little-endian.
func registers(pcrs label.PCRs) []byte {
	const sha256, selections, digests, digestSize = 0x000b, 16, 8, 64
	order := binary.LittleEndian
	var bits [4]byte
	for i := range pcrs {
		bits[i/8] |= 1 << (i % 8)
	}
	out := order.AppendUint32(nil, 1)
	out = append(append(order.AppendUint16(out, sha256), 3), bits[:]...)
	out = append(out, make([]byte, 1+(selections-1)*8)...)
	all := slices.Sorted(maps.Keys(pcrs))
	out = order.AppendUint32(out, uint32((len(all)+digests-1)/digests))
	for lot := range slices.Chunk(all, digests) {
		out = order.AppendUint32(out, uint32(len(lot)))
		for _, i := range lot {
			d := pcrs[i]
			out = append(append(order.AppendUint16(out, uint16(len(d))), d[:]...), make([]byte, digestSize-len(d))...)
		}
		out = append(out, make([]byte, (digests-len(lot))*(2+digestSize))...)
	}
	return out
}

// The tools of the TPM software stack, which share no code with ours, believe the quotes of an enrolment request and of a confirmation, under
// the key that the domain certified; and none with another nonce, another register, another key, or a flipped bit.
func TestQuotesSecondOpinion(t *testing.T) {
	b := boxtest.New(t)
	request, err := label.ParseRequest([]byte(text(t, b.Do("enrol request"))))
	if err != nil {
		t.Fatal(err)
	}
	b.Enrol()
	c := newChallenger(t, b)
	status, answer, _ := c.ask(newNonce(), label.KeyRelease)
	all, err := label.ParseConfirmations(answer)
	if status != http.StatusOK || err != nil {
		t.Fatalf("challenge: %d, %v", status, err)
	}
	one := all.Confirmations[0]
	platform, err := x509.ParseCertificate(one.Platform)
	if err != nil {
		t.Fatal(err)
	}
	ak := platform.RawSubjectPublicKeyInfo
	other, err := x509.ParseCertificate(one.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, q := range map[string]quote{
		"request":      {request.Quote, request.Statement(), request.PCRs, ak},
		"confirmation": {one.Quote, one.Statement.Qualifying(), one.PCRs, ak},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := q.check(t); err != nil {
				t.Fatalf("tpm2_checkquote: %v\n%s", err, out)
			}
			for what, change := range map[string]func(q *quote){
				"another nonce":      func(q *quote) { q.qualifying[0] ^= 1 },
				"another register":   func(q *quote) { q.pcrs = maps.Clone(q.pcrs); q.pcrs[4] = label.Digest{1} },
				"another key":        func(q *quote) { q.ak = other.RawSubjectPublicKeyInfo },
				"flipped signature":  func(q *quote) { q.signed.Signature = flip(q.signed.Signature) },
				"flipped quote":      func(q *quote) { q.signed.Attest = flip(q.signed.Attest) },
				"one register fewer": func(q *quote) { q.pcrs = maps.Clone(q.pcrs); delete(q.pcrs, 14) },
			} {
				changed := q
				change(&changed)
				if out, err := changed.check(t); err == nil {
					t.Errorf("%s: tpm2_checkquote agrees: %s", what, out)
				}
			}
		})
	}
}

// flip flips a bit of the last byte of a copy.
func flip(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)-1] ^= 1
	return b
}
