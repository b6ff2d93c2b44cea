package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/appliance/backup"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/receipt"
)

// An awaited is a backup that waits for shares.
//
//	verify  --> share … --> it opens, and all is forgotten
//	restore --> share … --> the box is what the other was
type awaited struct {
	backup  label.Backup
	by      label.Member
	restore bool
	shares  []backup.Share // right ones, each once
	until   time.Time
}

// close forgets an opening.
func (a *Agent) close() {
	if a.opening == nil {
		return
	}
	for _, x := range a.opening.shares {
		x.Clear()
	}
	a.opening = nil
}

// pasted reads a backup of this domain.
func (s *step) pasted(prompt string) (o awaited, err error) {
	text, err := s.next(wire.Paste, prompt)
	if err != nil {
		return o, err
	}
	return s.opened(text)
}

// opened reads a backup of this domain out of a text.
func (s *step) opened(text string) (o awaited, err error) {
	doc, err := backup.Unarmor(text)
	if err != nil {
		return o, fmt.Errorf("refused: %w", err)
	}
	if o.backup, o.by, err = label.OpenBackup(doc, s.a.c.Domain); err != nil {
		return o, fmt.Errorf("refused: %w", err)
	}
	o.until = s.a.now().Add(shareLimit)
	return o, nil
}

func (s *step) backupVerify(ctx context.Context) error {
	if err := s.mayVerify(); err != nil {
		return err
	}
	o, err := s.pasted("Paste the backup (KRA BACKUP).")
	if err != nil {
		return err
	}
	return s.verify(ctx, o)
}

func (s *step) mayVerify() error {
	if o := s.a.opening; o != nil && o.restore {
		return fmt.Errorf("a restore of box %s waits for shares until %s: type them (backup share), or verify after that", o.backup.Box, stamp(o.until))
	}
	return nil
}

// verify says what a backup is, and waits for its shares.
func (s *step) verify(ctx context.Context, o awaited) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	s.a.close()
	s.a.opening = &o
	s.a.lapsing()
	b := o.backup
	field(s, "backup of", fmt.Sprintf("box %s of this domain, whole, and signed by that box", b.Box))
	field(s, "label key", o.by.Key.String())
	field(s, "made", b.Made+", by "+printable(b.Version))
	field(s, "backup key", fmt.Sprintf("%s, %d of %s", backup.NameOf(hsm.Peer(b.Key)), b.Threshold, count(len(b.Shares), "share", "shares")))
	field(s, "keys", fmt.Sprintf("%d: %s", len(b.Keys), shorts(o.ids())))
	for _, l := range lostLines(b.Lost) {
		field(s, "NOT IN IT", l)
	}
	return s.say("Whether it opens is seen when its shares are typed: backup share, %s.", count(b.Threshold, "time", "times"))
}

func (o awaited) ids() (all []block.KeyID) {
	for _, k := range o.backup.Keys {
		all = append(all, block.KeyIDOfSPKI(k.SPKI))
	}
	return all
}

func (s *step) backupRestore(ctx context.Context, c console.BackupRestore) error {
	if err := s.state().CheckNew(); err != nil {
		return err
	}
	o, err := s.pasted(fmt.Sprintf("Paste the backup of %s (KRA BACKUP).", c.Box))
	if err != nil {
		return err
	}
	return s.awaitShares(ctx, c.Box, o)
}

// awaitShares asks whether a backup is to be restored, and waits for its shares.
func (s *step) awaitShares(ctx context.Context, box console.Box, o awaited) error {
	b := o.backup
	if b.Box != string(box) {
		return fmt.Errorf("refused: that is the backup of box %s, not of %s", b.Box, box)
	}
	revoked, err := s.revocation(b, o.by)
	if err != nil {
		return err
	}
	alone := ""
	if s.state().Chiefs() < 2 {
		alone = " You are the only officer here: nobody has to agree to this."
	}
	lost := ""
	if lines := lostLines(b.Lost); len(lines) > 0 {
		lost = " LOST with box " + b.Box + ": " + strings.Join(lines[:min(len(lines), 8)], "; ") + "."
	}
	if err := s.confirm("Make this box (%s) what box %s, label key %s, was at %s, with %s (%s)? What that box has changed, revoked or destroyed since then is not in it. %s%s%s",
		s.state().Box().Name, b.Box, o.by.Key, b.Made, count(len(b.Keys), "key", "keys"), shorts(o.ids()), revoked, lost, alone); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	o.restore = true
	s.a.close()
	s.a.opening = &o
	s.a.lapsing()
	return s.say("The backup is one of box %s. Within an hour, %s of backup key %s: backup share. Nothing is changed before the last of them.", b.Box,
		count(b.Threshold, "share", "shares"), backup.NameOf(hsm.Peer(b.Key)))
}

