package qemu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// sectorSize is what a disk writes as a whole or not at all, in bytes.
const sectorSize = 512

// A Volatile serves a disk image over NBD (the protocol's fixed newstyle negotiation, without structured replies) as a disk with a write
// cache: what the guest has not had flushed is lost, or kept, sector by sector and in any order when the power is cut.
type Volatile struct {
	// Forgetful keeps nothing at a flush: what a system without fsync would have. Set it before the first connection.
	Forgetful bool

	image *os.File
	size  int64
	l     net.Listener
	dir   string
	done  sync.WaitGroup

	mu      sync.Mutex
	on      bool
	conns   map[net.Conn]bool
	cache   map[int64][]byte // by sector, what the guest sees of what was not flushed
	written []writing        // the same in its order, each write of a sector
	flushes int
	torn    *rand.Rand // from a cut until a write that was on its way has met it
	fuse    *fuse      // until it has blown
}

// A fuse cuts the power with a write.
type fuse struct {
	writes   int // that are still served; with the next one it blows
	r        *rand.Rand
	survives float64
	blown    chan<- Loss
}

// A Loss is what a cut has cost.
type Loss struct {
	Sectors int
	Err     error
}

type writing struct {
	sector int64
	data   []byte
}

// NewVolatile serves the image at path on a socket of its own. The disk is on.
func NewVolatile(path string) (_ *Volatile, err error) {
	v := &Volatile{on: true, conns: map[net.Conn]bool{}, cache: map[int64][]byte{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("serve disk: %w", err), v.Close())
		}
	}()
	if v.image, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	st, err := v.image.Stat()
	if err != nil {
		return nil, err
	}
	if v.size = st.Size(); v.size%sectorSize != 0 {
		return nil, fmt.Errorf("%s is no whole number of sectors", path)
	}
	if v.dir, err = os.MkdirTemp("", "disk-"); err != nil {
		return nil, err
	}
	if v.l, err = net.Listen("unix", filepath.Join(v.dir, "nbd")); err != nil {
		return nil, err
	}
	v.done.Go(v.serve)
	return v, nil
}

// Drive is the disk for Config.Drive.
func (v *Volatile) Drive() string {
	return "nbd:unix:" + filepath.Join(v.dir, "nbd") + ",format=raw,cache=none"
}

// Cut cuts the power: of what was not flushed, each write of a sector survives with this probability. It says how many did not. A write that is
// on its way then may be torn.
func (v *Volatile) Cut(r *rand.Rand, survives float64) (lost int, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.cut(r, survives)
}

// CutAfter cuts the power as Cut does when so many writes were served: with the next one, which is not answered. That is where a system that
// writes little is most easily hurt.
func (v *Volatile) CutAfter(writes int, r *rand.Rand, survives float64) <-chan Loss {
	v.mu.Lock()
	defer v.mu.Unlock()
	blown := make(chan Loss, 1)
	v.fuse = &fuse{writes, r, survives, blown}
	return blown
}

// cut needs mu.
func (v *Volatile) cut(r *rand.Rand, survives float64) (lost int, err error) {
	v.on, v.fuse = false, nil
	for c := range v.conns {
		c.Close()
	}
	for _, w := range v.written {
		if r.Float64() >= survives {
			lost++
			continue
		}
		if _, e := v.image.WriteAt(w.data, w.sector*sectorSize); e != nil {
			err = errors.Join(err, e)
		}
	}
	v.written, v.cache, v.torn = nil, map[int64][]byte{}, rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
	return lost, err
}

// Power switches the disk on again.
func (v *Volatile) Power() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.on, v.torn = true, nil
}

// Flushes is how often the guest had its writes flushed.
func (v *Volatile) Flushes() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.flushes
}

// Close ends it; what was not flushed is lost.
func (v *Volatile) Close() error {
	var err error
	if v.l != nil {
		err = v.l.Close()
		v.mu.Lock()
		v.on = false
		for c := range v.conns {
			c.Close()
		}
		v.mu.Unlock()
		v.done.Wait()
	}
	if v.dir != "" {
		err = errors.Join(err, os.RemoveAll(v.dir))
	}
	if v.image != nil {
		err = errors.Join(err, v.image.Close())
	}
	return err
}

