package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyrelease/krabox/appliance/backup"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/receipt"
)

// shareLimit is how long the box keeps what shares are being written down or typed for, in memory and nowhere else.
const shareLimit = time.Hour

// A making is a backup key that is being made.
//
//	shares, age --> (next --> share typed back) for each --> kept as asked for; the seed is forgotten
//	                                                            | request --> the domain approves --> accept
//	                                                            v
//	                                                         the box's backup key
type making struct {
	seed   backup.Seed
	key    store.BackupKey
	shares []backup.Share
	typed  []bool
	aged   []byte // of one that is encrypted to recipients of age, else nil
	until  time.Time
}

func (m *making) name() backup.KeyName { return backup.NameOf(m.key.ID()) }

func (m *making) forget() {
	m.seed.Clear()
	for _, x := range m.shares {
		x.Clear()
	}
}

// lapse forgets what nobody came back for. It needs change.
func (a *Agent) lapse() {
	if a.making != nil && !a.now().Before(a.making.until) {
		a.unmake()
	}
	if a.opening != nil && !a.now().Before(a.opening.until) {
		a.close()
	}
	if a.minting != nil && !a.now().Before(a.minting.until) {
		a.unmint()
	}
	if !a.now().Before(a.gathering.until) {
		a.gathering.forget()
	}
}

// lapsing has what is kept forgotten when its time is over, also if nobody says anything.
func (a *Agent) lapsing() {
	time.AfterFunc(shareLimit+time.Second, func() {
		a.change.Lock()
		defer a.change.Unlock()
		a.lapse()
	})
}

func (a *Agent) unmake() {
	if a.making != nil {
		a.making.forget()
		a.making = nil
	}
}

func (s *step) backupKeyShares(ctx context.Context, c console.BackupKeyShares) error {
	if c.Threshold < 2 || c.Threshold > c.Shares || c.Shares > label.MaxShares {
		return fmt.Errorf("%d of %d shares: it takes two at least, and there are %d at most", c.Threshold, c.Shares, label.MaxShares)
	}
	if err := s.confirmKey(fmt.Sprintf("%d shares, any %d of which open", c.Shares, c.Threshold)); err != nil {
		return err
	}
	if err := s.makeKey(ctx, c.Threshold, c.Shares, nil); err != nil {
		return err
	}
	return s.say("%s. One after another, each alone with who is to have it: backup key next shows a share, to be written down; backup share takes "+
		"it back, typed from the paper, within an hour. When the last was typed the domain is asked to approve the key.", count(c.Shares, "share was made", "shares were made"))
}

func (s *step) backupKeyAge(ctx context.Context, c console.BackupKeyAge) error {
	probe := backup.NewSeed() // recipients that are none are refused before anything is asked
	defer probe.Clear()
	one, err := backup.Split(probe, hsm.Peer{}, 1, 1)
	if err != nil {
		return err
	}
	if _, err := backup.ToAge(one[0], c.Recipients); err != nil {
		return err
	}
	if len(c.Recipients) > label.MaxRecipients {
		return fmt.Errorf("%d recipients: there are %d at most", len(c.Recipients), label.MaxRecipients)
	}
	if err := s.confirmKey("one text, which each of these recipients of age can decrypt alone, and which opens: " + strings.Join(c.Recipients, " ")); err != nil {
		return err
	}
	if err := s.makeKey(ctx, 1, 1, c.Recipients); err != nil {
		return err
	}
	if s.a.making.aged, err = backup.ToAge(s.a.making.shares[0], c.Recipients); err != nil {
		s.a.unmake()
		return err
	}
	return s.say("Now: backup key next prints it encrypted; keep that text. Decrypt it (age --decrypt) and type what comes out, within an hour: backup share. The domain is then asked to approve the key.")
}

func (s *step) confirmKey(how string) error {
	was := ""
	if k, ok := s.state().BackupKey(); ok {
		was = fmt.Sprintf(" Once the domain has approved it, it takes the place of backup key %s: what was made for that one, its shares still open; keep them.", backup.NameOf(k.ID()))
		s.depends(k.ID())
	}
	return s.confirm("Make a backup key, of which there is afterwards nothing but %s every backup that is made for it?%s", how, was)
}

// makeKey makes a backup key in memory, in place of one that is not finished.
func (s *step) makeKey(ctx context.Context, k, n int, recipients []string) error {
	if err := s.act(ctx); err != nil {
		return err
	}
	m := &making{seed: backup.NewSeed(), typed: make([]bool, n), until: s.a.now().Add(shareLimit)}
	public, err := m.seed.Public()
	if err != nil {
		return err
	}
	if m.shares, err = backup.Split(m.seed, hsm.PeerOf(public), k, n); err != nil {
		return err
	}
	m.key = store.BackupKey{Public: public, Threshold: k, Shares: commitments(m.shares), Recipients: recipients, Made: time.Now()}
	rand.Read(m.key.Nonce[:])
	s.a.unmake()
	s.a.making = m
	s.a.lapsing()
	return nil
}

