package store

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/keyrelease/krabox/boot/machine"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

// maxRecords bounds the records of a backup.
const maxRecords = 200_000

// A BackupKey is to whom backups of this box are encrypted. What opens them is with the holders of its shares, and nowhere here.
type BackupKey struct {
	Public     []byte         `json:"public"`           // a transport key, hsm/REPLICA.md
	Letter     []byte         `json:"letter,omitempty"` // the transfer key that the token has for it, sealed to it; none before it is approved
	Threshold  int            `json:"threshold"`
	Shares     []label.Digest `json:"shares"`               // commitments, number 1 first
	Recipients []string       `json:"recipients,omitempty"` // of age, to whom the one share was encrypted
	Nonce      label.Digest   `json:"nonce"`                // of the request that it be approved
	Number     uint64         `json:"number,omitempty"`     // by which the domain has approved it
	Made       time.Time      `json:"made"`
	Last       time.Time      `json:"last,omitzero"` // when the last backup was printed
}

// ID is how the token calls it.
func (k BackupKey) ID() hsm.Peer { return hsm.PeerOf(k.Public) }

// Asks is the request of a box of this domain that the key be approved.
func (k BackupKey) Asks(domain label.Digest, box string) label.BackupKey {
	return label.BackupKey{Domain: domain, Box: box, Transport: k.Public, Threshold: k.Threshold, Shares: k.Shares, Recipients: append([]string{}, k.Recipients...), Nonce: k.Nonce}
}

// asking is the place of the backup key that waits for the domain's approval.
const asking = "asking"

// BackupKey returns the box's backup key; false if it has none.
func (s *State) BackupKey() (BackupKey, bool) { return s.backup.get(only) }

// AskedBackupKey returns the backup key that waits for the domain's approval; false if none does.
func (s *State) AskedBackupKey() (BackupKey, bool) { return s.backup.get(asking) }

func (k BackupKey) check() error {
	switch {
	case len(k.Public) != hsm.TransportSize:
		return invalid("backup key: it has another length than it must have")
	case len(k.Shares) < 1 || len(k.Shares) > label.MaxShares || k.Threshold < 1 || k.Threshold > len(k.Shares):
		return invalid("backup key: %d of %d shares", k.Threshold, len(k.Shares))
	case len(k.Recipients) > label.MaxRecipients || k.Nonce == label.Digest{}:
		return invalid("backup key: too many recipients, or no nonce")
	}
	return nil
}

// BackupKeyAsk notes a backup key whose shares are with their holders. It counts when the domain has approved it.
type BackupKeyAsk struct {
	Key BackupKey `json:"key"`
}

func (BackupKeyAsk) kind() string { return "backup-key-ask" }

func (c BackupKeyAsk) apply(d *State) error {
	k := c.Key
	if err := k.check(); err != nil {
		return err
	}
	if k.Letter != nil || k.Number != 0 {
		return invalid("backup key: it has a transfer key or a number before the domain has approved it")
	}
	k.Made = k.Made.UTC().Truncate(time.Second)
	d.backup.put(asking, k)
	return nil
}

// BackupKeySet sets the backup key that the domain has approved, together with the token files that changed by it.
type BackupKeySet struct {
	Key   BackupKey         `json:"key"`
	Files map[string][]byte `json:"files"` // nil value: removed
}

func (BackupKeySet) kind() string { return "backup-key-set" }

func (c BackupKeySet) apply(d *State) error {
	k := c.Key
	if err := k.check(); err != nil {
		return err
	}
	was, _ := d.BackupKey()
	switch {
	case len(k.Letter) != hsm.LetterSize:
		return invalid("backup key: its transfer key has another length than it must have")
	case k.Number < was.Number || k.Number == was.Number && k.ID() != was.ID():
		return invalid("backup key: it is number %d of the domain, and number %d is here", k.Number, was.Number)
	}
	k.Made = k.Made.UTC().Truncate(time.Second)
	d.backup.put(only, k)
	if asked, ok := d.AskedBackupKey(); ok && asked.ID() == k.ID() {
		d.backup.remove(asking)
	}
	return TokenSet{c.Files}.apply(d)
}

