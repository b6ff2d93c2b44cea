package store

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// ErrDamaged is wrapped by errors about a file that is not, in all its parts, what this box wrote.
var ErrDamaged = errors.New("the state file is damaged")

const (
	metaBucket  = "meta" // salt in the clear, mark sealed
	saltName    = "salt"
	markName    = "mark"
	lockTimeout = 2 * time.Second
)

// A markRecord is the mark on the disk, with the root that all records must have.
type markRecord struct {
	mark
	Root [32]byte
}

// A file is a state's bbolt file. One goroutine at a time.
type file struct {
	db   *bolt.DB
	seal sealer
}

// guarded runs f and turns what bbolt does on a damaged file, panics and faults of its memory map, into an error.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	return f()
}

func openBolt(path string) (db *bolt.DB, err error) {
	err = guarded(func() error {
		db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType})
		return err
	})
	if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, bolterrors.ErrTimeout) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return db, err
}

// createFile writes a state to a new file and only then gives it the name, replacing what is there.
func createFile(path string, key [32]byte, st *State) (_ *file, err error) {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	db, err := openBolt(tmp)
	if err != nil {
		return nil, err
	}
	f := &file{db: db}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	salt := make([]byte, saltSize)
	rand.Read(salt)
	if f.seal, err = newSealer(key, salt); err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte(metaBucket))
		if err != nil {
			return err
		}
		return b.Put([]byte(saltName), salt)
	})
	if err != nil {
		return nil, err
	}
	if err := f.write(st); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, path); err != nil {
		return nil, err
	}
	return f, syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// write makes a draft's edits and its mark durable, all or none.
func (f *file) write(st *State) error {
	err := guarded(func() error {
		return f.db.Update(func(tx *bolt.Tx) error {
			for _, e := range st.edits {
				if err := f.put(tx, st.mark.Generation, e); err != nil {
					return err
				}
			}
			m, err := json.Marshal(markRecord{st.mark, st.root})
			if err != nil {
				return err
			}
			_, sealed := f.seal.seal(metaBucket, markName, st.mark.Generation, m)
			return tx.Bucket([]byte(metaBucket)).Put([]byte(markName), sealed)
		})
	})
	if err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	return nil
}

func (f *file) put(tx *bolt.Tx, generation uint64, e edit) error {
	b, err := tx.CreateBucketIfNotExists([]byte(e.bucket))
	if err != nil {
		return err
	}
	if !e.there {
		return b.Delete(f.seal.name(e.bucket, e.key))
	}
	name, sealed := f.seal.seal(e.bucket, e.key, generation, e.value)
	return b.Put(name, sealed)
}

// openFile opens the file and reads the whole state; its root must be the one it was written with.
func openFile(path string, key [32]byte) (*file, *State, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, nil, err
	}
	db, err := openBolt(path)
	if err != nil {
		return nil, nil, err
	}
	f, st := &file{db: db}, newState()
	err = guarded(func() error {
		return db.View(func(tx *bolt.Tx) error { return f.read(tx, key, st) })
	})
	if err != nil {
		return nil, nil, errors.Join(err, f.close())
	}
	return f, st, nil
}

func (f *file) read(tx *bolt.Tx, key [32]byte, st *State) error {
	meta := tx.Bucket([]byte(metaBucket))
	if meta == nil || len(meta.Get([]byte(saltName))) != saltSize {
		return fmt.Errorf("%w: it is no state file", ErrDamaged)
	}
	var err error
	if f.seal, err = newSealer(key, meta.Get([]byte(saltName))); err != nil {
		return err
	}
	_, plain, err := f.seal.open(metaBucket, f.seal.name(metaBucket, markName), meta.Get([]byte(markName)))
	if err != nil {
		return fmt.Errorf("%w: its mark does not open: it is of another box, or was edited", ErrDamaged)
	}
	var m markRecord
	if err := json.Unmarshal(plain, &m); err != nil {
		return fmt.Errorf("%w: its mark does not parse", ErrDamaged)
	}
	var all []edit
	for _, t := range st.buckets() {
		some, err := f.readBucket(tx, t)
		if err != nil {
			return err
		}
		all = append(all, some...)
	}
	st.settle()
	st.tree = st.tree.update(all)
	st.stamp(m.mark)
	if st.root != m.Root {
		return fmt.Errorf("%w: its records are not those of generation %d", ErrDamaged, m.Generation)
	}
	return nil
}

func (f *file) readBucket(tx *bolt.Tx, t bucket) (all []edit, err error) {
	b := tx.Bucket([]byte(t.bucketName()))
	if b == nil {
		return nil, nil
	}
	err = b.ForEach(func(name, sealed []byte) error {
		key, value, err := f.seal.open(t.bucketName(), name, sealed)
		if err != nil {
			return fmt.Errorf("%w: a %s record: %w", ErrDamaged, t.bucketName(), err)
		}
		all = append(all, edit{t.bucketName(), key, value, true})
		return t.decode(key, value)
	})
	return all, err
}

// files reads the token's files.
func (f *file) files() (map[string][]byte, error) {
	out := map[string][]byte{}
	var t fileTable
	t.name = fileBucket
	err := guarded(func() error {
		return f.db.View(func(tx *bolt.Tx) error {
			all, err := f.readBucket(tx, &t)
			for _, e := range all {
				out[e.key] = e.value
			}
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read token files: %w", err)
	}
	return out, nil
}

func (f *file) close() error {
	if f == nil || f.db == nil {
		return nil
	}
	err := guarded(f.db.Close)
	f.db = nil
	return err
}
