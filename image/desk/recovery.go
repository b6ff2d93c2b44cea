package desk

import (
	"crypto/ecdsa"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm"
)

// RecoveryWarning is what a caller must tell who approves by the recovery key.
const RecoveryWarning = "the recovery key approves what the label key no longer can. Boxes take it on the next boot like any approval;\n" +
	"challengers see no version, since only the label key signs those. If the label key is lost, or others may have it, make a new\n" +
	"domain folder, build its image, and enrol each box again: boxes obey the keys in their image."

func runRecovery(args []string, out, talk io.Writer) error {
	f := flags("recovery", talk)
	var o order
	o.forFleet(f)
	share := f.String("share", "", "files of shares")
	quorum := f.String("recovery", "", "K/N")
	dir := f.String("shares", "", "folder of the shares")
	keep := f.Bool("keep", false, "leave the whole key where it is")
	lost := f.Bool("label-key-lost", false, "nobody can sign by the label key any more: note nothing in the journal")
	said, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	if len(said) != 1 || said[0] != "split" && said[0] != "approve" {
		return errors.New("recovery: say split or approve")
	}
	if said[0] == "approve" {
		return o.recover(f, words(*share), *lost, out)
	}
	if err := need(f, "dir", "recovery", "shares"); err != nil {
		return err
	}
	q, err := quorumOf(*quorum, *dir)
	if err != nil {
		return fmt.Errorf("recovery split: %w", err)
	}
	d, err := openDesk(f, o.dir)
	if err != nil {
		return err
	}
	if err := q.check(d.domain.Name); err != nil {
		return fmt.Errorf("recovery split: %w", err)
	}
	lines := []string{fmt.Sprintf("to write   %d shares of the recovery key into %s, of which it takes %d", q.Of, q.Dir, q.Need)}
	if !*keep {
		lines = append(lines, "to remove  the whole recovery key, when the shares were read again and give it")
	}
	return o.carryOut(f, io.Discard, lines, func() ([]byte, error) { return nil, d.SplitRecovery(q, *keep) })
}

// SplitRecovery writes the recovery key as shares. Unless it is kept, the whole key is removed when the shares were seen to give it.
func (d *Desk) SplitRecovery(q Quorum, keep bool) error {
	ending, err := form(d.dir, recoveryKey)
	if err != nil {
		return fmt.Errorf("split recovery key: %w; if it is in shares already, keep those", err)
	}
	k, err := d.openKey(recoveryKey)
	if err != nil {
		return fmt.Errorf("split recovery key: %w", err)
	}
	whole, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return errors.New("split recovery key: it is in a token")
	}
	if p, err := label.NewKey(&whole.PublicKey); err != nil || p != d.domain.Recovery {
		return errors.New("split recovery key: the file holds another key than the domain's")
	}
	if err := q.check(d.domain.Name); err != nil {
		return fmt.Errorf("split recovery key: %w", err)
	}
	files, err := splitKey(whole, d.domain.Name, q)
	if err == nil {
		err = d.note(actSplit, d.domain.Name, map[string]string{"need": fmt.Sprint(q.Need), "of": fmt.Sprint(q.Of), "whole-key-kept": fmt.Sprint(keep)})
	}
	if err != nil { // shares of which nobody knows are nobody's
		for _, f := range files {
			err = errors.Join(err, os.Remove(f))
		}
		return fmt.Errorf("split recovery key: %w", err)
	}
	if keep {
		return nil
	}
	return os.Remove(filepath.Join(d.dir, recoveryKey+ending))
}

// recover approves a release by the recovery key.
func (o order) recover(f *flag.FlagSet, share []string, lost bool, out io.Writer) error {
	if err := need(f, "dir", "manifest"); err != nil {
		return err
	}
	d, r, err := o.open(f)
	if err != nil {
		return err
	}
	like, err := readAll(words(o.like))
	if err != nil {
		return err
	}
	warn(f.Output(), RecoveryWarning)
	if d.hands.LabelLost = lost; lost {
		warn(f.Output(), UnnotedWarning)
	}
	sets, err := d.fleet(r, like)
	if err != nil {
		return err
	}
	lines := []string{fmt.Sprintf("release    %s, epoch %d, by the recovery key", r.Description(), r.Epoch)}
	for _, v := range sets {
		lines = append(lines, "to sign    approvals of all labels for machines with")
		lines = append(lines, registers(v)...)
	}
	key, err := d.recoveryKey(share)
	if err != nil {
		return err
	}
	return o.carryOut(f, out, lines, func() ([]byte, error) { return d.RecoverFleet(r, key, like...) })
}

// recoveryKey comes from shares, or from the folder while it is whole.
func (d *Desk) recoveryKey(share []string) (*ecdsa.PrivateKey, error) {
	var k *ecdsa.PrivateKey
	if len(share) > 0 {
		var err error
		if k, err = combineKey(share); err != nil {
			return nil, fmt.Errorf("recovery key: %w", err)
		}
	} else {
		s, err := d.openKey(recoveryKey)
		if err != nil {
			return nil, fmt.Errorf("recovery key: %w; name its shares by -share FILE,FILE", err)
		}
		k, _ = s.(*ecdsa.PrivateKey)
	}
	if k == nil {
		return nil, errors.New("recovery key: it is in a token")
	}
	if p, err := label.NewKey(&k.PublicKey); err != nil || p != d.domain.Recovery {
		return nil, fmt.Errorf("recovery key: what was given is another key than that of domain %s", d.domain.Name)
	}
	return k, nil
}

// UnnotedWarning is what a caller must tell who says that the label key is lost.
const UnnotedWarning = "without the label key nobody can note this in the domain's journal: write it down elsewhere."

// RecoverFleet approves a release by the recovery key, in a bundle that it signs.
func (d *Desk) RecoverFleet(r Release, key *ecdsa.PrivateKey, like ...[]byte) ([]byte, error) {
	sets, err := d.fleet(r, like)
	if err != nil {
		return nil, err
	}
	labels, err := d.chosen(r.Labels)
	if err != nil {
		return nil, err
	}
	b, err := d.newBundle()
	if err != nil {
		return nil, err
	}
	for _, values := range sets {
		if err := d.approve(&b, tpm.Desk{Domain: d.domain, By: label.ByRecovery, Key: key}, r, labels, values); err != nil {
			return nil, err
		}
	}
	text, err := b.Sign(key)
	if err != nil {
		return nil, err
	}
	if err := d.noteRecovered(r, b, text); err != nil {
		return nil, err
	}
	return text, nil
}

// noteRecovered notes the act. Recovery is also for the day when the label key, which signs the journal, is lost: then somebody has to say so.
func (d *Desk) noteRecovered(r Release, b label.Bundle, text []byte) error {
	if d.hands.LabelLost {
		return nil
	}
	err := d.note(actRecover, r.Description(), map[string]string{"epoch": fmt.Sprint(r.Epoch), "approvals": fmt.Sprint(len(b.Approvals)), "bundle": digest(text)})
	if err != nil {
		return fmt.Errorf("%w; if the label key is lost for good, say -label-key-lost: then this is in no journal", err)
	}
	return nil
}
