package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

// maxSlow bounds the operations other than Unwrap that one connection has under way; the next would wait unread.
const maxSlow = maxFlight

// partWithin is how long a client may take to close a connection on which nothing more is answered.
const partWithin = 10 * time.Second

// A Service does what a Client asks for. Each function may be called by several goroutines at once and returns the
// errors of this package where one fits. A Token or key that it is given is cleared after it returns.
type Service struct {
	Open     func(Token) (Instance, error)
	Generate func(Suite, Custody, Mode) (Key, Files, error)
	Import   func(pkcs8 []byte, c Custody, m Mode) (Key, Files, error)
	Destroy  func(block.KeyID) (Files, error)
	List     func() ([]Key, error)
	Since    func(n uint64) ([]receipt.Item, receipt.ChainHead, error)
	Check    func(receipt.ChainHead) error
	Status   func() (Instance, error)

	Replication
	Labelling
	Importing

	// Unwrap calls done once, from any goroutine, or returns an error and never calls it.
	Unwrap func(wraps []block.Wrap, done func([]Result, receipt.ChainHead)) error

	// Transcrypt is Unwrap for a Recipient.
	Transcrypt func(to Recipient, wraps []block.Wrap, done func([]Result, receipt.ChainHead)) error
}

// Serve answers the connections of l until ctx ends, l fails, or enough is closed. It returns when every connection is closed: with enough,
// what was read is answered first, and what was not, the client asks the next hsmd.
func (s Service) Serve(ctx context.Context, l net.Listener, enough <-chan struct{}) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-enough:
			l.Close()
		case <-over:
		}
	}()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if isClosed(enough) {
			if err == nil {
				conn.Close() // who has asked nothing yet
			}
			conns.Wait() // before ctx ends, which would cut them off
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept connection: %w", err)
		}
		conns.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			s.converse(ctx, conn, enough)
		})
	}
}

// isClosed says whether c is closed.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// converse answers one connection until it ends, breaks a rule, or there was enough of it.
func (s Service) converse(ctx context.Context, conn net.Conn, enough <-chan struct{}) {
	r := &intake{conn: conn}
	if greet(conn, r) != nil {
		return
	}
	out := &outbox{conn: conn}
	slow := make(chan struct{}, maxSlow)
	var under sync.WaitGroup // operations that were read and not answered
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-enough:
			_ = conn.SetReadDeadline(time.Unix(1, 0)) // ends the reading alone
		case <-over:
		}
	}()
	for {
		op, rest, err := readFrame(r)
		if err != nil {
			if isClosed(enough) {
				part(ctx, conn, &under)
			}
			return
		}
		if v := verb(rest[0]); v == verbUnwrap || v == verbTranscrypt {
			if s.unwrap(out, op, v, rest[1:], &under) != nil {
				return
			}
			continue
		}
		slow <- struct{}{}
		under.Add(1)
		go func() {
			defer func() { <-slow; under.Done() }()
			answer := newFrame(op, 256)
			s.answer(answer, rest)
			clear(rest)
			reply(out, op, answer)
		}()
	}
}

// part ends a connection whose reading has ended: what is under way is answered, and then the client closes it, who asks another hsmd for
// what it asked and was not read.
func part(ctx context.Context, conn net.Conn, under *sync.WaitGroup) {
	answered := make(chan struct{})
	go func() { under.Wait(); close(answered) }()
	select {
	case <-answered:
	case <-ctx.Done():
		return
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || conn.SetReadDeadline(time.Now().Add(partWithin)) != nil {
		return
	}
	for b := make([]byte, bufferSize); ; clear(b) {
		if _, err := conn.Read(b); err != nil {
			return
		}
	}
}

// reply sends an answer, or that it is too large to be one.
func reply(out *outbox, op uint32, answer *writer) {
	frame, err := answer.seal()
	if err != nil {
		answer = newFrame(op, maxReason)
		answer.err(err)
		frame, _ = answer.seal()
	}
	// A failed write has closed the connection, which the reader notices.
	_ = out.send(frame)
}

// unwrap starts a batch. Whoever finishes the batch sends the answer.
func (s Service) unwrap(out *outbox, op uint32, v verb, body []byte, under *sync.WaitGroup) error {
	r := reader{b: body}
	start := s.Unwrap
	if v == verbTranscrypt {
		to := r.recipient()
		start = func(wraps []block.Wrap, done func([]Result, receipt.ChainHead)) error {
			return s.Transcrypt(to, wraps, done)
		}
	}
	wraps := r.wraps()
	if err := r.done(); err != nil {
		return err
	}
	under.Add(1)
	err := start(wraps, func(results []Result, head receipt.ChainHead) {
		w := newFrame(op, 128+len(results)*(block.MaxKeySize+5))
		w.err(nil)
		w.batch(results, head)
		reply(out, op, w)
		under.Done()
	})
	if err != nil {
		w := newFrame(op, maxReason)
		w.err(err)
		reply(out, op, w)
		under.Done()
	}
	return nil
}

// answer does what a request asks for and writes status and body.
func (s Service) answer(w *writer, request []byte) {
	mark := len(w.b)
	if err := s.do(w, verb(request[0]), &reader{b: request[1:]}); err != nil {
		w.b = w.b[:mark]
		w.err(err)
	}
}

var errVerb = errors.New("operation is not known")

// do writes a successful answer, or returns why there is none.
func (s Service) do(w *writer, v verb, r *reader) error {
	w.err(nil)
	switch v {
	case verbOpen:
		return s.doOpen(w, r)
	case verbGenerate:
		suite, custody, mode := Suite(r.enum(uint8(SuiteLast))), Custody(r.enum(uint8(Replicable))), Mode(r.enum(uint8(modeLast)))
		if err := r.done(); err != nil {
			return err
		}
		key, changed, err := s.Generate(suite, custody, mode)
		w.key(key)
		w.files(changed)
		return err
	case verbImport:
		custody, mode, pkcs8 := Custody(r.enum(uint8(Replicable))), Mode(r.enum(uint8(modeLast))), r.bytes(MaxPKCS8)
		if err := r.done(); err != nil {
			return err
		}
		key, changed, err := s.Import(pkcs8, custody, mode)
		w.key(key)
		w.files(changed)
		return err
	case verbDestroy:
		var id block.KeyID
		r.fixed(id[:])
		if err := r.done(); err != nil {
			return err
		}
		changed, err := s.Destroy(id)
		w.files(changed)
		return err
	}
	return s.ask(w, v, r)
}

func (s Service) doOpen(w *writer, r *reader) error {
	t := r.token()
	defer t.Clear()
	if err := r.done(); err != nil {
		return err
	}
	i, err := s.Open(t)
	w.instance(i)
	return err
}

// ask is do for what changes nothing.
func (s Service) ask(w *writer, v verb, r *reader) error {
	switch v {
	case verbList:
		if err := r.done(); err != nil {
			return err
		}
		keys, err := s.List()
		w.keys(keys)
		return err
	case verbSince:
		n := r.u64()
		if err := r.done(); err != nil {
			return err
		}
		items, head, err := s.Since(n)
		w.items(items, head)
		return err
	case verbCheck:
		head := r.head()
		if err := r.done(); err != nil {
			return err
		}
		return s.Check(head)
	case verbStatus:
		if err := r.done(); err != nil {
			return err
		}
		i, err := s.Status()
		w.instance(i)
		return err
	}
	if v >= verbImportKey {
		return s.Importing.do(w, v, r)
	}
	if v >= verbEnclose {
		return s.Labelling.do(w, v, r)
	}
	return s.Replication.do(w, v, r)
}
