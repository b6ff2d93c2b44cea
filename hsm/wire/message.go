package wire

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// A verb is what a request asks for. Zero is not a verb.
type verb uint8

const (
	verbOpen verb = iota + 1
	verbGenerate
	verbImport
	verbDestroy
	verbList
	verbUnwrap
	verbSince
	verbCheck
	verbStatus
	verbTransport
	verbAdmit
	verbPack
	verbReceive
	verbDismiss
	verbTranscrypt
	verbEnclose
	verbLoad
	verbUnload
	verbLoaded
	verbImportKey
	verbNewImportKey
	verbImportWrapped
	verbLast = verbImportWrapped
)

// A status begins an answer. The numbers are the protocol's: a new one goes last.
type status uint8

const (
	statusOK status = iota + 1
	statusRefused
	statusClosed
	statusNoKey
	statusUnwrap
	statusForgotten
	statusHead
	statusPIN
	statusLast = statusPIN
)

var statusErrors = [...]error{
	statusClosed:    ErrClosed,
	statusNoKey:     ErrNoKey,
	statusUnwrap:    ErrUnwrap,
	statusForgotten: ErrForgotten,
	statusHead:      ErrHead,
	statusPIN:       ErrPIN,
}

// err writes an error, or its absence. Only a Refused carries a text.
func (w *writer) err(err error) {
	if err == nil {
		w.u8(uint8(statusOK))
		return
	}
	for s, known := range statusErrors {
		if known != nil && errors.Is(err, known) {
			w.u8(uint8(s))
			return
		}
	}
	text := err.Error()
	w.u8(uint8(statusRefused))
	w.string(text[:min(len(text), maxReason)])
}

func (r *reader) err() error {
	switch s := status(r.enum(uint8(statusLast))); {
	case r.bad || s == statusOK:
		return nil
	case s == statusRefused:
		return Refused{r.string(maxReason)}
	default:
		return statusErrors[s]
	}
}

func (w *writer) token(t Token) {
	w.bytes(t.PIN)
	w.bytes(t.SOPIN)
	w.files(t.Files)
}

// token copies what it reads: the PINs outlive the frame.
func (r *reader) token() Token {
	return Token{PIN: bytes.Clone(r.bytes(MaxPIN)), SOPIN: bytes.Clone(r.bytes(MaxPIN)), Files: r.files()}
}

func (w *writer) instance(i Instance) {
	w.fixed(i.ID[:])
	w.files(i.Files)
	w.string(i.Report.Module)
	w.u32(i.Report.Keys)
	w.u32(uint32(len(i.Report.Checks)))
	for _, c := range i.Report.Checks {
		w.string(c.Name)
		w.string(c.Failure[:min(len(c.Failure), maxReason)])
	}
	w.u32(i.Report.ImportKeys)
}

func (r *reader) instance() (i Instance) {
	r.fixed(i.ID[:])
	i.Files = r.files()
	i.Report.Module = r.string(maxReason)
	i.Report.Keys = r.u32()
	for range r.count(MaxName, 8) {
		i.Report.Checks = append(i.Report.Checks, Check{r.string(MaxName), r.string(maxReason)})
	}
	i.Report.ImportKeys = r.u32()
	return i
}

func (w *writer) key(k Key) {
	w.u8(uint8(k.Suite))
	w.u8(uint8(k.Custody))
	w.u8(uint8(k.Origin))
	w.u8(uint8(k.Mode))
	w.bytes(k.SPKI)
}

// key computes the id: it is never taken from the message.
func (r *reader) key() Key {
	k := Key{Suite: Suite(r.enum(uint8(SuiteLast))), Custody: Custody(r.enum(uint8(custodyLast))), Origin: Origin(r.enum(uint8(OriginLast))), Mode: Mode(r.enum(uint8(modeLast)))}
	k.SPKI = bytes.Clone(r.bytes(MaxPKCS8))
	k.ID = block.KeyIDOfSPKI(k.SPKI)
	return k
}

func (w *writer) keys(keys []Key) {
	w.u32(uint32(len(keys)))
	for _, k := range keys {
		w.key(k)
	}
}

func (r *reader) keys() []Key {
	n := r.count(MaxKeys, 8)
	keys := make([]Key, 0, n)
	for range n {
		keys = append(keys, r.key())
	}
	return keys
}

