package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra/block"
)

// MaxHeader is the greatest header in bytes that a client reads; an agent takes less,
// block.MaxHeader.
const MaxHeader = 2 << 20

// Ask says when the agent is asked. Zero is not set and is refused.
type Ask uint8

const (
	AskIfNeeded Ask = iota + 1 // own identities first, the agent for what they do not open
	AskAlways                  // the agent, whatever identities there are
	AskNever                   // own identities only
)

// An Opener opens encryption blocks with own identities, an agent, or both.
type Opener struct {
	ask   Ask
	agent *Agent
	own   []age.Identity
	pairs []pair // for blocks of other formats
}

// NewOpener makes an opener. agent may be nil, except with AskAlways.
func NewOpener(ask Ask, agent *Agent, own ...age.Identity) (*Opener, error) {
	switch ask {
	case AskIfNeeded, AskNever:
	case AskAlways:
		if agent == nil {
			return nil, errors.New("make opener: no agent to ask")
		}
		own = nil
	default:
		return nil, errors.New("make opener: not said when to ask the agent")
	}
	if ask == AskNever {
		agent = nil
	}
	return &Opener{ask: ask, agent: agent, own: own}, nil
}

// ReadHeader reads the header portion of a block; the reader it returns begins at the
// ciphertext portion.
func ReadHeader(src io.Reader) (block.Header, io.Reader, error) {
	in := &source{r: src}
	h, rest, err := block.ParseHeader(in, MaxHeader)
	if err != nil {
		return block.Header{}, nil, in.judge(err)
	}
	return h, rest, nil
}

// Open finds the keys of blocks: of those that own identities open without any
// request, of the others by asking the agent for all together. An answer without
// evidence came from an own identity.
func (o *Opener) Open(ctx context.Context, headers []block.Header) ([]Answer, error) {
	return o.OpenEnvelopes(ctx, envelopesOf(headers))
}

// OpenEnvelopes is Open for blocks of any format. Own identities open age blocks, and the pairs of Own
// the others.
func (o *Opener) OpenEnvelopes(ctx context.Context, headers []block.Envelope) ([]Answer, error) {
	out := make([]Answer, len(headers))
	var ask []block.Envelope
	var at []int
	for i, h := range headers {
		key, err := o.openOwn(h)
		switch {
		case err == nil:
			out[i].Release.Key = key
		case !errors.Is(err, errNoMatch):
			out[i].Err = err
		case len(h.Wraps()) == 0:
			out[i].Err = ErrNoKey
		case o.agent == nil:
			out[i].Err = ErrNotAsked
		default:
			ask, at = append(ask, h), append(at, i)
		}
	}
	if len(ask) == 0 {
		return out, nil
	}
	answers, err := o.agent.ReleaseEnvelopes(ctx, ask)
	if err != nil {
		return nil, err
	}
	for i, a := range answers {
		out[at[i]] = a
	}
	return out, nil
}

var errNoMatch = errors.New("no identity fits")

func (o *Opener) openOwn(h block.Envelope) (block.FileKey, error) {
	if h.Format() != block.FormatAge {
		return o.openPairs(h)
	}
	if len(o.own) == 0 {
		return block.FileKey{}, errNoMatch
	}
	key, err := age.DecryptHeader(h.Bytes(), o.own...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return block.FileKey{}, errNoMatch
	}
	if err == nil {
		err = h.Check(key)
	}
	if err != nil {
		return block.FileKey{}, &Damaged{fmt.Errorf("open header: %w", err)}
	}
	return block.NewFileKey(key)
}

// Payload decrypts the ciphertext portion of the block with header h, a chunk at a
// time; each chunk is authenticated before any of it is read. It uses up key, and
// refuses one that is not the header's before it reads anything. A block that is cut
// short or changed ends in a *Damaged error.
func Payload(h block.Header, ciphertext io.Reader, key block.FileKey) (io.Reader, error) {
	in := &source{r: ciphertext}
	var out io.Reader
	err := key.Use(func(k []byte) (err error) {
		out, err = h.OpenPayload(in, k)
		return err
	})
	if err != nil {
		return nil, in.judge(fmt.Errorf("decrypt: %w", err))
	}
	return &payload{out, in}, nil
}

type payload struct {
	r  io.Reader
	in *source
}

func (p *payload) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil && err != io.EOF {
		err = p.in.judge(fmt.Errorf("decrypt: %w", err))
	}
	return n, err
}

// A source remembers whether reading it failed, so that a disk's fault is not taken
// for a damaged block.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s *source) judge(err error) error {
	if s.err != nil {
		return s.err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("decrypt: block is cut short")
	}
	return &Damaged{err}
}
