package hsm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/keyrelease/krabox/hsm/wire"
)

const (
	tokenFolder = "tokens"        // below Config.Dir
	confName    = "softhsm2.conf" // below Config.Dir
	lockSuffix  = ".lock"         // SoftHSM makes its lock files when it needs them

	// racyFor is how long after a file's time stamp it may change again without getting another.
	racyFor = time.Second
)

// A folder is where SoftHSM keeps its token, best on a tmpfs: SoftHSM never syncs, so what counts is the copy of each
// file that the owner of the box commits. A folder without a path is a module that keeps its own files.
type folder struct {
	path string
	seen map[string]stamp // as last reported
	at   time.Time        // when seen was read
}

// A stamp tells whether a file changed, as git's index does: by its inode, unless that is too young to tell.
type stamp struct {
	size  int64
	mtime time.Time
	inode uint64
	hash  [32]byte
}

// newFolder writes SoftHSM's configuration and fills an empty folder with files.
func newFolder(c Config, files wire.Files) (*folder, error) {
	if c.Dir == "" {
		if len(files) > 0 {
			return nil, fmt.Errorf("restore token files: the module keeps its own")
		}
		return &folder{}, nil
	}
	f := &folder{path: filepath.Join(c.Dir, tokenFolder)}
	if err := os.RemoveAll(f.path); err != nil {
		return nil, fmt.Errorf("clear token folder: %w", err)
	}
	if err := os.Mkdir(f.path, 0o700); err != nil {
		return nil, fmt.Errorf("make token folder: %w", err)
	}
	conf := filepath.Join(c.Dir, confName)
	text := "directories.tokendir = " + f.path + "\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\nslots.mechanisms = ALL\nlibrary.reset_on_fork = false\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write module configuration: %w", err)
	}
	// C_Initialize reads it with getenv; cgo keeps both environments alike.
	if err := os.Setenv("SOFTHSM2_CONF", conf); err != nil {
		return nil, fmt.Errorf("name module configuration: %w", err)
	}
	return f, f.restore(files)
}

func (f *folder) restore(files wire.Files) error {
	for name, data := range files {
		if !validName(name) || data == nil {
			return fmt.Errorf("restore token files: %.80q is not the name of one", name)
		}
		path := filepath.Join(f.path, name)
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !os.IsExist(err) {
			return fmt.Errorf("restore token files: %w", err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return fmt.Errorf("restore token files: %w", err)
		}
	}
	return nil
}

// validName accepts what SoftHSM makes: FOLDER/FILE.
func validName(name string) bool {
	dir, file, ok := strings.Cut(name, "/")
	return ok && len(name) <= wire.MaxName && validPart(dir) && validPart(file) && !strings.HasSuffix(file, lockSuffix)
}

func validPart(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return s != "" && s[0] != '.'
}

// same reports whether files are what was last reported.
func (f *folder) same(files wire.Files) bool {
	if len(files) != len(f.seen) {
		return false
	}
	for name, data := range files {
		if s, ok := f.seen[name]; !ok || data == nil || s.hash != sha256.Sum256(data) {
			return false
		}
	}
	return true
}

// changes returns what is not as last reported; nil stands for a removed file.
func (f *folder) changes() (wire.Files, error) {
	if f.path == "" {
		return nil, nil
	}
	changed := wire.Files{}
	now, began := make(map[string]stamp, len(f.seen)), time.Now()
	root := os.DirFS(f.path)
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(name, lockSuffix) {
			return err
		}
		s, data, err := f.look(root, name, d)
		if err != nil {
			return err
		}
		now[name] = s
		if data != nil {
			changed[name] = data
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("scan token files: %w", err)
	}
	for name := range f.seen {
		if _, ok := now[name]; !ok {
			changed[name] = nil
		}
	}
	f.seen, f.at = now, began
	return changed, nil
}

// look returns the file's stamp, and its bytes if they changed.
func (f *folder) look(root fs.FS, name string, d fs.DirEntry) (stamp, []byte, error) {
	info, err := d.Info()
	if err != nil {
		return stamp{}, nil, err
	}
	s := stamp{size: info.Size(), mtime: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	old, known := f.seen[name]
	s.hash = old.hash
	if known && s == old && f.at.Sub(s.mtime) > racyFor {
		return s, nil, nil
	}
	data, err := fs.ReadFile(root, name)
	if err != nil {
		return stamp{}, nil, err
	}
	s.hash = sha256.Sum256(data)
	if known && s.hash == old.hash {
		return s, nil, nil
	}
	return s, bytes.Clone(data), nil
}

// clear removes the token's files.
func (f *folder) clear() error {
	if f.path == "" {
		return nil
	}
	return os.RemoveAll(f.path)
}
