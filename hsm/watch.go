package hsm

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const watchFor = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO

// A watch knows which files below a folder were touched, so that one new key among many thousands costs one look. The
// kernel queues an event in the call that changes the file: after that call, names has it.
type watch struct {
	fd   int
	dirs map[int32]string // watched folders by the kernel's number
}

// newWatch watches root and the folders in it.
func newWatch(root string) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch folder: %w", err)
	}
	w := &watch{fd: fd, dirs: map[int32]string{}}
	entries, err := os.ReadDir(root)
	if err == nil {
		err = w.add(root, ".")
	}
	for _, e := range entries {
		if err == nil && e.IsDir() {
			err = w.add(root, e.Name())
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch folder: %w", err), w.close())
	}
	return w, nil
}

func (w *watch) add(root, dir string) error {
	n, err := unix.InotifyAddWatch(w.fd, filepath.Join(root, dir), watchFor|unix.IN_ONLYDIR)
	w.dirs[int32(n)] = dir
	return err
}

// names returns the files that were touched since it was last called. complete is false if some may be missing.
func (w *watch) names() (names map[string]bool, complete bool, err error) {
	names = map[string]bool{}
	buf := make([]byte, 64<<10)
	for complete = true; ; {
		n, err := unix.Read(w.fd, buf)
		if errors.Is(err, unix.EAGAIN) {
			return names, complete, nil
		}
		if err != nil || n < unix.SizeofInotifyEvent {
			return nil, false, fmt.Errorf("read watch: %w", err)
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			e := (*unix.InotifyEvent)(unsafe.Pointer(&b[0]))
			end := unix.SizeofInotifyEvent + int(e.Len)
			name := strings.TrimRight(string(b[unix.SizeofInotifyEvent:end]), "\x00")
			dir, known := w.dirs[e.Wd]
			// A new folder, or a full queue: what happened in it is not known.
			complete = complete && known && e.Mask&(unix.IN_Q_OVERFLOW|unix.IN_ISDIR) == 0
			names[path.Join(dir, name)] = true
			b = b[end:]
		}
	}
}

func (w *watch) close() error { return unix.Close(w.fd) }
