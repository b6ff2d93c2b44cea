package admin

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
)

// TestCertificatesAreRenewed: the certificate of a current key is renewed by itself long before it ends, by a trusted clock only; headers
// that name the key by the old one still do, and who is not renewed is told of.
func TestCertificatesAreRenewed(t *testing.T) {
	w := enrolled(t)
	now, trusted := time.Now(), true
	w.at(&now, &trusted)
	const many = certifyAtOnce + 2
	certificate := func(i int) *x509.Certificate {
		t.Helper()
		id := fmt.Sprintf("team-%d", i)
		chain := w.store.State().Certificate(kra.AccessID(id), w.keysOf(id)[0])
		leaf, err := x509.ParseCertificate(chain[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf
	}
	for i := range many {
		w.do(fmt.Sprintf("access add team-%d", i))
		if i == 0 {
			w.do("key generate p256 bound for team-0")
		} else {
			w.do(fmt.Sprintf("access keys team-%d %s", i, w.keysOf("team-0")[0]))
		}
	}
	before := make([]*x509.Certificate, many)
	for i := range before {
		before[i] = certificate(i)
	}
	renewed := func() (n int) {
		for i, c := range before {
			if !bytes.Equal(certificate(i).Raw, c.Raw) {
				n++
			}
		}
		return n
	}
	look := func() { t.Helper(); w.certs.looked = time.Time{}; w.tend() }
	time.Sleep(1100 * time.Millisecond) // a certificate's second
	now = before[0].NotAfter.Add(-certifyBefore - time.Hour)
	look()
	if n := renewed(); n != 0 || w.Certificates() != nil {
		t.Errorf("%d certificates were renewed too early; %v", n, w.Certificates())
	}
	now, trusted = before[0].NotAfter.Add(-certifyWarn+time.Hour), false
	look()
	if n := renewed(); n != 0 {
		t.Errorf("%d certificates were renewed by a clock that is not trusted", n)
	}
	if err := w.Certificates(); err == nil || !strings.Contains(err.Error(), "the key of team-") || !strings.Contains(err.Error(), "nobody can encrypt") {
		t.Errorf("near the end: %v", err)
	}
	trusted = true
	look()
	if n := renewed(); n != certifyAtOnce {
		t.Errorf("%d certificates were renewed in one change; want %d", n, certifyAtOnce)
	}
	time.Sleep(1100 * time.Millisecond) // the TPM's clock is today's: those are near their end again
	w.tend()                            // without waiting for an hour
	if n := renewed(); n != many {
		t.Errorf("%d certificates were renewed of %d", n, many)
	}
	w.has("log show 10", "(clock) asked certify the key of team-0\n", "(clock) done certify the key of team-")
	k, _ := w.store.State().Key(w.keysOf("team-0")[0])
	for i := range many {
		if c := certificate(i); !c.NotAfter.After(before[i].NotAfter) || c.Subject.CommonName != fmt.Sprintf("team-%d", i) {
			t.Errorf("team-%d has a certificate of %s until %s", i, c.Subject, c.NotAfter)
		}
	}
	refs, err := k.Refs()
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range before {
		serial, err := asn1.Marshal(c.SerialNumber)
		if err != nil || !slices.Contains(refs, block.IssuerSerialRef(c.RawIssuer, serial)) {
			t.Errorf("what was encrypted with the old certificate of team-%d does not find its key: %v", i, err)
		}
	}
}