// asks is the request that a backup key be approved, of this box.
func (s *step) asks(k store.BackupKey) label.BackupKey {
	return k.Asks(s.a.c.Domain.Hash(), s.state().Box().Name)
}

func (s *step) backupKeyNext(ctx context.Context) error {
	m := s.a.making
	if m == nil {
		return errors.New("no backup key is being made; begin with: backup key shares 2 of 3")
	}
	for i, x := range m.shares {
		if m.typed[i] {
			continue
		}
		if err := s.begin(ctx); err != nil {
			return err
		}
		if err := s.record(ctx, receipt.Command, "shows", x.String()); err != nil {
			return fmt.Errorf("nothing is shown: the log takes no record: %w", err)
		}
		if m.aged != nil {
			s.say("Backup key %s, box %s, fingerprint %s. Keep this line with the text.", x.Key, s.state().Box().Name, s.asks(m.key).Fingerprint())
			_, err := s.Write(m.aged)
			return err
		}
		s.say("Share %d of %d, of which it takes %d; backup key %s, box %s, fingerprint %s. Write it down with this line.", x.Index, x.Shares, x.Threshold, x.Key, s.state().Box().Name,
			s.asks(m.key).Fingerprint())
		fmt.Fprintln(s)
		s.Write([]byte(x.Text()))
		fmt.Fprintln(s)
		return s.say("Clear the terminal. Then type it from the paper: backup share")
	}
	return errors.New("every share was typed")
}

// backupShare takes one share, for what waits for it, or says whether it is one of the box's backup key.
func (s *step) backupShare(ctx context.Context) error {
	text, err := s.next(wire.Paste, "Type the five lines of the share.")
	if err != nil {
		return err
	}
	x, err := backup.ParseShare(text)
	if err != nil {
		return err
	}
	m, o := s.a.making, s.a.opening
	switch {
	case m != nil && m.name() == x.Key:
		return s.typed(ctx, x)
	case o != nil && backup.NameOf(hsm.Peer(o.backup.Key)) == x.Key:
		return s.given(ctx, x)
	}
	defer x.Clear()
	k, ok := s.state().BackupKey()
	if !ok {
		return fmt.Errorf("nothing here knows backup key %s; paste a backup of it first: backup verify", x.Key)
	}
	if name := backup.NameOf(k.ID()); name != x.Key {
		return fmt.Errorf("%s is not of this box's backup key, which is %s", x, name)
	}
	if err := right(x, k.Threshold, k.Shares); err != nil {
		return err
	}
	return s.say("Right: %s, of which it takes %d.", x, x.Threshold)
}

// right holds a share to what was noted of it when it was made.
func right(x backup.Share, threshold int, shares []label.Digest) error {
	if x.Threshold != threshold || x.Shares != len(shares) || !x.Is(backup.Commitment(shares[x.Index-1])) {
		return fmt.Errorf("share %d is wrong: it is not share %[1]d of backup key %s", x.Index, x.Key)
	}
	return nil
}

// typed notes that a share of a new key is on paper. With the last of them the seed is forgotten, and the domain is asked.
func (s *step) typed(ctx context.Context, x backup.Share) error {
	m := s.a.making
	defer x.Clear()
	if err := right(x, m.shares[0].Threshold, commitments(m.shares)); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	m.typed[x.Index-1] = true
	left := 0
	for _, ok := range m.typed {
		if !ok {
			left++
		}
	}
	if left > 0 {
		return s.say("Right: %s. %s to be written down: backup key next", x, count(left, "more has", "more have"))
	}
	if err := s.commit(ctx, store.BackupKeyAsk{Key: m.key}); err != nil {
		return err
	}
	s.a.unmake()
	return s.printAsked(ctx, m.key)
}

func commitments(all []backup.Share) (out []label.Digest) {
	for _, x := range all {
		out = append(out, label.Digest(x.Commitment()))
	}
	return out
}

