package store

import (
	"crypto/x509"
	"slices"
	"time"

	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/label"
)

// Limits of what a box is and trusts.
const (
	MaxAnchors     = 1000
	MaxReceiptKeys = 64 // the latest; the log holds them all
	maxCertificate = 16 << 10
)

// AnchorAdd trusts a certification authority of decryptors under an alias.
type AnchorAdd struct {
	Alias  kra.Anchor `json:"alias"`
	Naming kra.Naming `json:"naming"`
	Cert   []byte     `json:"cert"` // DER
}

func (AnchorAdd) kind() string { return "anchor-add" }

func (c AnchorAdd) apply(d *State) error {
	if _, err := kra.ParseAnchor(string(c.Alias)); err != nil {
		return invalid("alias %.80q: want a-z, 0-9 and '-', at most %d of them, not '-' first", c.Alias, kra.MaxID)
	}
	if d.anchors.has(string(c.Alias)) || d.sources.has(string(c.Alias)) {
		return invalid("alias %q is taken", c.Alias)
	}
	if c.Naming != kra.WholeName && c.Naming != kra.CommonName {
		return invalid("authority %q: which part of the subject names a decryptor is not set", c.Alias)
	}
	if d.anchors.size() >= MaxAnchors {
		return invalid("there are %d authorities already, which is the limit", MaxAnchors)
	}
	cert, err := x509.ParseCertificate(c.Cert)
	if err != nil || len(c.Cert) > maxCertificate {
		return invalid("authority %q: not a certificate", c.Alias)
	}
	if err := kra.CheckCertificateKey(cert); err != nil {
		return invalid("authority %q: %v: to verify by it takes too long", c.Alias, err)
	}
	if !cert.IsCA || !cert.BasicConstraintsValid {
		return invalid("authority %q: the certificate of %q is not an authority's", c.Alias, cert.Subject)
	}
	for _, a := range d.anchors.all() {
		if slices.Equal(a.Cert, c.Cert) {
			return invalid("this authority is trusted already, as %q", a.Alias)
		}
	}
	d.anchors.put(string(c.Alias), Anchor(c))
	return nil
}

// AnchorRemove trusts a certification authority no longer.
type AnchorRemove struct {
	Alias kra.Anchor `json:"alias"`
}

func (AnchorRemove) kind() string { return "anchor-remove" }

func (c AnchorRemove) apply(d *State) error {
	if !d.anchors.has(string(c.Alias)) {
		return invalid("there is no authority %.80q", c.Alias)
	}
	if users := d.usersOfAuthority(c.Alias); len(users) > 0 {
		return invalid("authority %q is in use by %s", c.Alias, joined(users))
	}
	d.anchors.remove(string(c.Alias))
	return nil
}

// NetworkSet configures the box's port.
type NetworkSet struct {
	Network machine.Network `json:"network"`
}

func (NetworkSet) kind() string { return "network-set" }

func (c NetworkSet) apply(d *State) error {
	if err := c.Network.Check(); err != nil {
		return invalid("network: %v", err)
	}
	d.network.put(only, c.Network)
	return nil
}

// ClockSet remembers a trusted time. Setting it back is the caller's to allow.
type ClockSet struct {
	Time   time.Time   `json:"time"`
	Source ClockSource `json:"source"`
}

func (ClockSet) kind() string { return "clock-set" }

func (c ClockSet) apply(d *State) error {
	if c.Source != Manual && c.Source != NTS {
		return invalid("clock: unknown source %.40q", c.Source)
	}
	if y := c.Time.UTC().Year(); y < 2020 || y > 9999 {
		return invalid("clock: the year %d cannot be", y)
	}
	d.clock.put(only, Clock{Time: c.Time.UTC().Truncate(time.Second), Source: c.Source})
	return nil
}

// BoxSet sets how the box is called, as the domain's bundle says.
type BoxSet struct {
	Box label.Box `json:"box"`
}

func (BoxSet) kind() string { return "box-set" }

func (c BoxSet) apply(d *State) error {
	if kra.CheckName(c.Box.Name) != nil {
		return invalid("box name %.80q: want a-z, 0-9 and '-', at most 63 of them, not '-' first", c.Box.Name)
	}
	if old := d.box.single().Name; old != "" && old != c.Box.Name {
		return invalid("the box is called %q and its log too: the name stays", old)
	}
	if len(c.Box.DNS) > label.MaxNames || len(c.Box.IP) > label.MaxNames {
		return invalid("box: more than %d names", label.MaxNames)
	}
	d.box.put(only, c.Box)
	return nil
}

// ReceiptKeyAdd remembers the receipt key in use since record Index of the log.
type ReceiptKeyAdd struct {
	Index int64    `json:"index"`
	Chain [][]byte `json:"chain"` // DER, leaf first
}

func (ReceiptKeyAdd) kind() string { return "receipt-key-add" }

func (c ReceiptKeyAdd) apply(d *State) error {
	if _, err := checkChain(c.Chain); err != nil {
		return err
	}
	if c.Index < 0 || d.receipts.size() > 0 && receiptKey(c.Index) <= slices.Max(d.receipts.keys()) {
		return invalid("receipt keys are added in the order of the log")
	}
	d.receipts.put(receiptKey(c.Index), ReceiptKey(c))
	if d.receipts.size() > MaxReceiptKeys {
		d.receipts.remove(slices.Min(d.receipts.keys()))
	}
	return nil
}