// revocation says what the domain's permissions, as this box knows them, say of the box whose backup it is. What a revoked box made after it
// was revoked is nobody's word.
func (s *step) revocation(b label.Backup, by label.Member) (string, error) {
	const desk = "domain publish -list"
	p, err := s.state().Permissions()
	if err != nil {
		return "", err
	}
	if p == nil {
		return fmt.Sprintf("Whether the domain has revoked that box, this one does not know: it has no permissions of the domain (board add). Ask at the desk: %s.", desk), nil
	}
	e, ok := p.Permissions.Revocation(label.KeyRelease, b.Box, by.Key)
	if !ok {
		return fmt.Sprintf("THE DOMAIN HAS NOT REVOKED THAT BOX, as of permissions number %d of %s: if it is not lost, there are two of it; have it revoked.", p.Permissions.Sequence, stamp(p.Permissions.Issued)), nil
	}
	made, err := time.Parse(time.RFC3339, b.Made)
	if err != nil {
		return "", err
	}
	if !made.Before(e.Since) {
		return "", fmt.Errorf("refused: box %s is revoked since %s (%s), and this backup was made after that, %s; restore one from before", b.Box, stamp(e.Since), orElse(e.Reason, "no reason was given"), b.Made)
	}
	return fmt.Sprintf("The domain has revoked that box, %s (%s), after this backup was made.", stamp(e.Since), orElse(e.Reason, "no reason was given")), nil
}

