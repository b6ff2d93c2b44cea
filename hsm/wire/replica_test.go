package wire

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

var someParcels = []Parcel{{SPKI: []byte("spki"), Wrapped: []byte("wrapped")},
	{SPKI: []byte("hybrid"), Wrapped: []byte("half"), SeedKey: []byte("over"), Seed: []byte("seed")}}

func rewriteTransfer(w *writer, r *reader, v verb) {
	switch v {
	case verbAdmit:
		w.token(r.token())
		w.bytes(r.bytes(MaxRequest))
	case verbPack, verbDismiss:
		var p Peer
		r.fixed(p[:])
		w.fixed(p[:])
		if v == verbPack {
			w.ids(r.ids())
		}
	case verbReceive:
		w.u8(r.enum(uint8(Vault)))
		w.bytes(r.bytes(MaxSealed))
		w.parcels(r.parcels())
	}
}

func rewriteTransferred(w *writer, r *reader, v verb) {
	switch v {
	case verbTransport:
		w.bytes(r.bytes(MaxTransport))
	case verbAdmit:
		w.bytes(r.bytes(MaxSealed))
		w.files(r.files())
	case verbPack:
		w.head(r.head())
		w.parcels(r.parcels())
	case verbReceive:
		w.keys(r.keys())
		w.files(r.files())
	case verbDismiss:
		w.files(r.files())
	}
}

// TestReplication: what carries keys between tokens crosses as it is, and what is too large does not.
func TestReplication(t *testing.T) {
	key := Key{SPKI: []byte("spki"), ID: block.KeyIDOfSPKI([]byte("spki")), Suite: P256, Custody: Replicable, Origin: Imported, Mode: Resident}
	changed := Files{"a/b": nil, "a/c": []byte("d")}
	peer := PeerOf([]byte("transport"))
	packed := receipt.ChainHead{Instance: receipt.Instance{1}, N: 1, Head: receipt.Hash{2}, MAC: receipt.Hash{3}}
	s := stub()
	s.Replication = Replication{
		Transport: func() ([]byte, error) { return []byte("transport"), nil },
		Admit: func(tok Token, to []byte) ([]byte, Files, error) {
			if string(tok.PIN) != "1234" || string(tok.SOPIN) != "so" || string(to) != "transport" {
				return nil, nil, ErrPIN
			}
			return []byte("letter"), changed, nil
		},
		Pack: func(p Peer, ids []block.KeyID) ([]Parcel, receipt.ChainHead, error) {
			if p != peer || len(ids) != 1 || ids[0] != key.ID {
				return nil, receipt.ChainHead{}, ErrNoKey
			}
			return someParcels[:1], packed, nil
		},
		Receive: func(letter []byte, all []Parcel, _ Mode) ([]Key, Files, error) {
			if string(letter) != "letter" || !cmp.Equal(all, someParcels, cmpopts.EquateEmpty()) {
				return nil, nil, Refused{"another"}
			}
			return []Key{key}, changed, nil
		},
		Dismiss: func(p Peer) (Files, error) {
			if p != peer {
				return nil, ErrNoKey
			}
			return changed, nil
		},
	}
	c, ctx := start(t, s), t.Context()
	same := func(what string, got, want any, err error) {
		t.Helper()
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" || err != nil {
			t.Errorf("%s: %v\n%s", what, err, d)
		}
	}
	to, err := c.Transport(ctx)
	same("Transport", to, []byte("transport"), err)
	so := []byte("so")
	letter, f, err := c.Admit(ctx, Token{PIN: []byte("1234"), SOPIN: so}, to)
	same("Admit", letter, []byte("letter"), err)
	same("Admit", f, changed, err)
	if string(so) != "\x00\x00" {
		t.Error("the PIN is left in memory")
	}
	all, head, err := c.Pack(ctx, peer, []block.KeyID{key.ID})
	same("Pack", all, someParcels[:1], err)
	same("Pack", head, packed, err)
	packed.N = 0
	if _, _, err := c.Pack(ctx, peer, []block.KeyID{key.ID}); err == nil {
		t.Error("keys that are not in the chain were taken")
	}
	all = someParcels
	keys, f, err := c.Receive(ctx, letter, all, Resident)
	same("Receive", keys, []Key{key}, err)
	same("Receive", f, changed, err)
	f, err = c.Dismiss(ctx, peer)
	same("Dismiss", f, changed, err)
	if _, _, err := c.Admit(ctx, Token{}, to); !errors.Is(err, ErrPIN) {
		t.Errorf("Admit = %v, want %v", err, ErrPIN)
	}
	if _, _, err := c.Receive(ctx, nil, all, Resident); err != (Refused{"another"}) {
		t.Errorf("Receive = %v, want the reason", err)
	}
	for what, p := range map[string]Parcel{"wrapped": {Wrapped: make([]byte, MaxWrapped+1)}, "seed": {Seed: make([]byte, MaxSeed+1)},
		"seed key": {SeedKey: make([]byte, MaxWrapped+1)}, "public key": {SPKI: make([]byte, MaxPKCS8+1)}} {
		if _, _, err := c.Receive(ctx, letter, []Parcel{p}, Resident); err == nil || errors.Is(err, Refused{"another"}) {
			t.Errorf("a %s that is too large: %v, want a malformed message", what, err)
		}
	}
	if _, _, err := c.Pack(ctx, peer, make([]block.KeyID, MaxParcels+1)); err == nil || errors.Is(err, ErrNoKey) {
		t.Errorf("too many keys: %v, want a malformed message", err)
	}
}