// BackupMade notes that a backup was made.
type BackupMade struct {
	At time.Time `json:"at"`
}

func (BackupMade) kind() string { return "backup-made" }

func (c BackupMade) apply(d *State) error {
	k, ok := d.BackupKey()
	if !ok {
		return invalid("there is no backup key")
	}
	k.Last = c.At.UTC().Truncate(time.Second)
	d.backup.put(only, k)
	return nil
}

// A Record is one record of a backup.
type Record struct {
	Bucket string          `json:"bucket"`
	Key    string          `json:"key"`
	Value  json.RawMessage `json:"value"`
}

// carried are the buckets whose records a backup has: not what is this box's own (its name, token, the time that it trusted last, receipt
// keys, other boxes that were admitted, what waits for a second officer), nor certificates, which its label key has signed.
func (s *State) carried() []bucket {
	return []bucket{&s.officers, &s.rules, &s.access, &s.groups, &s.anchors, &s.keys, &s.sources, &s.roles, &s.levels, &s.retired, &s.tags,
		&s.gone, &s.platforms, &s.board, &s.permit, &s.owners, &s.control, &s.standby, &s.times, &s.syslog, &s.network}
}

// NetworkIn returns the network that a backed-up box was set to; false if it was to none. It is told, and not restored: two boxes with one
// address take each other from the network.
func NetworkIn(all []Record) (n machine.Network, ok bool) {
	i := slices.IndexFunc(all, func(r Record) bool { return r.Bucket == newState().network.name })
	return n, i >= 0 && json.Unmarshal(all[i].Value, &n) == nil && n.Mode != "" && n.Check() == nil
}

// Records returns what a backup of the box has, of keys those that go with it.
func (s *State) Records(keys []block.KeyID) (all []Record, err error) {
	goes := map[string]bool{}
	for _, id := range keys {
		goes[id.String()] = true
	}
	for _, b := range s.carried() {
		for _, key := range b.rowKeys() {
			if (b.bucketName() == s.keys.name || b.bucketName() == s.tags.name) && !goes[key] {
				continue
			}
			v, ok, err := b.encode(key)
			if err != nil {
				return nil, err
			}
			if ok {
				all = append(all, Record{b.bucketName(), key, v})
			}
		}
	}
	return all, nil
}

// Restore makes a new box what another was, in one change. Keys are those that the token has now; records of other keys must not be
// there, and access identifiers lose them. Keys that were destroyed here or there are not taken.
type Restore struct {
	From    string            `json:"from"` // the box whose backup it is
	Records []Record          `json:"records"`
	Keys    []hsm.Key         `json:"keys"`
	Files   map[string][]byte `json:"files"` // nil value: removed
	Certs   []Certificate     `json:"certs"`
}

func (Restore) kind() string { return "restore" }

// CheckNew refuses a box that has something which a restored backup would stand beside.
func (s *State) CheckNew() error {
	for what, n := range map[string]int{"keys": s.keys.size(), "access identifiers": s.access.size(), "rules": s.rules.size(), "groups": s.groups.size(),
		"certification authorities": s.anchors.size(), "sources": s.sources.size(), "roles": s.roles.size(), "platforms": s.platforms.size()} {
		if n > 0 {
			return invalid("this box has %s: a backup is restored to a box that was just taken into service and has none", what)
		}
	}
	return nil
}