func (s *step) backupKeyRequest(ctx context.Context) error {
	k, ok := s.state().AskedBackupKey()
	if !ok {
		return errors.New("no backup key waits for the domain's approval; begin with: backup key shares 2 of 3")
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	return s.printAsked(ctx, k)
}

// printAsked writes the request that the domain approve a backup key, signed by this box.
func (s *step) printAsked(ctx context.Context, k store.BackupKey) error {
	q := s.asks(k)
	text, err := s.sign(ctx, q.Digest(), q.Sign)
	if err != nil {
		return fmt.Errorf("the backup key is made, and what asks the domain to approve it is not: %w; try again: backup key request", err)
	}
	s.Write(text)
	field(s, "backup key", fmt.Sprintf("%s: %s", backup.NameOf(k.ID()), q.Kind()))
	field(s, "fingerprint", q.Fingerprint())
	return s.say("What opens it is on paper only, or with age's recipients. It counts when the domain has approved it. At the desk: domain backup approve, with this " +
		"text, and compare the fingerprint there with the papers; then here: backup key accept")
}

// backupKeyAccept has the token make the transfer key of the backup key that was asked for, and stores both. The module's process wants the
// domain's signed word, and an older one never again.
func (s *step) backupKeyAccept(ctx context.Context) error {
	k, ok := s.state().AskedBackupKey()
	if was, has := s.state().BackupKey(); !ok && has {
		k, ok = was, true // whose transfer key may have been lost with a commit
	}
	if !ok {
		return errors.New("no backup key waits for the domain's approval; begin with: backup key shares 2 of 3")
	}
	text, err := s.next(wire.Paste, "Paste the domain's approval (KRA BACKUP KEY APPROVAL).")
	if err != nil {
		return err
	}
	if len(text) > hsm.MaxRequest {
		return fmt.Errorf("refused, nothing was done: %d bytes, and an approval has at most %d; paste it alone", len(text), hsm.MaxRequest)
	}
	a, err := label.OpenBackupApproval([]byte(text), s.a.c.Domain)
	if err != nil {
		return fmt.Errorf("refused, nothing was done: %w", err)
	}
	if asked := s.asks(k); a.Key.Digest() != asked.Digest() {
		return fmt.Errorf("refused, nothing was done: that approves the backup key with fingerprint %s of box %s, and this box asked for %s", a.Key.Fingerprint(), a.Key.Box, asked.Fingerprint())
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	k.Number = a.Number
	if err := s.admitKey(ctx, k, []byte(text)); err != nil {
		return err
	}
	return s.say("Backup key %s is this box's, approved by the domain as its number %d. Print a backup now, and every day: backup make", backup.NameOf(k.ID()), a.Number)
}

func (s *step) admitKey(ctx context.Context, k store.BackupKey, approval []byte) error {
	before, err := s.a.c.HSM.Status(ctx)
	if err != nil {
		return err
	}
	pins := s.state().PINs()
	defer s.follow(ctx) // an admission ends the log-in that loaded keys belong to
	letter, files, err := s.a.c.HSM.Admit(ctx, hsm.Token{PIN: pins.User.Bytes(), SOPIN: pins.SO.Bytes()}, approval)
	if err != nil {
		return err
	}
	k.Letter = letter
	if err := s.commit(ctx, store.BackupKeySet{Key: k, Files: files}); err != nil {
		return fmt.Errorf("%w; the token has taken the backup key already, and no older one: paste the approval again", err)
	}
	return s.refresh(ctx, before)
}

func (s *step) backupShow() error {
	k, ok := s.state().BackupKey()
	if !ok {
		field(s, "backup key", "none: begin with backup key shares 2 of 3")
	} else {
		field(s, "backup key", fmt.Sprintf("%s, %d of %s, made %s, approved as number %d", backup.NameOf(k.ID()), k.Threshold, count(len(k.Shares), "share", "shares"), stamp(k.Made), k.Number))
		field(s, "fingerprint", s.asks(k).Fingerprint())
		field(s, "last backup", stamp(k.Last))
	}
	if k, ok := s.state().AskedBackupKey(); ok {
		field(s, "not approved", fmt.Sprintf("backup key %s, made %s, fingerprint %s: backup key request", backup.NameOf(k.ID()), stamp(k.Made), s.asks(k).Fingerprint()))
	}
	if m := s.a.making; m != nil {
		field(s, "being made", fmt.Sprintf("backup key %s, until %s", m.name(), stamp(m.until)))
	}
	if o := s.a.opening; o != nil {
		field(s, "being opened", fmt.Sprintf("backup of box %s: %d of %d shares, until %s", o.backup.Box, len(o.shares), o.backup.Threshold, stamp(o.until)))
	}
	keys, lost := s.cargo()
	field(s, "a backup has", count(len(keys), "key", "keys"))
	if k, ok := s.state().BackupKey(); ok {
		b, err := s.newBackup(k, keys, lost)
		if err == nil {
			err = fits(b, label.MaxDocument)
		}
		switch {
		case err != nil && fits(b, label.MaxBackup) == nil:
			field(s, "disks only", err.Error())
		case err != nil:
			field(s, "NO BACKUP", err.Error())
		}
	}
	for _, l := range lostLines(lost) {
		field(s, "LOST if this", "box is lost: "+l)
	}
	return nil
}
