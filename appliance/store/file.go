package store

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"
)

// ErrDamaged is wrapped by errors about a file that is not, in all its parts, what this box wrote.
var ErrDamaged = errors.New("the state file is damaged")

const (
	metaBucket  = "meta" // wraps in the clear, mark and secret sealed
	wrapsName   = "wraps"
	markName    = "mark"
	secretName  = "secret"
	lockTimeout = 2 * time.Second
)

// A markRecord is the mark on the disk, with the root that all records must have.
type markRecord struct {
	mark
	Root [32]byte
}

// A file is a state's bbolt file. One goroutine at a time.
type file struct {
	path   string
	db     *bolt.DB
	seal   sealer
	holder holder   // of the wrap in force
	lock   *Lock    // of that wrap
	gone   int      // of that wrap
	secret [32]byte // see Accepted.Secret
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
func createFile(path string, key [32]byte, st *State) (*file, error) {
	h, err := newHolder(key)
	if err != nil {
		return nil, err
	}
	f := &file{holder: h}
	rand.Read(f.secret[:])
	k := newDataKey()
	defer clear(k[:])
	w, err := h.wrap(k, nil, 0)
	if err != nil {
		return nil, err
	}
	if err := f.place(path, k, []wrap{w}, func() error { return f.write(st) }); err != nil {
		return nil, err
	}
	return f, nil
}

// place makes the file under another name with fill and gives it its own, replacing what is there. With an error it is closed.
func (f *file) place(path string, k dataKey, wraps []wrap, fill func() error) (err error) {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if f.seal, err = newSealer(k); err != nil {
		return err
	}
	if f.db, err = openBolt(tmp); err != nil {
		return err
	}
	f.path = path
	err = f.head(wraps)
	if err == nil {
		err = fill()
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errors.Join(err, f.close(), os.Remove(tmp))
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return errors.Join(errPlaced, err, f.close())
	}
	return nil
}

// errPlaced is wrapped by an error that came when the name was already the new file's.
var errPlaced = errors.New("the file was replaced")

// head writes what comes before any record: the wraps, and the secret.
func (f *file) head(wraps []wrap) error {
	all, err := json.Marshal(wraps)
	if err != nil {
		return err
	}
	return guarded(func() error {
		return f.db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(metaBucket))
			if err != nil {
				return err
			}
			_, sealed := f.seal.seal(metaBucket, secretName, 0, f.secret[:])
			return errors.Join(b.Put([]byte(wrapsName), all), b.Put([]byte(secretName), sealed))
		})
	})
}

// settle drops all wraps but the one in force.
func (f *file) settle() error {
	return guarded(func() error {
		return f.db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte(metaBucket))
			all, err := readWraps(b.Get([]byte(wrapsName)))
			if err != nil {
				return err
			}
			k, w, err := f.holder.unwrapAny(all)
			clear(k[:])
			if err != nil || len(all) == 1 {
				return err
			}
			one, err := json.Marshal([]wrap{w})
			if err != nil {
				return err
			}
			return b.Put([]byte(wrapsName), one)
		})
	})
}

// rekeyed puts the same records into the place of the file under a fresh data key, wrapped by the holder in force and by next. The file itself is
// as it was, and no longer has a name.
func (f *file) rekeyed(next holder, lock *Lock, gone int) (*file, error) {
	var st unix.Stat_t
	if err := unix.Stat(f.path, &st); err != nil {
		return nil, fmt.Errorf("look at the state file: %w", err)
	}
	if err := roomFor(filepath.Dir(f.path), st.Blocks*512/2); err != nil { // once more
		return nil, err
	}
	k := newDataKey()
	defer clear(k[:])
	old, err := f.holder.wrap(k, f.lock, f.gone)
	if err != nil {
		return nil, err
	}
	fresh, err := next.wrap(k, lock, gone)
	if err != nil {
		return nil, err
	}
	n := &file{holder: f.holder, lock: f.lock, gone: f.gone, secret: f.secret}
	err = n.place(f.path, k, []wrap{old, fresh}, func() error { return guarded(func() error { return f.copyTo(n) }) })
	if err != nil {
		return nil, err
	}
	return n, nil
}

// copyBatch is how many records one transaction copies.
const copyBatch = 4096