func (c Restore) apply(d *State) error {
	if err := d.CheckNew(); err != nil {
		return err
	}
	if kra.CheckName(c.From) != nil || len(c.Records) > maxRecords {
		return invalid("the backup is of no box, or has more than %d records", maxRecords)
	}
	here := map[string]bool{}
	for name := range d.officers.all() {
		here[name] = true
	}
	newer := d.permit.size() > 0 // the domain's word, which never goes back
	mine := d.settings()
	buckets := map[string]bucket{}
	for _, b := range d.carried() {
		buckets[b.bucketName()] = b
	}
	for _, r := range c.Records {
		b := buckets[r.Bucket]
		switch {
		case b == nil:
			return invalid("the backup has a record of kind %.40q, which this software does not know", r.Bucket)
		case r.Bucket == d.officers.name && here[r.Key]:
			continue // who administers this box already, does so with the passphrase that holds here
		case r.Bucket == d.permit.name && newer, r.Bucket == d.network.name:
			continue
		}
		put, err := b.decode(r.Key, r.Value)
		if err != nil {
			return invalid("record %.80q of the backup: %v", r.Bucket+" "+r.Key, err)
		}
		put()
	}
	for _, o := range d.officers.sorted() {
		if !here[o.Name] {
			o.Failures, o.Failed = 0, time.Time{}
			d.officers.put(o.Name, o)
		}
	}
	d.keep(mine)
	if err := c.takeKeys(d); err != nil {
		return err
	}
	for _, x := range c.Certs {
		if err := CertificateSet(x).apply(d); err != nil {
			return err
		}
	}
	return TokenSet{c.Files}.apply(d)
}

// settings are those of the new box that a restore heeds.
type settings struct {
	control Control
	limited bool // the control was set
	standby Standby
	times   []TimeSource
	syslog  Syslog
}

func (s *State) settings() settings {
	return settings{s.Control(), s.control.size() > 0, s.Standby(), s.TimeSources(), s.Syslog()}
}

// keep lets what was set on the new box stand where a backup says otherwise: its sources of time and its syslog server, and of what limits
// officers and service the stricter. A log is forwarded from its beginning, which is this box's.
func (s *State) keep(mine settings) {
	if now := s.Control(); mine.limited {
		s.control.put(only, Control{Off: mine.control.Off && now.Off, Rules: mine.control.Rules || now.Rules})
	}
	if now := s.Standby().Minutes; mine.standby.Minutes > 0 && (now == 0 || mine.standby.Minutes < now) {
		s.standby.put(only, mine.standby)
	}
	if len(mine.times) > 0 {
		for _, k := range s.times.keys() {
			s.times.remove(k)
		}
		for _, t := range mine.times {
			s.times.put(t.Address, t)
		}
	}
	to := s.Syslog()
	switch {
	case mine.syslog.Host != "":
		s.syslog.put(only, mine.syslog)
	case to.Host != "":
		to.From = 0
		s.syslog.put(only, to)
	}
}

// takeKeys leaves the records of the keys that the token has, and takes all others from access identifiers.
func (c Restore) takeKeys(d *State) error {
	for _, id := range d.keys.keys() {
		was, _ := d.keys.get(id)
		i := slices.IndexFunc(c.Keys, func(k hsm.Key) bool { return k.ID == was.ID && k.ID.String() == id })
		switch {
		case i < 0:
			d.keys.remove(id)
			if d.tags.has(id) {
				d.tags.remove(id)
			}
			continue
		case d.WasDestroyed(was.ID):
			return invalid("key %s was destroyed, and stays so", id)
		case was.Suite != c.Keys[i].Suite || c.Keys[i].Custody != hsm.Replicable || was.Bound != nil:
			return invalid("key %s is not what the backup says that it is", id)
		}
		origin := was.Origin.String()
		if was.From != nil {
			origin = was.From.Origin
		}
		was.Key, was.From = c.Keys[i], &Copy{Box: c.From, Origin: origin}
		d.keys.put(id, was)
	}
	if d.keys.size() != len(c.Keys) {
		return invalid("the backup has %d keys that its state does not name", len(c.Keys)-d.keys.size())
	}
	for _, a := range d.access.sorted() {
		a.Keys = d.present(a.Keys)
		d.access.put(string(a.ID), a)
	}
	return nil
}

// present are those of the keys that are here, the first of them one that may be current; none if none may.
func (s *State) present(ids []block.KeyID) []block.KeyID {
	left := slices.DeleteFunc(slices.Clone(ids), func(id block.KeyID) bool { return !s.keys.has(id.String()) })
	i := slices.IndexFunc(left, func(id block.KeyID) bool { k, _ := s.keys.get(id.String()); return k.State == Active })
	if i < 0 {
		return []block.KeyID{}
	}
	first := left[i]
	return slices.Insert(slices.Delete(left, i, i+1), 0, first)
}
