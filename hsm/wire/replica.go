package wire

import (
	"bytes"
	"context"
	"crypto/sha256"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// Limits of what goes from token to token.
const (
	MaxParcels   = 64       // keys in one transfer
	MaxTransport = 2 << 10  // bytes of a transport key; one has TransportSize
	MaxRequest   = 64 << 10 // bytes of a signed request; one has some 6 KiB
	MaxSealed    = 2 << 10  // bytes of a sealed transfer key; one has LetterSize
	MaxWrapped   = 4 << 10  // bytes of a wrapped key; RSA-3072 takes 1.8 KiB
	MaxSeed      = 512      // bytes of a sealed seed; one has 92
	maxTransfer  = 64 << 10 // bytes set aside for a request
)

// The sizes of what every box has, in bytes: see hsm/REPLICA.md.
const (
	TransportSize = 1249 // MLKEM768-P256
	LetterSize    = 1201
)

// A Peer is another box's token, by the hash of its transport key.
type Peer [32]byte

// PeerOf returns the peer with this transport key.
func PeerOf(transport []byte) Peer {
	return sha256.Sum256(append([]byte("kra/peer/v1\x00"), transport...))
}

// A Parcel is a replicable key on its way from token to token: its public key, and the rest wrapped with AES-KWP
// (RFC 5649) under the transfer key of one peer. A hybrid key has three parts; see hsm/REPLICA.md.
type Parcel struct {
	SPKI    []byte // SubjectPublicKeyInfo, DER
	Wrapped []byte // the PKCS#8 private key, of a hybrid key its P-256 half
	SeedKey []byte // hybrid: the AES key over the seed
	Seed    []byte // hybrid: the seed under that key
}

// Hash is SHA-256 of the parcel: a context, then its one form.
func (p Parcel) Hash() [32]byte {
	return sha256.Sum256(append([]byte("kra/parcel/v1\x00"), p.Bytes()...))
}

// Bytes is the one form of a parcel: each part after its length, 4 bytes.
func (p Parcel) Bytes() []byte {
	w := &writer{}
	w.parcel(p)
	return w.b
}

// ParseParcel reads the one form.
func ParseParcel(b []byte) (Parcel, error) {
	r := &reader{b: b}
	p := r.parcel()
	return p, r.done()
}

func (w *writer) parcel(p Parcel) {
	w.bytes(p.SPKI)
	w.bytes(p.Wrapped)
	w.bytes(p.SeedKey)
	w.bytes(p.Seed)
}

func (r *reader) parcel() Parcel {
	return Parcel{SPKI: bytes.Clone(r.bytes(MaxPKCS8)), Wrapped: bytes.Clone(r.bytes(MaxWrapped)),
		SeedKey: bytes.Clone(r.bytes(MaxWrapped)), Seed: bytes.Clone(r.bytes(MaxSeed))}
}

// A Replication is the part of a Service that carries keys between tokens.
type Replication struct {
	Transport func() ([]byte, error)
	Admit     func(t Token, request []byte) (sealed []byte, changed Files, err error)
	Pack      func(p Peer, ids []block.KeyID) ([]Parcel, receipt.ChainHead, error)
	Receive   func(sealed []byte, parcels []Parcel, m Mode) ([]Key, Files, error)
	Dismiss   func(p Peer) (Files, error)
}

func (w *writer) parcels(all []Parcel) {
	w.u32(uint32(len(all)))
	for _, p := range all {
		w.parcel(p)
	}
}

func (r *reader) parcels() []Parcel {
	n := r.count(MaxParcels, 16)
	all := make([]Parcel, 0, n)
	for range n {
		all = append(all, r.parcel())
	}
	return all
}

func (w *writer) ids(ids []block.KeyID) {
	w.u32(uint32(len(ids)))
	for _, id := range ids {
		w.fixed(id[:])
	}
}

func (r *reader) ids() []block.KeyID {
	ids := make([]block.KeyID, r.count(MaxParcels, len(block.KeyID{})))
	for i := range ids {
		r.fixed(ids[i][:])
	}
	return ids
}

// do writes a successful answer, or returns why there is none.
func (x Replication) do(w *writer, v verb, r *reader) error {
	switch v {
	case verbTransport:
		if err := r.done(); err != nil {
			return err
		}
		key, err := x.Transport()
		w.bytes(key)
		return err
	case verbAdmit:
		return x.doAdmit(w, r)
	case verbPack:
		var p Peer
		r.fixed(p[:])
		ids := r.ids()
		if err := r.done(); err != nil {
			return err
		}
		all, head, err := x.Pack(p, ids)
		w.head(head)
		w.parcels(all)
		return err
	case verbReceive:
		mode, sealed, all := Mode(r.enum(uint8(modeLast))), r.bytes(MaxSealed), r.parcels()
		if err := r.done(); err != nil {
			return err
		}
		keys, changed, err := x.Receive(sealed, all, mode)
		w.keys(keys)
		w.files(changed)
		return err
	case verbDismiss:
		var p Peer
		r.fixed(p[:])
		if err := r.done(); err != nil {
			return err
		}
		changed, err := x.Dismiss(p)
		w.files(changed)
		return err
	}
	return errVerb
}

func (x Replication) doAdmit(w *writer, r *reader) error {
	t := r.token()
	defer t.Clear()
	request := r.bytes(MaxRequest)
	if err := r.done(); err != nil {
		return err
	}
	sealed, changed, err := x.Admit(t, request)
	w.bytes(sealed)
	w.files(changed)
	return err
}

// Transport returns the public key to which other tokens seal transfer keys for this one. It stays the same for the life
// of the box's sealed state.
func (c *Client) Transport(ctx context.Context) (key []byte, err error) {
	err = c.simple(ctx, verbTransport, nothing, func(r *reader) { key = bytes.Clone(r.bytes(MaxTransport)) })
	return key, err
}

// Admit makes a transfer key for the token of the box that made a request, replacing an earlier one. The request is as that box signed it
// (label.ReplicaRequest): hsmd verifies it against its own copy of the domain and refuses this box's own. It takes both PINs, for only
// the security officer can make a key that is trusted; t has no files and is cleared. Nothing is unwrapped meanwhile.
func (c *Client) Admit(ctx context.Context, t Token, request []byte) (sealed []byte, changed Files, err error) {
	defer t.Clear()
	err = c.simple(ctx, verbAdmit, func(w *writer) { w.token(t); w.bytes(request) },
		func(r *reader) { sealed, changed = bytes.Clone(r.bytes(MaxSealed)), r.files() })
	return sealed, changed, err
}

// Pack wraps replicable keys under the transfer key of an admitted peer. A bound key is Refused, and an absent one
// ErrNoKey. The keys are neighbours in hsmd's chain and end at head: Departed.
func (c *Client) Pack(ctx context.Context, p Peer, ids []block.KeyID) (all []Parcel, head receipt.ChainHead, err error) {
	err = c.simple(ctx, verbPack, func(w *writer) { w.fixed(p[:]); w.ids(ids) }, func(r *reader) {
		head, all = r.head(), r.parcels()
		r.bad = r.bad || len(all) != len(ids) || uint64(len(all)) > head.N
	})
	return all, head, err
}

// Departed returns the items of the chain for keys that were packed.
func Departed(p Peer, all []Parcel, head receipt.ChainHead) []receipt.Item {
	items := make([]receipt.Item, len(all))
	for i, x := range all {
		items[i] = receipt.Item{Instance: head.Instance, N: head.N - uint64(len(all)-1-i), Key: receipt.Hash(block.KeyIDOfSPKI(x.SPKI)),
			Ciphertext: x.Hash(), Peer: receipt.Hash(p)}
	}
	return items
}

// Receive takes all the parcels that were packed under the sealed transfer key into the token, or none of them. They may
// be used for nothing before the changed files are committed.
func (c *Client) Receive(ctx context.Context, sealed []byte, all []Parcel, m Mode) (keys []Key, changed Files, err error) {
	err = c.call(ctx, verbReceive, maxTransfer, func(w *writer) { w.u8(uint8(m)); w.bytes(sealed); w.parcels(all) }, func(b []byte) error {
		return parse(b, func(r *reader) { keys, changed = r.keys(), r.files() })
	})
	return keys, changed, err
}

// Dismiss destroys the transfer key of a peer; ErrNoKey if there is none.
func (c *Client) Dismiss(ctx context.Context, p Peer) (changed Files, err error) {
	err = c.simple(ctx, verbDismiss, func(w *writer) { w.fixed(p[:]) }, func(r *reader) { changed = r.files() })
	return changed, err
}