// copyTo copies every record, mark included, each with its generation.
func (f *file) copyTo(n *file) error {
	return f.db.View(func(from *bolt.Tx) error {
		return from.ForEach(func(bucket []byte, b *bolt.Bucket) error {
			c := b.Cursor()
			name, sealed := c.First()
			for more := true; more; more = name != nil {
				err := n.db.Update(func(to *bolt.Tx) error {
					into, err := to.CreateBucketIfNotExists(bucket)
					for i := 0; err == nil && name != nil && i < copyBatch; i++ {
						err = f.copyRecord(n, into, string(bucket), name, sealed)
						name, sealed = c.Next()
					}
					return err
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func (f *file) copyRecord(n *file, into *bolt.Bucket, bucket string, name, sealed []byte) error {
	if bucket == metaBucket {
		if string(name) != markName {
			return nil // the new file has its own
		}
		name = f.seal.name(metaBucket, markName)
	}
	key, value, err := f.seal.open(bucket, name, sealed)
	if err != nil {
		return fmt.Errorf("%w: a %s record: %w", ErrDamaged, bucket, err)
	}
	defer clear(value)
	named, again := n.seal.seal(bucket, key, binary.BigEndian.Uint64(sealed), value)
	if bucket == metaBucket {
		named = []byte(markName)
	}
	return into.Put(named, again)
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
	f, st := &file{path: path, db: db}, newState()
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
	if meta == nil {
		return fmt.Errorf("%w: it is no state file", ErrDamaged)
	}
	if err := f.unlock(meta, key); err != nil {
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
	all, err := f.records(tx, st.buckets()...)
	if err != nil {
		return err
	}
	st.settle()
	st.tree = st.tree.update(all)
	st.stamp(m.mark)
	if st.root != m.Root {
		return fmt.Errorf("%w: its records are not those of generation %d", ErrDamaged, m.Generation)
	}
	return nil
}

// unlock opens what comes before any record.
func (f *file) unlock(meta *bolt.Bucket, key [32]byte) (err error) {
	if f.holder, err = newHolder(key); err != nil {
		return err
	}
	all, err := readWraps(meta.Get([]byte(wrapsName)))
	if err != nil {
		return err
	}
	k, w, err := f.holder.unwrapAny(all)
	if err != nil {
		return err
	}
	defer clear(k[:])
	f.lock, f.gone = w.Lock, w.Gone
	if f.seal, err = newSealer(k); err != nil {
		return err
	}
	_, secret, err := f.seal.open(metaBucket, f.seal.name(metaBucket, secretName), meta.Get([]byte(secretName)))
	if err != nil || len(secret) != len(f.secret) {
		return fmt.Errorf("%w: its secret does not open", ErrDamaged)
	}
	defer clear(secret)
	copy(f.secret[:], secret)
	return nil
}

// records reads the buckets into their tables: a part of the records is opened on each processor, and then a table filled.
func (f *file) records(tx *bolt.Tx, of ...bucket) ([]edit, error) {
	type record struct {
		table        bucket
		name, sealed []byte
	}
	var records []record
	first := make([]int, 1, len(of)+1) // record of each bucket
	for _, t := range of {
		if b := tx.Bucket([]byte(t.bucketName())); b != nil {
			if err := b.ForEach(func(name, sealed []byte) error {
				records = append(records, record{t, name, sealed})
				return nil
			}); err != nil {
				return nil, err
			}
		}
		first = append(first, len(records))
	}
	all, puts := make([]edit, len(records)), make([]func(), len(records))
	if err := beside(len(records), func(i int) error {
		r := records[i]
		key, value, err := f.seal.open(r.table.bucketName(), r.name, r.sealed)
		if err != nil {
			return fmt.Errorf("%w: a %s record: %w", ErrDamaged, r.table.bucketName(), err)
		}
		all[i] = edit{r.table.bucketName(), key, value, true}
		puts[i], err = r.table.decode(key, value)
		return err
	}); err != nil {
		return nil, err
	}
	return all, beside(len(of), func(i int) error {
		for _, put := range puts[first[i]:first[i+1]] {
			put()
		}
		return nil
	})
}

// files reads the token's files.
func (f *file) files() (map[string][]byte, error) {
	out := map[string][]byte{}
	var t fileTable
	t.name = fileBucket
	err := guarded(func() error {
		return f.db.View(func(tx *bolt.Tx) error {
			all, err := f.records(tx, &t)
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
