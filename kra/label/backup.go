package label

import (
	"crypto"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	backupKeyBlock   = "KRA BACKUP KEY"
	backupKeyContext = "kra/backup-key/v1"
	backupContext    = "kra/backup/v1"

	backupApprovalBlock   = "KRA BACKUP KEY APPROVAL"
	backupApprovalContext = "kra/backup-key-approval/v1"
)

// Limits of backups.
const (
	MaxBackupKeys = 1 << 14  // keys in one, and keys that one names as lost
	MaxBackup     = 44 << 20 // bytes of one: its text is what boot/disks takes; of one that is pasted, MaxDocument
	MaxShares     = 16       // of a backup key
	MaxRecipients = 16       // of age, of a backup key
	maxRecipient  = 4096     // bytes of one: those of hybrid keys have 2 KiB
	maxVersion    = 128      // bytes of the software's version
	maxSignatory  = 8192     // bytes set aside for a backup's signature and certificates, some 3 KiB
)

// A BackupKey is a box's request that the domain approve a backup key: who opens what is made for it has every replicable key.
type BackupKey struct {
	Domain     Digest   `json:"domain"`
	Box        string   `json:"box"`
	Transport  []byte   `json:"transport"`  // hsm/REPLICA.md
	Threshold  int      `json:"threshold"`  // how many shares it takes
	Shares     []Digest `json:"shares"`     // appliance/backup/FORMAT.md; number 1 first
	Recipients []string `json:"recipients"` // of age, each of whom can read the one share; none: the shares are on paper
	Nonce      Digest   `json:"nonce"`      // 32 random bytes
}

// Digest is what the statement's key is certified for.
func (k BackupKey) Digest() Digest { return digestOf(backupKeyContext, k) }

// Fingerprint names the request, as the box's console shows it beside each share.
func (k BackupKey) Fingerprint() string { return k.Digest().Fingerprint() }

// Kind says in words what opens what is made for the key.
func (k BackupKey) Kind() string {
	if len(k.Recipients) > 0 {
		return "one text, which each of these recipients of age opens alone: " + strings.Join(k.Recipients, " ")
	}
	return fmt.Sprintf("%d shares on paper, any %d of which open", len(k.Shares), k.Threshold)
}

func (k BackupKey) check() error {
	if err := (ReplicaRequest{Box: k.Box, Transport: k.Transport, Nonce: k.Nonce}).check(); err != nil {
		return err
	}
	switch {
	case len(k.Shares) < 1 || len(k.Shares) > MaxShares || k.Threshold < 1 || k.Threshold > len(k.Shares):
		return fmt.Errorf("%d of %d shares", k.Threshold, len(k.Shares))
	case k.Recipients == nil || len(k.Recipients) > MaxRecipients:
		return fmt.Errorf("%d recipients, want at most %d", len(k.Recipients), MaxRecipients)
	case (len(k.Recipients) == 0) == (k.Threshold == 1) || len(k.Recipients) > 0 && len(k.Shares) != 1:
		return errors.New("a share that opens alone is for recipients of age, and no other is")
	}
	for _, r := range k.Recipients {
		if !printable(r, maxRecipient) || strings.Contains(r, " ") {
			return errors.New("a recipient is malformed")
		}
	}
	return nil
}

// Sign gives the statement in PEM, signed with a key that the chain certifies.
func (k BackupKey) Sign(chain [][]byte, by crypto.Signer) ([]byte, error) {
	if err := k.check(); err != nil {
		return nil, fmt.Errorf("sign backup key: %w", err)
	}
	text, err := signStatement(backupKeyBlock, backupKeyContext, k, chain, by)
	if err != nil {
		return nil, fmt.Errorf("sign backup key: %w", err)
	}
	return text, nil
}

// OpenBackupKey reads the statement out of a text and verifies that a box of this domain made it, in an approved state.
func OpenBackupKey(text []byte, d Domain, at time.Time) (BackupKey, Member, error) {
	k, by, err := openStatement(backupKeyBlock, backupKeyContext, text, d, at, BackupKey.check)
	if err == nil {
		err = says(k.Domain, k.Box, d, by)
	}
	if err != nil {
		return BackupKey{}, Member{}, fmt.Errorf("open backup key: %w", err)
	}
	return k, by, nil
}

// A BackupApproval is the domain's word that a backup key is a box's. Of two the one with the higher number is the newer: a box
// takes none with a lower one than it has had.
type BackupApproval struct {
	Number uint64    `json:"number"` // from 1, of all that the domain has approved
	Key    BackupKey `json:"key"`
}

func (a BackupApproval) signed() [32]byte { return digestOf(backupApprovalContext, a) }

func (a BackupApproval) check() error {
	if a.Number == 0 {
		return errors.New("it has no number")
	}
	return a.Key.check()
}

type signedBackupApproval struct {
	Approval  BackupApproval `json:"approval"`
	Signature []byte         `json:"signature"`
}

// Sign gives the approval in PEM, signed with K_label.
func (a BackupApproval) Sign(key crypto.Signer) ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("sign approval of backup key: %w", err)
	}
	sig, err := signDigest(key, a.signed())
	if err != nil {
		return nil, fmt.Errorf("sign approval of backup key: %w", err)
	}
	return armor(backupApprovalBlock, encode(signedBackupApproval{a, sig})), nil
}

