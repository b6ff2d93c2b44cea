package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/backup"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console/wire"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

// cargo is what of the keys goes into a backup, and what does not.
func (s *step) cargo() (keys []store.Key, lost []label.LostKey) {
	for _, k := range s.state().Keys() {
		why := ""
		switch {
		case k.Bound != nil:
			why = "bound to label " + string(k.Bound.Label) + " of this box: it never leaves"
		case k.Custody != hsm.Replicable:
			why = "bound to this box: it never leaves"
		case !k.Destroy.IsZero():
			why = "about to be destroyed"
		default:
			keys = append(keys, k)
			continue
		}
		lost = append(lost, label.LostKey{Key: label.Digest(k.ID), Access: append([]string{}, s.users(k.ID)...), Why: why})
	}
	return keys, lost
}

func lostLines(lost []label.LostKey) (out []string) {
	for _, l := range lost {
		out = append(out, fmt.Sprintf("key %s of %s, %s", short(block.KeyID(l.Key)), orElse(strings.Join(l.Access, ", "), "nobody"), l.Why))
	}
	return out
}

// backupMake prints a backup.
func (s *step) backupMake(ctx context.Context) error {
	return s.makeBackup(ctx, "Print a backup", label.MaxDocument, func(b label.Backup, text []byte) (string, error) {
		if len(text) > wire.MaxPaste {
			return "", fmt.Errorf("no backup was printed: it would have %d bytes, and a paste takes %d. It fits on a disk: backup make to disk", len(text), wire.MaxPaste)
		}
		if err := s.commit(ctx, store.BackupMade{At: time.Now()}); err != nil {
			return "", err
		}
		_, err := s.Write(text)
		return "Keep it anywhere. Whether what was kept is whole: backup verify", err
	})
}

// makeBackup makes a backup of so many bytes at most and puts its text where it is kept; put says in words what to do with it.
func (s *step) makeBackup(ctx context.Context, what string, most int, put func(b label.Backup, text []byte) (string, error)) error {
	k, ok := s.state().BackupKey()
	if !ok {
		return fmt.Errorf("this box has no backup key; first: backup key shares 2 of 3")
	}
	keys, lost := s.cargo()
	b, err := s.newBackup(k, keys, lost)
	if err == nil {
		err = fits(b, most)
	}
	if err != nil {
		return err
	}
	warning := ""
	if lines := lostLines(lost); len(lines) > 0 {
		warning = " NOT IN IT, and lost if this box is lost: " + strings.Join(lines[:min(len(lines), 8)], "; ") + "."
		if more := len(lines) - 8; more > 0 {
			warning += fmt.Sprintf(" And %d more (backup show).", more)
		}
	}
	if err := s.confirm("%s of box %s for backup key %s, with %s, each wrapped for that key?%s", what, b.Box, backup.NameOf(k.ID()), count(len(keys), "key", "keys"), warning); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	if err := s.pack(ctx, k, keys, &b); err != nil {
		return err
	}
	doc, err := s.sign(ctx, b.Digest(), b.Sign)
	if err != nil {
		return err
	}
	then, err := put(b, backup.Armor(doc))
	if err != nil {
		return err
	}
	for _, l := range lostLines(lost) {
		s.say("NOT IN IT: %s", l)
	}
	return s.say("Backup of box %s with %s, for backup key %s. %s", b.Box, count(len(keys), "key", "keys"), backup.NameOf(k.ID()), then)
}

// fits says before any key is wrapped whether a backup has room where it is to be kept.
func fits(b label.Backup, most int) error {
	err := b.Check(most)
	switch {
	case err != nil && most < label.MaxBackup && b.Check(label.MaxBackup) == nil:
		return fmt.Errorf("no backup was printed: %w. It fits on a disk: backup make to disk", err)
	case err != nil:
		return fmt.Errorf("no backup was made: %w; keep a second box with copies instead (replica)", err)
	}
	return nil
}

// newBackup is the backup with others of their size in place of its keys.
func (s *step) newBackup(k store.BackupKey, keys []store.Key, lost []label.LostKey) (label.Backup, error) {
	ids := make([]block.KeyID, len(keys))
	for i, key := range keys {
		ids[i] = key.ID
	}
	records, err := s.state().Records(ids)
	if err != nil {
		return label.Backup{}, err
	}
	plain, err := json.Marshal(records)
	if err != nil {
		return label.Backup{}, fmt.Errorf("encode state: %w", err)
	}
	defer clear(plain)
	b := label.Backup{Domain: s.a.c.Domain.Hash(), Box: s.state().Box().Name, Made: time.Now().UTC().Format(time.RFC3339), Version: orElse(s.a.c.Version, "unknown"),
		Key: label.Digest(k.ID()), Threshold: k.Threshold, Shares: k.Shares, Letter: k.Letter, Keys: make([]label.ReplicaKey, len(keys)), Lost: append([]label.LostKey{}, lost...)}
	if b.State, err = backup.SealState(k.Public, plain); err != nil {
		return b, err
	}
	for i, key := range keys {
		b.Keys[i] = replicaKey(key, parcelLike(key.Suite))
	}
	return b, nil
}

// parcelLike has the sizes of a wrapped key, in bytes: PKCS#8 under AES-KWP (RFC 5649), as SoftHSM writes it, or some more.
func parcelLike(suite hsm.Suite) hsm.Parcel {
	size := map[hsm.Suite]int{hsm.P256: 88, hsm.P384: 104, hsm.RSA2048: 1240, hsm.RSA3072: 1824, hsm.RSA4096: 2408, hsm.Hybrid: 88}[suite]
	p := hsm.Parcel{Wrapped: make([]byte, size)}
	if suite == hsm.Hybrid {
		p.SeedKey, p.Seed = make([]byte, 40), make([]byte, 92)
	}
	return p
}

// pack wraps the keys. Each is in the log before it is shown to anybody.
func (s *step) pack(ctx context.Context, k store.BackupKey, keys []store.Key, b *label.Backup) error {
	at := 0
	for part := range slices.Chunk(keys, hsm.MaxParcels) {
		ids := make([]block.KeyID, len(part))
		for i, key := range part {
			ids[i] = key.ID
		}
		parcels, head, err := s.a.c.HSM.Pack(ctx, k.ID(), ids)
		if err != nil {
			return err
		}
		if err := s.recordDeparture(ctx, "backup key "+backup.NameOf(k.ID()).String(), b.Key, hsm.Departed(k.ID(), parcels, head), head); err != nil {
			return err
		}
		for i, key := range part {
			b.Keys[at] = replicaKey(key, parcels[i])
			at++
		}
	}
	return nil
}
