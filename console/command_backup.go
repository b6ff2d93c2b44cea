package console

// A Disk is a disk's name, such as sdb.
type Disk string

// The commands of backups.
type (
	// BackupKeyShares makes a new backup key, of which so many shares open a backup.
	BackupKeyShares struct {
		confirmed
		Threshold, Shares int
	}
	// BackupKeyAge makes one that is encrypted to recipients of age.
	BackupKeyAge struct {
		confirmed
		Recipients []string
	}
	BackupKeyNext struct{ quiet }
	// BackupKeyRequest prints what the domain needs to approve a backup key.
	BackupKeyRequest struct{ quiet }
	// BackupKeyAccept takes the domain's approval.
	BackupKeyAccept struct{ pasted }
	BackupShare     struct{ pasted }
	BackupMake      struct{ confirmed }
	BackupVerify    struct{ pasted }
	BackupRestore   struct {
		pasted
		Box Box
	}
	BackupShow struct{ quiet }

	// BackupDisks lists the disks that a backup may be put on.
	BackupDisks    struct{ quiet }
	BackupMakeDisk struct {
		confirmed
		Disk Disk
	}
	BackupVerifyDisk struct {
		quiet
		Disk Disk
	}
	BackupRestoreDisk struct {
		confirmed
		Box  Box
		Disk Disk
	}
)