func (w *writer) wraps(wraps []block.Wrap) {
	w.u32(uint32(len(wraps)))
	for _, x := range wraps {
		id := x.KeyID()
		w.u8(uint8(x.Suite()))
		w.fixed(id[:])
		w.bytes(x.Enc())
		w.bytes(x.Body())
		w.bytes(x.Context())
	}
}

// wraps reads a batch; a wrap of a shape that no encryptor makes is a malformed message. How a header named the key does
// not cross, only which key it is.
func (r *reader) wraps() []block.Wrap {
	n := r.count(MaxBatch, 45)
	wraps := make([]block.Wrap, 0, n)
	for range n {
		suite := block.Suite(r.u8())
		var id block.KeyID
		r.fixed(id[:])
		enc, body, context := r.bytes(block.MaxEnc), r.bytes(block.MaxBody), r.bytes(block.MaxContext)
		if r.bad {
			return nil
		}
		x, err := block.NewWrap(suite, block.KeyIDRef(id), enc, body, context)
		if err != nil {
			r.bad = true
			return nil
		}
		wraps = append(wraps, x)
	}
	return wraps
}

func (w *writer) head(h receipt.ChainHead) {
	w.fixed(h.Instance[:])
	w.u64(h.N)
	w.fixed(h.Head[:])
	w.fixed(h.MAC[:])
}

func (r *reader) head() (h receipt.ChainHead) {
	r.fixed(h.Instance[:])
	h.N = r.u64()
	r.fixed(h.Head[:])
	r.fixed(h.MAC[:])
	return h
}

// The forms of what a wrap holds, in an answer.
const (
	formKey    uint8 = iota + 1 // in the clear
	formSealed                  // encrypted anew; Transcrypt only
)

// batch writes the results of one batch, whose items are neighbours in the chain and end at head. It spends the keys.
func (w *writer) batch(results []Result, head receipt.ChainHead) {
	w.head(head)
	w.u32(uint32(len(results)))
	for _, x := range results {
		err := x.Err
		mark := len(w.b)
		w.u8(uint8(statusOK))
		switch {
		case err == nil && len(x.Sealed) > 0:
			w.u8(formSealed)
			w.bytes(x.Sealed)
		case err == nil:
			w.u8(formKey)
			err = x.Key.Use(func(k []byte) error { w.bytes(k); return nil })
		}
		if err != nil {
			w.b = w.b[:mark]
			w.err(err)
		}
	}
}

// batch reads the results of n wraps, in forms up to last.
func (r *reader) batch(n int, last uint8) ([]Result, receipt.ChainHead, error) {
	head := r.head()
	if got := r.count(MaxBatch, 1); r.bad || got != n || uint64(n) > head.N {
		return nil, receipt.ChainHead{}, errForm
	}
	results := make([]Result, n)
	for i := range results {
		results[i].Seq = head.N - uint64(n-1-i)
		results[i].Err = r.err()
		if r.bad {
			return nil, receipt.ChainHead{}, errForm
		}
		if results[i].Err != nil {
			continue
		}
		if r.enum(last) == formSealed {
			results[i].Sealed = bytes.Clone(r.bytes(maxRecipient))
			r.bad = r.bad || len(results[i].Sealed) == 0
			continue
		}
		b := r.bytes(block.MaxKeySize)
		key, err := block.NewFileKey(bytes.Clone(b))
		if err != nil {
			return nil, receipt.ChainHead{}, fmt.Errorf("read file key: %w", err)
		}
		results[i].Key = key
	}
	return results, head, r.done()
}

// items writes the chain items that end at head.
func (w *writer) items(items []receipt.Item, head receipt.ChainHead) {
	w.head(head)
	w.u32(uint32(len(items)))
	for _, i := range items {
		w.fixed(i.Key[:])
		w.fixed(i.Ciphertext[:])
		w.fixed(i.Peer[:])
	}
}

func (r *reader) items() ([]receipt.Item, receipt.ChainHead) {
	head := r.head()
	n := r.count(RingItems, 96)
	if uint64(n) > head.N {
		r.bad = true
		return nil, head
	}
	items := make([]receipt.Item, n)
	for i := range items {
		items[i].Instance = head.Instance
		items[i].N = head.N - uint64(n-1-i)
		r.fixed(items[i].Key[:])
		r.fixed(items[i].Ciphertext[:])
		r.fixed(items[i].Peer[:])
	}
	return items, head
}
