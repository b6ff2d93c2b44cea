package admin

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/keyrelease/krabox/appliance/backup"
	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/kra/label"
)

func (s *step) backupDisks(ctx context.Context) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	all, err := s.disks(ctx)
	if err != nil {
		return err
	}
	for _, d := range all {
		field(s, d.Name, diskWords(d)+": "+printable(d.Holds))
	}
	if len(all) == 0 {
		return s.say("There is no disk but the box's own. Plug one in and look again.")
	}
	return nil
}

func (s *step) disks(ctx context.Context) ([]machine.Disk, error) {
	if s.a.c.Machine == nil {
		return nil, errHost
	}
	return s.a.c.Machine.Disks(context.WithoutCancel(ctx)) // an exchange that is cut off would be the last one with process 1
}

// disk is the one with a name, as it is now.
func (s *step) disk(ctx context.Context, name console.Disk) (machine.Disk, error) {
	all, err := s.disks(ctx)
	if err != nil {
		return machine.Disk{}, err
	}
	i := slices.IndexFunc(all, func(d machine.Disk) bool { return d.Name == string(name) })
	switch {
	case i < 0:
		return machine.Disk{}, fmt.Errorf("there is no disk %s, or it is the box's own; those that there are: backup disks", name)
	case all[i].Mark == "":
		return machine.Disk{}, fmt.Errorf("disk %s %s", name, printable(all[i].Holds))
	}
	return all[i], nil
}

// asked holds what is done to a disk, or with what is on it, to what the officer was asked about: between question and answer somebody may plug
// in another one. It is called before the question, each time.
func (s *step) asked(name console.Disk, is string) error {
	h := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s", s.officer.Name, s.line, is))
	if len(s.answers) == 0 && (s.approved == nil || s.dry != nil) {
		s.a.shown = h
		return nil
	}
	if s.a.shown != h {
		return fmt.Errorf("nothing was done: disk %s is not the one that the question was about, or holds something else now; look again: backup disks", name)
	}
	return nil
}

// backupMakeDisk writes a backup on a disk. That it was made is said, and noted, when it was read back.
func (s *step) backupMakeDisk(ctx context.Context, c console.BackupMakeDisk) error {
	d, err := s.disk(ctx, c.Disk)
	if err != nil {
		return err
	}
	if err := s.asked(c.Disk, string(d.Mark)); err != nil {
		return err
	}
	what := fmt.Sprintf("Overwrite the whole disk %s (%s). ALL THAT IT HOLDS IS LOST: %s. Write there a backup", d.Name, diskWords(d), printable(d.Holds))
	if d.Holds == "empty" {
		what = fmt.Sprintf("Write on disk %s (%s), which is empty, a backup", d.Name, diskWords(d))
	}
	return s.makeBackup(ctx, what, label.MaxBackup, func(b label.Backup, text []byte) (string, error) {
		made, err := time.Parse(time.RFC3339, b.Made)
		if err != nil {
			return "", err
		}
		if err := s.a.c.Machine.WriteDisk(ctx, d, machine.Title{Box: b.Box, Made: made}, text); err != nil {
			return "", fmt.Errorf("no backup was made: %w", err)
		}
		if err := s.commit(ctx, store.BackupMade{At: time.Now()}); err != nil {
			return "", fmt.Errorf("the backup is on disk %s, and the box could not note that: %w", d.Name, err)
		}
		return fmt.Sprintf("It is on disk %s, %d bytes, and was read back; unplug the disk and keep it anywhere. Whether it is whole: backup verify from disk", d.Name, len(text)), nil
	})
}

func (s *step) backupVerifyDisk(ctx context.Context, c console.BackupVerifyDisk) error {
	if err := s.mayVerify(); err != nil {
		return err
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	o, _, err := s.fromDisk(ctx, c.Disk)
	if err != nil {
		return err
	}
	return s.verify(ctx, o)
}

func (s *step) backupRestoreDisk(ctx context.Context, c console.BackupRestoreDisk) error {
	if err := s.state().CheckNew(); err != nil {
		return err
	}
	o, text, err := s.fromDisk(ctx, c.Disk)
	if err != nil {
		return err
	}
	s.depends(text)
	if err := s.asked(c.Disk, text.String()); err != nil {
		return err
	}
	return s.awaitShares(ctx, c.Box, o)
}

// fromDisk reads the backup on a disk, and says which text it was.
func (s *step) fromDisk(ctx context.Context, name console.Disk) (o awaited, is label.Digest, err error) {
	d, err := s.disk(ctx, name)
	if err != nil {
		return o, is, err
	}
	text, err := s.a.c.Machine.ReadDisk(ctx, d)
	if err != nil {
		return o, is, err
	}
	o, err = s.opened(text)
	return o, sha256.Sum256([]byte(text)), err
}

// What process 1 writes is as much as is read here.
var _ = [1]int{}[machine.MaxBackup-backup.MaxArmor]

// diskWords is what tells a disk from others.
func diskWords(d machine.Disk) string {
	return fmt.Sprintf("%s, serial %s, %s, by %s", orElse(printable(d.Model), "of unknown make"), orElse(printable(d.Serial), "unknown"), bytesOf(d.Size), d.Bus)
}

// bytesOf is a size as it is printed on disks, in powers of ten.
func bytesOf(n int64) string {
	for _, u := range []struct {
		of   int64
		name string
	}{{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
		if n >= u.of {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.of), u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
