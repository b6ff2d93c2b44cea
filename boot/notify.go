package boot

import (
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// maxNotice is the most bytes of one sd_notify message; a longer one is cut and its last word ignored.
const maxNotice = 4096

// notices is the sd_notify socket of one start of one daemon. The kernel vouches for the sender: only the daemon's own process, as
// the user it was given, is heard.
type notices struct {
	conn *net.UnixConn
	path string
}

// listenNotices makes the socket anew and gives it to the user.
func listenNotices(path string, uid, gid int) (*notices, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("remove old notice socket: %w", err)
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listen for notices: %w", err)
	}
	n := &notices{conn: c, path: path}
	if err := n.prepare(uid, gid); err != nil {
		n.close()
		return nil, fmt.Errorf("prepare notice socket: %w", err)
	}
	return n, nil
}

func (n *notices) prepare(uid, gid int) error {
	raw, err := n.conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) }); err != nil {
		return err
	}
	if set != nil {
		return set
	}
	return giveTo(n.path, uid, gid, 0o600)
}

func (n *notices) close() { n.conn.Close() }

// read sends each assignment of each message of the process to out, until the socket is closed; then it closes out. Messages of
// others are dropped.
func (n *notices) read(pid, uid int, out chan<- string) {
	defer close(out)
	b, oob := make([]byte, maxNotice), make([]byte, 256)
	for {
		nb, noob, flags, _, err := n.conn.ReadMsgUnix(b, oob)
		if err != nil {
			return
		}
		if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || !sentBy(oob[:noob], pid, uid) {
			continue
		}
		for line := range strings.SplitSeq(string(b[:nb]), "\n") {
			out <- line
		}
	}
}

// sentBy says whether the control messages name the process and the user. A message may carry descriptors too; they are closed
// by not being taken: any second control message makes the whole unwelcome.
func sentBy(oob []byte, pid, uid int) bool {
	ms, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(ms) == 0 {
		return false
	}
	if len(ms) > 1 {
		closeRights(ms)
		return false
	}
	cred, err := unix.ParseUnixCredentials(&ms[0])
	return err == nil && int(cred.Pid) == pid && int(cred.Uid) == uid
}

// closeRights closes the descriptors that came with a message.
func closeRights(ms []unix.SocketControlMessage) {
	for _, m := range ms {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
}

// giveTo makes the user the owner of a path with the mode. User -1 leaves the owner.
func giveTo(path string, uid, gid int, mode os.FileMode) error {
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	return os.Lchown(path, uid, gid)
}
