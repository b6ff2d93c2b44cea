package hsm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyrelease/krabox/hsm/wire"
)

const (
	tokenFolder = "tokens"        // below Config.Dir
	confName    = "softhsm2.conf" // below Config.Dir

	objectSuffix = ".object"
	lockSuffix   = ".lock" // beside each object lies an empty lock file, without which SoftHSM does not delete it
)

// A folder is where SoftHSM keeps its token, best on a tmpfs: SoftHSM never syncs, so what counts is the copy of each
// file that the owner of the box commits. Here files are in the clear; they leave and come back through a sealer, which
// lets in no other names than SoftHSM makes. A folder without a path is a module that keeps its own files.
type folder struct {
	path  string
	seen  map[string][32]byte // hashes of the files, as last reported
	watch *watch              // tells which files to look at; nil before the first report
}

// newFolder writes SoftHSM's configuration and fills an empty folder with files that a sealer has opened.
func newFolder(c Config, files wire.Files) (*folder, error) {
	if c.Dir == "" {
		if len(files) > 0 {
			return nil, errors.New("restore token files: the module keeps its own")
		}
		return &folder{}, nil
	}
	f := &folder{path: filepath.Join(c.Dir, tokenFolder), seen: map[string][32]byte{}}
	conf := filepath.Join(c.Dir, confName)
	text := "directories.tokendir = " + f.path + "\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\nslots.mechanisms = ALL\nlibrary.reset_on_fork = false\n"
	if err := f.empty(conf, text); err != nil {
		return nil, fmt.Errorf("empty token folder: %w", err)
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("write module configuration: %w", err)
	}
	// C_Initialize reads it with getenv; cgo keeps both environments alike.
	if err := os.Setenv("SOFTHSM2_CONF", conf); err != nil {
		return nil, fmt.Errorf("name module configuration: %w", err)
	}
	return f, f.restore(files)
}

// empty removes the token of an earlier life, which our configuration beside it tells from somebody else's.
func (f *folder) empty(conf, text string) error {
	old, err := os.ReadDir(f.path)
	if err == nil && len(old) > 0 {
		if b, err := os.ReadFile(conf); err != nil || string(b) != text {
			return fmt.Errorf("%s holds a token that is not ours", f.path)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(f.path); err != nil {
		return err
	}
	return os.Mkdir(f.path, 0o700)
}

func (f *folder) restore(files wire.Files) error {
	for name, data := range files {
		path := filepath.Join(f.path, name)
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil && !os.IsExist(err) {
			return fmt.Errorf("restore token files: %w", err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return fmt.Errorf("restore token files: %w", err)
		}
		if object, ok := strings.CutSuffix(path, objectSuffix); ok {
			if err := os.WriteFile(object+lockSuffix, nil, 0o600); err != nil {
				return fmt.Errorf("restore token files: %w", err)
			}
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
		if hash, ok := f.seen[name]; !ok || data == nil || hash != sha256.Sum256(data) {
			return false
		}
	}
	return true
}

// changes returns what is not as last reported; nil stands for a removed file. The first report has every file.
func (f *folder) changes() (wire.Files, error) {
	if f.path == "" {
		return nil, nil
	}
	names, complete, err := f.touched()
	if err == nil && !complete {
		names, err = f.all()
	}
	if err != nil {
		return nil, fmt.Errorf("scan token files: %w", err)
	}
	changed := wire.Files{}
	for name := range names {
		if err := f.look(name, changed); err != nil {
			return nil, fmt.Errorf("scan token files: %w", err)
		}
	}
	return changed, nil
}

// touched returns what was written or removed since it was last asked. If something may have escaped it, it is not
// complete, and watching begins anew.
func (f *folder) touched() (names map[string]bool, complete bool, err error) {
	if f.watch != nil {
		names, complete, err = f.watch.names()
		if complete || err != nil {
			return names, complete, err
		}
		if err := f.watch.close(); err != nil {
			return nil, false, err
		}
	}
	f.watch, err = newWatch(f.path)
	return nil, false, err
}

// all returns the names of the files that are and that were.
func (f *folder) all() (map[string]bool, error) {
	names := make(map[string]bool, len(f.seen))
	for name := range f.seen {
		names[name] = true
	}
	err := fs.WalkDir(os.DirFS(f.path), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names[name] = true
		}
		return err
	})
	return names, err
}

// look adds a file to changed if it is not as last reported.
func (f *folder) look(name string, changed wire.Files) error {
	if strings.HasSuffix(name, lockSuffix) {
		return nil
	}
	old, known := f.seen[name]
	data, err := os.ReadFile(filepath.Join(f.path, name))
	if errors.Is(err, fs.ErrNotExist) {
		if known {
			changed[name] = nil
			delete(f.seen, name)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if hash := sha256.Sum256(data); !known || hash != old {
		changed[name] = data
		f.seen[name] = hash
	}
	return nil
}

// clear removes the token's files.
func (f *folder) clear() error {
	if f.path == "" {
		return nil
	}
	var err error
	if f.watch != nil {
		err = f.watch.close()
	}
	return errors.Join(err, os.RemoveAll(f.path))
}