// OpenBackupApproval reads an approval out of a text and verifies that this domain signed it. For which box is not yet decided.
func OpenBackupApproval(text []byte, d Domain) (BackupApproval, error) {
	fail := func(err error) (BackupApproval, error) {
		return BackupApproval{}, fmt.Errorf("open approval of backup key: %w", err)
	}
	doc, err := unarmor(backupApprovalBlock, text)
	if err != nil {
		return fail(err)
	}
	var s signedBackupApproval
	if err := decode(doc, &s, func() error { return s.Approval.check() }); err != nil {
		return fail(err)
	}
	switch a := s.Approval; {
	case a.Key.Domain != d.Hash():
		return fail(fmt.Errorf("it is of domain %s, this box is of domain %q (%s)", a.Key.Domain.Short(), d.Name, d.Hash().Short()))
	case !d.Label.Verify(a.signed(), s.Signature):
		return fail(fmt.Errorf("not signed by the label key of domain %q", d.Name))
	}
	return s.Approval, nil
}

// IsBackupKey says whether a text holds a request to approve a backup key, which may yet be false.
func IsBackupKey(text []byte) bool {
	_, err := unarmor(backupKeyBlock, text)
	return err == nil
}

// IsBackupApproval says whether a text holds an approval of a backup key, which may yet be false.
func IsBackupApproval(text []byte) bool {
	_, err := unarmor(backupApprovalBlock, text)
	return err == nil
}

// A Backup is a box's state and replicable keys, for whoever has the backup key's shares. What is not sealed in it is for
// everybody to read.
type Backup struct {
	Domain    Digest       `json:"domain"`
	Box       string       `json:"box"` // whose it is
	Made      string       `json:"made"`
	Version   string       `json:"version"`   // of the software that made it
	Key       Digest       `json:"key"`       // of the backup key, hsm/REPLICA.md
	Threshold int          `json:"threshold"` // how many shares it takes
	Shares    []Digest     `json:"shares"`    // appliance/backup/FORMAT.md; number 1 first
	Letter    []byte       `json:"letter"`    // the transfer key, sealed to the backup key
	State     []byte       `json:"state"`     // sealed to the backup key
	Keys      []ReplicaKey `json:"keys"`
	Lost      []LostKey    `json:"lost"`
}

// A LostKey is one that a backup does not have, and why.
type LostKey struct {
	Key    Digest   `json:"key"` // its id
	Access []string `json:"access"`
	Why    string   `json:"why"`
}

// Digest is what the statement's key is certified for.
func (b Backup) Digest() Digest { return digestOf(backupContext, b) }

// Check says what is wrong with the form of a backup, and whether it is too large, so that it can be known before there are wrapped keys
// to put into it: with any others of their size in their place. most is MaxDocument or MaxBackup.
func (b Backup) Check(most int) error {
	if err := b.check(); err != nil {
		return err
	}
	if n := len(encode(b)) + maxSignatory; n > most {
		return fmt.Errorf("it would have some %d KiB with its %d keys, and such a backup has at most %d KiB", n>>10, len(b.Keys), most>>10)
	}
	return nil
}

func (b Backup) check() error {
	switch {
	case !namePattern.MatchString(b.Box):
		return errors.New("box: want [a-z0-9][a-z0-9-]{0,62}")
	case !printable(b.Version, maxVersion):
		return errors.New("version is not printable")
	case len(b.Shares) < 1 || len(b.Shares) > MaxShares || b.Threshold < 1 || b.Threshold > len(b.Shares):
		return fmt.Errorf("%d of %d shares", b.Threshold, len(b.Shares))
	case len(b.Letter) == 0 || len(b.Letter) > maxLetter || len(b.State) == 0:
		return errors.New("no transfer key or no state")
	case b.Keys == nil || len(b.Keys) > MaxBackupKeys || b.Lost == nil || len(b.Lost) > MaxBackupKeys:
		return fmt.Errorf("%d keys and %d that are lost, want at most %d of each", len(b.Keys), len(b.Lost), MaxBackupKeys)
	}
	if _, err := b.at(); err != nil {
		return err
	}
	for i, k := range b.Keys {
		if err := k.check(); err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
	}
	for i, l := range b.Lost {
		if l.Access == nil || len(l.Access) > MaxReplicaAccess || !printable(l.Why, maxReplicaTitle) {
			return fmt.Errorf("lost key %d is malformed", i)
		}
		for _, a := range l.Access {
			if !namePattern.MatchString(a) {
				return fmt.Errorf("lost key %d is malformed", i)
			}
		}
	}
	return nil
}

// at is when the backup was made.
func (b Backup) at() (time.Time, error) {
	at, err := time.Parse(time.RFC3339, b.Made)
	if err != nil || len(b.Made) != maxReplicaMade || at.UTC().Format(time.RFC3339) != b.Made || b.Made < earliestMade {
		return at, errors.New("made: not a time in UTC")
	}
	return at, nil
}

// Sign gives the document, signed with a key that the chain certifies. It is armoured by package backup.
func (b Backup) Sign(chain [][]byte, by crypto.Signer) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("sign backup: %w", err)
	}
	doc, err := signedStatement(MaxBackup, backupContext, b, chain, by)
	if err != nil {
		return nil, fmt.Errorf("sign backup: %w", err)
	}
	return doc, nil
}

// OpenBackup reads a document and verifies that a box of this domain made it, in an approved state. Its certificates count by the
// time at which it says that it was made: the key that signed it was certified for this one statement, that time included, and
// a backup is worth something for years.
func OpenBackup(doc []byte, d Domain) (Backup, Member, error) {
	b, by, err := verifyStatement(MaxBackup, backupContext, doc, d, Backup.at, Backup.check)
	if err == nil {
		err = says(b.Domain, b.Box, d, by)
	}
	if err != nil {
		return Backup{}, Member{}, fmt.Errorf("open backup: %w", err)
	}
	return b, by, nil
}
