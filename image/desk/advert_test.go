package desk

import (
	"bytes"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

const oneAt = "https://box1.example.org:8443"

func rootsOf(d *Desk) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(d.root)
	return p
}

// A real TPM's adverts are believed by who knows the root alone, with all four forms of a published label: what the platform signed, the
// description that the domain signed for, the configuration, and an offer. They promise a potential only: in another state there is
// neither a new advert nor a confirmation, though the advert that was made before still holds.
func TestBoxAdvertises(t *testing.T) {
	d := newDesk(t)
	b := enrolled(t, d)
	all, err := b.Advertise(t.Context(), []string{oneAt}, time.Hour)
	if err != nil || len(all) == 0 {
		t.Fatalf("Advertise() = %d, %v", len(all), err)
	}
	byLabel := map[label.ID]label.Offered{}
	for _, s := range all {
		p, err := label.ParseAdvert(s.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		o, err := p.Verify(rootsOf(d), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		byLabel[o.Advert().Label] = o
	}
	o, ok := byLabel[label.KeyRelease]
	if !ok {
		t.Fatalf("no advert of key-release among %d", len(all))
	}
	text, err := d.description(label.KeyRelease)
	if err != nil {
		t.Fatal(err)
	}
	a := o.Advert()
	for form, ok := range map[string]bool{
		"signed by the platform":         a.Name == "box1" && o.Key() == KeyOf(labelOf(t, d)),
		"described, by a trusted one":    bytes.Equal([]byte(o.Description()), text),
		"with the configuration":         len(o.Values()) == 1 && o.Values()[0].Release == "v1" && o.Values()[0].PCRs[4] != (label.Digest{}),
		"with an offer to provide":       a.Offer == label.Provide && len(a.Addresses) == 1 && a.Addresses[0] == oneAt,
		"as the side that provides":      a.Part == label.Server,
		"of the platform's own attester": o.Attester() != o.Key() && o.Attester() != (label.Digest{}),
	} {
		if !ok {
			t.Errorf("the advert is not %s: %+v", form, a)
		}
	}
	again, err := b.Advertise(t.Context(), []string{oneAt}, time.Hour)
	if err != nil || again[0].Advert.Serial <= all[len(all)-1].Advert.Serial {
		t.Errorf("later adverts have no higher number: %v", err)
	}
	r, err := b.Retract(t.Context(), label.KeyRelease)
	if err != nil {
		t.Fatal(err)
	}
	if got, key, err := r.Verify(rootsOf(d), time.Now()); err != nil || key != o.Key() || got.Serial <= again[0].Advert.Serial {
		t.Errorf("retraction %+v: %v", got, err)
	}
	refuses := func(what string, err error) {
		t.Helper()
		var no wire.Refused
		if !errors.As(err, &no) {
			t.Errorf("%s: %v; want a refusal", what, err)
		}
	}
	for what, c := range map[string]struct {
		at   []string
		life time.Duration
	}{"for ever": {[]string{oneAt}, 1000 * time.Hour}, "for no time": {[]string{oneAt}, 0}, "nowhere": {nil, time.Hour}, "at no address": {[]string{"http://box1.example.org"}, time.Hour}} {
		_, err := b.Advertise(t.Context(), c.at, c.life)
		refuses(what, err)
	}
	elsewhere, err := b.Advertise(t.Context(), []string{"https://box2.example.org:8443"}, time.Hour)
	if err == nil {
		_, err = elsewhere[0].Verify(rootsOf(d), time.Now())
	}
	if err == nil || !strings.Contains(err.Error(), "does not permit the address") {
		t.Errorf("another's address: %v", err)
	}
	confirm := func() error {
		all, err := b.Confirm(t.Context(), label.Challenge{Nonce: make([]byte, label.NonceSize), Label: label.KeyRelease}, make([]byte, label.NonceSize))
		if err == nil {
			_, err = all.Confirmations[0].Verify(label.Asked{Roots: rootsOf(d), Now: time.Now(), Nonce: make([]byte, label.NonceSize), Channel: make([]byte, label.NonceSize)})
		}
		return err
	}
	if err := confirm(); err != nil {
		t.Fatalf("control: %v", err)
	}
	b.stage(label.Locked)
	_, err = b.Advertise(t.Context(), []string{oneAt}, time.Hour)
	refuses("advert of a locked box", err)
	_, err = b.Retract(t.Context(), label.KeyRelease)
	refuses("retraction of a locked box", err)
	refuses("confirmation of a locked box", confirm())
	if _, err := all[0].Verify(rootsOf(d), time.Now()); err != nil {
		t.Errorf("the advert of before: %v", err)
	}
	b.boot(boot("v1"))
	if err := b.serve(); err != nil {
		t.Fatal(err)
	}
	if err := confirm(); err != nil {
		t.Errorf("undone: %v", err)
	}
}
