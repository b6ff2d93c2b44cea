package store

import (
	"cmp"
	"fmt"
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
	if d.aliased(string(c.Alias)) {
		return invalid("alias %q is taken", c.Alias)
	}
	if c.Naming != kra.WholeName && c.Naming != kra.CommonName {
		return invalid("authority %q: which part of the subject names a decryptor is not set", c.Alias)
	}
	if d.anchors.size() >= MaxAnchors {
		return invalid("there are %d authorities already, which is the limit", MaxAnchors)
	}
	cert, err := authorityCertificate(fmt.Sprintf("authority %q", c.Alias), c.Cert)
	if err != nil {
		return err
	}
	if d.labelsPlatforms(cert) {
		return invalid("authority %q certifies labels of platforms: people need another one", c.Alias)
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

// HostName is what the box is called by others on its network: what was set, or its own name.
func (s *State) HostName() string { return cmp.Or(string(s.Network().Host), s.Box().Name) }

// OnPort is a configuration as process 1 gets it. The host name is for DHCP servers; a box that was given none tells its own, if that can
// be one.
func (s *State) OnPort(n machine.Network) machine.Network {
	if n.Mode != machine.DHCP {
		n.Host = ""
		return n
	}
	if own := machine.HostName(s.Box().Name); n.Host == "" && own.Check() == nil {
		n.Host = own
	}
	return n
}

// ClockSet remembers a trusted time. Setting it back is the caller's to allow.
type ClockSet struct {
	Time    time.Time     `json:"time"`
	Source  ClockSource   `json:"source"`
	Stepped time.Duration `json:"stepped"`
}

func (ClockSet) kind() string { return "clock-set" }

func (c ClockSet) apply(d *State) error {
	if c.Source != Manual && c.Source != NTS {
		return invalid("clock: unknown source %.40q", c.Source)
	}
	if y := c.Time.UTC().Year(); y < 2020 || y > 9999 {
		return invalid("clock: the year %d cannot be", y)
	}
	if c.Stepped < 0 || c.Stepped > 0 && c.Source == Manual {
		return invalid("clock: steps of %s on the word of %q", c.Stepped, string(c.Source))
	}
	d.clock.put(only, Clock{Time: c.Time.UTC().Truncate(time.Second), Source: c.Source, Stepped: c.Stepped})
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

// A Standby is when the key-release service is only potentially there: after so long without a request, until a challenge starts it.
type Standby struct {
	Minutes int `json:"minutes"` // 0: it is always there
}

// MaxStandby bounds the time for which the service stays, in minutes.
const MaxStandby = 24 * 60

// StandbySet has the service be there on challenge, or always.
type StandbySet struct {
	Minutes int `json:"minutes"` // 0: always
}

func (StandbySet) kind() string { return "standby-set" }

func (c StandbySet) apply(d *State) error {
	if c.Minutes < 0 || c.Minutes > MaxStandby {
		return invalid("the service ends after 1 to %d minutes without a request, or never (0)", MaxStandby)
	}
	d.standby.put(only, Standby(c))
	return nil
}

// Standby says when the service is only potentially there.
func (s *State) Standby() Standby { return s.standby.single() }

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