// given takes a share for the backup that waits. With as many as it takes the backup is opened.
func (s *step) given(ctx context.Context, x backup.Share) error {
	o := s.a.opening
	if err := right(x, o.backup.Threshold, o.backup.Shares); err != nil {
		x.Clear()
		return err
	}
	if slices.ContainsFunc(o.shares, func(y backup.Share) bool { return y.Index == x.Index }) {
		return fmt.Errorf("share %d was typed already", x.Index)
	}
	if o.restore && s.officer.Duty != store.Chief {
		return fmt.Errorf("a box is restored by its officers, and %s is not one", s.officer.Name)
	}
	if have := len(o.shares) + 1; have < o.backup.Threshold {
		if err := s.act(ctx); err != nil {
			return err
		}
		if err := s.record(ctx, receipt.Command, "typed", x.String()); err != nil {
			return fmt.Errorf("the share was not taken: the log takes no record: %w", err)
		}
		o.shares = append(o.shares, x)
		return s.say("Right: %s. %s to type.", x, count(o.backup.Threshold-have, "more is", "more are"))
	}
	defer x.Clear()
	seed, err := backup.Combine(append(slices.Clone(o.shares), x))
	if err != nil {
		return err
	}
	defer seed.Clear()
	records, err := o.open(seed)
	if err != nil {
		return err
	}
	if o.restore {
		return s.restore(ctx, o, seed, records)
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	s.a.close()
	return s.say("The backup opens: %s of box %s, and what unwraps its %s. Nothing was restored, and the shares are forgotten.", count(len(records), "record", "records"),
		o.backup.Box, count(len(o.backup.Keys), "key", "keys"))
}

// open gives the records of a backup, if the seed is that of its key.
func (o *awaited) open(seed backup.Seed) (records []store.Record, err error) {
	public, err := seed.Public()
	if err != nil {
		return nil, err
	}
	if label.Digest(hsm.PeerOf(public)) != o.backup.Key {
		return nil, errors.New("the shares are right, and do not give the backup's key: it was not made by this product")
	}
	if err := seed.Opens(o.backup.Letter); err != nil {
		return nil, err
	}
	plain, err := seed.OpenState(o.backup.State)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	d := json.NewDecoder(bytes.NewReader(plain))
	d.DisallowUnknownFields()
	if err := d.Decode(&records); err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	return records, nil
}

// restore brings keys and records into token and store, in one commit. Until then everything is as it was, and keys that
// came into the token are destroyed again.
func (s *step) restore(ctx context.Context, o *awaited, seed backup.Seed, records []store.Record) error {
	b := o.backup
	if err := s.confirm("That is the last share. Make this box (%s) what box %s was at %s, now?", s.state().Box().Name, b.Box, b.Made); err != nil {
		return err
	}
	if err := s.state().CheckNew(); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	parcels, left := s.arriving(b, records)
	r := replicaRecord{Officer: s.officer.Name, Line: s.line, Stage: "restores", Detail: fmt.Sprintf("%s, box %s, as of %s, backup key %s", count(len(parcels), "key", "keys"), b.Box, b.Made,
		backup.NameOf(hsm.Peer(b.Key))), Label: o.by.Key.String()}
	for _, e := range recordsOf(r, parcels) { // one after the other: together they are more than the log takes at once
		if _, err := s.a.c.Log.Append(ctx, e); err != nil {
			return fmt.Errorf("nothing was restored: the log takes no record: %w", err)
		}
	}
	if err := s.restoreKeys(ctx, o, seed, records, parcels); err != nil {
		return fmt.Errorf("nothing was restored: %w", err)
	}
	s.a.close()
	for _, id := range left {
		s.say("Key %s was destroyed, and stays so.", short(id))
	}
	return s.restored(b, o.by, records)
}

// keysOfRecord is how many keys one record of the log names.
const keysOfRecord = 1000

// recordsOf are a record with the names of all keys, in as many as it takes.
func recordsOf(r replicaRecord, parcels []hsm.Parcel) (all []audit.Entry) {
	var ids []string
	for _, p := range parcels {
		ids = append(ids, block.KeyIDOfSPKI(p.SPKI).String())
	}
	for len(all) == 0 || len(ids) > 0 {
		n := min(len(ids), keysOfRecord)
		r.Keys, ids = ids[:n], ids[n:]
		all = append(all, audit.Entry{Kind: receipt.Command, Private: r})
	}
	return all
}

// arriving are the keys of a backup that are taken. Those that were destroyed, here or there, are not.
func (s *step) arriving(b label.Backup, records []store.Record) (parcels []hsm.Parcel, left []block.KeyID) {
	gone := map[string]bool{}
	for _, r := range records {
		if r.Bucket == "gone" {
			gone[r.Key] = true
		}
	}
	for _, k := range b.Keys {
		id := block.KeyIDOfSPKI(k.SPKI)
		if gone[id.String()] || s.state().WasDestroyed(id) {
			left = append(left, id)
			continue
		}
		parcels = append(parcels, hsm.Parcel{SPKI: k.SPKI, Wrapped: k.Wrapped, SeedKey: k.SeedKey, Seed: k.Seed})
	}
	return parcels, left
}

func (s *step) restoreKeys(ctx context.Context, o *awaited, seed backup.Seed, records []store.Record, parcels []hsm.Parcel) error {
	before, err := s.a.c.HSM.Status(ctx)
	if err != nil {
		return err
	}
	transport, err := s.a.c.HSM.Transport(ctx)
	if err != nil {
		return err
	}
	letter, err := seed.Forward(o.backup.Letter, transport)
	if err != nil {
		return err
	}
	change := store.Restore{From: o.backup.Box, Records: records, Files: hsm.Files{}}
	err = func() error {
		for part := range slices.Chunk(parcels, hsm.MaxParcels) {
			keys, files, err := s.a.c.HSM.Receive(ctx, letter, part, s.state().KeyMode())
			if err != nil {
				return err
			}
			change.Keys, change.Files = append(change.Keys, keys...), joined(change.Files, files)
		}
		if change.Certs, err = s.certify(ctx, change); err != nil {
			return err
		}
		return s.commit(ctx, change)
	}()
	if err != nil {
		for _, k := range change.Keys {
			if _, ok := s.state().Key(k.ID); !ok {
				_, undone := s.a.c.HSM.Destroy(ctx, k.ID)
				err = errors.Join(err, undone)
			}
		}
		return err
	}
	return s.refresh(ctx, before)
}

// certify has this box's label key certify the keys of what would be restored, for what they are of.
func (s *step) certify(ctx context.Context, c store.Restore) (all []store.Certificate, err error) {
	next, err := store.Apply(s.state(), c)
	if err != nil {
		return nil, err
	}
	for _, a := range next.Accesses() {
		for _, id := range a.Keys {
			k, _ := next.Key(id)
			chain, err := s.a.c.TPM.LeafKeyRelease(ctx, k.SPKI, string(a.ID), usage(k.Suite))
			if err != nil {
				return nil, fmt.Errorf("certify key %s: %w", short(id), err)
			}
			all = append(all, store.Certificate{Access: a.ID, Key: id, Chain: chain})
		}
	}
	return all, nil
}

// restored says what is to be done next.
func (s *step) restored(b label.Backup, by label.Member, records []store.Record) error {
	for _, l := range lostLines(b.Lost) {
		s.say("LOST: %s", l)
	}
	for _, a := range s.state().Accesses() {
		if len(a.Keys) == 0 {
			s.say("Access identifier %s has no current key, and nothing opens for it: key generate … for %[1]s; then, if it had older keys that are here: access keys", a.ID)
		}
	}
	s.say("Restored: %s of box %s. Its officers are officers here, with the passphrases that they had; yours is what it was.", count(len(s.state().Keys()), "key", "keys"), b.Box)
	if p, err := s.state().Permissions(); err != nil || p == nil || !revokedIn(p.Permissions, b, by) {
		s.say("Have box %s revoked at the desk, so that nobody believes it any more: domain revoke -dir DIR -key %s, then domain publish", b.Box, by.Key)
	}
	if n, ok := store.NetworkIn(records); ok {
		s.say("Its network was: %s. This box keeps its own (network show): the two would take each other from the network. To take that address over, when the other is off: network static, or network dhcp", networkWords(n))
	}
	s.say("Dual control, service, sources of time and syslog are as they were on box %s, where nothing was set here before; see time show, syslog show, dual-control show.", b.Box)
	return s.say("The clock and who is admitted are this box's own. It has no backup key; those shares were typed here, so make another: backup key shares %d of %d", max(b.Threshold, 2), max(len(b.Shares), 3))
}

func revokedIn(p label.Permissions, b label.Backup, by label.Member) bool {
	_, ok := p.Revocation(label.KeyRelease, b.Box, by.Key)
	return ok
}
