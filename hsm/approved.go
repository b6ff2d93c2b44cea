package hsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/label"
)

// The transfer key of a backup key is as that of a box. Its CKA_ID is the peer and the number, 8 bytes big-endian, by which the domain has
// approved the backup key: what the token has had lies in the token. There is one, and it goes when one with a higher number comes.
const backupTransferLabel = "kra-backup-transfer-key"

// A receiver is whom a transfer key is for.
type receiver struct {
	transport []byte
	number    uint64 // of a backup key's approval; of a box zero
}

func (r receiver) peer() wire.Peer { return wire.PeerOf(r.transport) }

// named are the attributes by which the token finds its transfer key.
func (r receiver) named() []*p11.Attribute {
	p := r.peer()
	if r.number == 0 {
		return []*p11.Attribute{attr(p11.CKA_ID, p[:]), attr(p11.CKA_LABEL, transferLabel)}
	}
	return []*p11.Attribute{attr(p11.CKA_ID, binary.BigEndian.AppendUint64(p[:], r.number)), attr(p11.CKA_LABEL, backupTransferLabel)}
}

// approved returns the backup key in a text that the domain has signed for this box.
func (c Config) approved(text []byte) (receiver, error) {
	a, err := label.OpenBackupApproval(text, c.Domain)
	switch {
	case err != nil:
		return receiver{}, wire.Refused{Reason: err.Error()}
	case a.Key.Box != c.Box:
		return receiver{}, wire.Refused{Reason: fmt.Sprintf("that approves a backup key of %q, and this box is %q", a.Key.Box, c.Box)}
	}
	return receiver{a.Key.Transport, a.Number}, nil
}

// A backupTransfer is the transfer key of a backup key, in the token.
type backupTransfer struct {
	handle p11.ObjectHandle
	peer   wire.Peer
	number uint64
}

// backupTransfers are those in the token: one, or two while one takes the place of the other. This process remembers the highest number
// that it has seen: files of an earlier day, which the agent may give, do not lower it.
func (c *Custodian) backupTransfers(s *session) ([]backupTransfer, error) {
	found, err := s.find(inToken([]*p11.Attribute{attr(p11.CKA_LABEL, backupTransferLabel)}))
	if err != nil {
		return nil, err
	}
	all := make([]backupTransfer, len(found))
	for i, h := range found {
		v, err := s.read(h, p11.CKA_ID)
		if err != nil {
			return nil, fmt.Errorf("read transfer key: %w", err)
		}
		if len(v[0]) != len(wire.Peer{})+8 {
			return nil, errors.New("read transfer key: it is of no backup key")
		}
		all[i] = backupTransfer{h, wire.Peer(v[0][:len(wire.Peer{})]), binary.BigEndian.Uint64(v[0][len(wire.Peer{}):])}
		c.seen(all[i].number)
	}
	return all, nil
}

// seen raises the number below which no backup key comes back.
func (c *Custodian) seen(number uint64) {
	for old := c.newest.Load(); number > old && !c.newest.CompareAndSwap(old, number); old = c.newest.Load() {
	}
}

// newer refuses a backup key that the domain approved before the one that the token has, or had in this process's life.
func (c *Custodian) newer(s *session, to receiver) error {
	if to.number == 0 {
		return nil
	}
	all, err := c.backupTransfers(s)
	if err != nil {
		return err
	}
	if n := c.newest.Load(); to.number < n {
		return wire.Refused{Reason: fmt.Sprintf("that is backup key number %d of the domain, and this box has had number %d: an older one does not come back", to.number, n)}
	}
	if slices.ContainsFunc(all, func(t backupTransfer) bool { return t.number == to.number && t.peer != to.peer() }) {
		return wire.Refused{Reason: fmt.Sprintf("this box has another backup key of the same number %d: the domain's journal was forked", to.number)}
	}
	return nil
}

// supersede destroys the transfer keys of older backup keys.
func (c *Custodian) supersede(s *session, to receiver) error {
	if to.number == 0 {
		return nil
	}
	c.seen(to.number)
	all, err := c.backupTransfers(s)
	for _, t := range all {
		if t.number < to.number {
			err = errors.Join(err, s.discard(t.handle))
		}
	}
	return err
}

// transferFor finds the transfer key of a peer: a box, or the newest backup key.
func (c *Custodian) transferFor(s *session, p wire.Peer) (p11.ObjectHandle, error) {
	found, err := s.find(transferOf(p))
	if err != nil {
		return 0, err
	}
	if len(found) == 1 {
		return found[0], nil
	}
	all, err := c.backupTransfers(s)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(all, func(t backupTransfer) bool { return t.peer == p })
	switch {
	case i < 0:
		return 0, wire.Refused{Reason: fmt.Sprintf("the token has %d transfer keys for that box, want 1: admit it again", len(found))}
	case all[i].number < c.newest.Load():
		return 0, wire.Refused{Reason: fmt.Sprintf("that is backup key number %d of the domain, and this box has had number %d", all[i].number, c.newest.Load())}
	}
	return all[i].handle, nil
}