func (v *Volatile) serve() {
	for {
		c, err := v.l.Accept()
		if err != nil {
			return
		}
		v.mu.Lock()
		if !v.on {
			c.Close()
			v.mu.Unlock()
			continue
		}
		v.conns[c] = true
		v.mu.Unlock()
		v.done.Go(func() {
			_ = v.talk(c) // QEMU sees the end of the connection
			c.Close()
			v.mu.Lock()
			delete(v.conns, c)
			v.mu.Unlock()
		})
	}
}

// Numbers of the NBD protocol.
const (
	nbdHello      = 0x4e42444d41474943 // "NBDMAGIC"
	nbdOption     = 0x49484156454f5054 // "IHAVEOPT"
	nbdReplyMagic = 0x3e889045565a9
	nbdRequest    = 0x25609513
	nbdAnswer     = 0x67446698

	nbdFixedNewstyle = 1
	nbdNoZeroes      = 2

	nbdHasFlags  = 1
	nbdSendFlush = 4
	nbdSendFUA   = 8

	nbdOptExport = 1
	nbdOptAbort  = 2
	nbdOptInfo   = 6
	nbdOptGo     = 7

	nbdAck         = 1
	nbdInfo        = 3
	nbdUnsupported = 1<<31 | 1

	nbdRead       = 0
	nbdWrite      = 1
	nbdDisconnect = 2
	nbdFlush      = 3
	nbdFUA        = 1

	nbdInvalid = 22 // EINVAL
	nbdFault   = 5  // EIO

	nbdMaxData   = 32 << 20
	nbdMaxOption = 4 << 10
)

func put(c io.Writer, parts ...any) error {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case uint16:
			b = binary.BigEndian.AppendUint16(b, p)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, p)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, p)
		case []byte:
			b = append(b, p...)
		}
	}
	_, err := c.Write(b)
	return err
}

// talk negotiates and then serves one connection to its end.
func (v *Volatile) talk(c net.Conn) error {
	const flags = uint16(nbdHasFlags | nbdSendFlush | nbdSendFUA)
	if err := put(c, uint64(nbdHello), uint64(nbdOption), uint16(nbdFixedNewstyle|nbdNoZeroes)); err != nil {
		return err
	}
	var wants uint32
	if err := binary.Read(c, binary.BigEndian, &wants); err != nil {
		return err
	}
	for {
		var q struct {
			Magic       uint64
			Option, Len uint32
		}
		if err := binary.Read(c, binary.BigEndian, &q); err != nil {
			return err
		}
		if q.Magic != nbdOption || q.Len > nbdMaxOption {
			return errors.New("not an option of NBD")
		}
		if _, err := io.CopyN(io.Discard, c, int64(q.Len)); err != nil {
			return err
		}
		reply := func(kind uint32, b []byte) error {
			return put(c, uint64(nbdReplyMagic), q.Option, kind, uint32(len(b)), b)
		}
		switch q.Option {
		case nbdOptExport:
			var zeroes []byte
			if wants&nbdNoZeroes == 0 {
				zeroes = make([]byte, 124)
			}
			if err := put(c, uint64(v.size), flags, zeroes); err != nil {
				return err
			}
			return v.transmit(c)
		case nbdOptInfo, nbdOptGo:
			b := binary.BigEndian.AppendUint64([]byte{0, 0}, uint64(v.size)) // NBD_INFO_EXPORT
			if err := errors.Join(reply(nbdInfo, binary.BigEndian.AppendUint16(b, flags)), reply(nbdAck, nil)); err != nil {
				return err
			}
			if q.Option == nbdOptGo {
				return v.transmit(c)
			}
		case nbdOptAbort:
			return reply(nbdAck, nil)
		default:
			if err := reply(nbdUnsupported, nil); err != nil {
				return err
			}
		}
	}
}

func (v *Volatile) transmit(c net.Conn) error {
	for {
		var q struct {
			Magic       uint32
			Flags, Type uint16
			Handle, Off uint64
			Len         uint32
		}
		if err := binary.Read(c, binary.BigEndian, &q); err != nil {
			return err
		}
		if q.Magic != nbdRequest || q.Len > nbdMaxData {
			return errors.New("not a request of NBD")
		}
		data := make([]byte, q.Len)
		if q.Type == nbdWrite {
			if _, err := io.ReadFull(c, data); err != nil {
				return err
			}
		}
		if q.Type == nbdDisconnect {
			return nil
		}
		err := v.do(q.Type, q.Flags&nbdFUA != 0, int64(q.Off), data)
		code := uint32(0)
		switch {
		case errors.Is(err, errDiskOff):
			return err
		case errors.Is(err, errRequest):
			code = nbdInvalid
		case err != nil:
			code = nbdFault
		}
		if q.Type != nbdRead || code != 0 {
			data = nil
		}
		if err := put(c, uint32(nbdAnswer), code, q.Handle, data); err != nil {
			return err
		}
	}
}

var (
	errDiskOff = errors.New("the disk has no power")
	errRequest = errors.New("no request for this disk")
)

// do serves one request; what is read fills data.
func (v *Volatile) do(kind uint16, through bool, off int64, data []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.on {
		return errors.Join(errDiskOff, v.tear(kind, off, data))
	}
	if kind == nbdFlush {
		v.flushes++
		return v.flush()
	}
	if !v.fits(off, data) {
		return errRequest
	}
	switch kind {
	case nbdRead:
		if _, err := v.image.ReadAt(data, off); err != nil {
			return err
		}
		for i := 0; i < len(data); i += sectorSize {
			if b := v.cache[(off+int64(i))/sectorSize]; b != nil {
				copy(data[i:], b)
			}
		}
		return nil
	case nbdWrite:
		if f := v.fuse; f != nil {
			if f.writes--; f.writes < 0 {
				lost, err := v.cut(f.r, f.survives)
				f.blown <- Loss{lost, err}
				return errors.Join(errDiskOff, v.tear(kind, off, data))
			}
		}
		if (through || forced(data)) && !v.Forgetful {
			return v.through(off, data)
		}
		for i := 0; i < len(data); i += sectorSize {
			w := writing{(off + int64(i)) / sectorSize, slices.Clone(data[i : i+sectorSize])}
			v.cache[w.sector] = w.data
			v.written = append(v.written, w)
		}
		return nil
	}
	return errRequest
}

// Of the journal of ext4 (JBD2), big-endian.
const (
	journalMagic  = 0xc03b3998
	journalCommit = 2
	journalSuper1 = 3
	journalSuper2 = 4
	journalHeader = 8 // bytes of magic and kind
)

// forced is whether Linux has asked for the write to be durable when it is answered, which QEMU's NVMe (7.2) does not pass on: of 185 such writes to a
// journal none came with NBD's flag. They are the records that commit, and the journal's superblock; no other block begins so.
func forced(data []byte) bool {
	if len(data) < journalHeader || binary.BigEndian.Uint32(data) != journalMagic {
		return false
	}
	kind := binary.BigEndian.Uint32(data[4:])
	return kind == journalCommit || kind == journalSuper1 || kind == journalSuper2
}

// tear is what becomes of a write that was on its way when the power went: each sector was written or not. It needs mu.
func (v *Volatile) tear(kind uint16, off int64, data []byte) error {
	if v.torn == nil || kind != nbdWrite || !v.fits(off, data) {
		return nil
	}
	r := v.torn
	v.torn = nil
	for i := 0; i < len(data); i += sectorSize {
		if r.Float64() < 0.5 {
			if _, err := v.image.WriteAt(data[i:i+sectorSize], off+int64(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *Volatile) fits(off int64, data []byte) bool {
	return off >= 0 && off%sectorSize == 0 && len(data)%sectorSize == 0 && off <= v.size-int64(len(data))
}

// through makes one write durable and nothing else. It needs mu.
func (v *Volatile) through(off int64, data []byte) error {
	from, to := off/sectorSize, (off+int64(len(data)))/sectorSize
	v.written = slices.DeleteFunc(v.written, func(w writing) bool { return w.sector >= from && w.sector < to })
	for s := from; s < to; s++ {
		delete(v.cache, s)
	}
	_, err := v.image.WriteAt(data, off)
	return err
}

// flush makes durable what was written. It needs mu.
func (v *Volatile) flush() error {
	if v.Forgetful {
		return nil
	}
	for _, w := range v.written {
		if _, err := v.image.WriteAt(w.data, w.sector*sectorSize); err != nil {
			return err
		}
	}
	v.written, v.cache = nil, map[int64][]byte{}
	return nil
}
