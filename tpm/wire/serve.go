package wire

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/keyrelease/krabox/kra/label"
)

// agentSide is what the agent's channel may ask. Errors that are a Refused are passed as such.
type agentSide interface {
	Status(context.Context) (Status, error)
	Record(context.Context) (label.Record, error)
	WriteRecord(context.Context, label.Record) error
	LeafTLS(ctx context.Context, spki []byte) ([][]byte, error)
	LeafReceipt(ctx context.Context, spki []byte) ([][]byte, error)
	LeafReplica(ctx context.Context, spki []byte, statement label.Digest) ([][]byte, error)
	LeafKeyRelease(ctx context.Context, spki []byte, access string, u Usage) ([][]byte, error)
	EnrolRequest(context.Context) ([]byte, error)
	EnrolInstall(context.Context, []byte) (Installed, error)
	Random(ctx context.Context, n int) ([]byte, error)
	Confirm(ctx context.Context, c label.Challenge, channel []byte) (label.Confirmations, error)
}

// initSide is what process 1's channel may ask.
type initSide interface {
	Status(context.Context) (Status, error)
	Extend(context.Context, label.Stage) error
	Unseal(context.Context) (Opened, label.Record, error)
}

// ServeInit answers process 1 until it closes the connection.
func ServeInit(ctx context.Context, conn net.Conn, s initSide) error {
	return serve(ctx, conn, func(q request) (answer, error) { return forInit(ctx, q, s) })
}

// ServeAgent answers the agent until it closes the connection. Extend and unseal are not among what it may ask.
func ServeAgent(ctx context.Context, conn net.Conn, s agentSide) error {
	return serve(ctx, conn, func(q request) (answer, error) { return forAgent(ctx, q, s) })
}

func serve(ctx context.Context, conn net.Conn, handle func(request) (answer, error)) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	for {
		var q request
		if err := readFrame(conn, &q); err != nil {
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return nil
			}
			return err
		}
		a, err := handle(q)
		var refused Refused
		switch {
		case errors.As(err, &refused):
			a = answer{Refused: refused.Reason}
		case err != nil:
			a = answer{Failed: err.Error()}
		}
		err = writeFrame(conn, a)
		clear(a.Sealed)
		clear(a.Half)
		if err != nil {
			return err
		}
	}
}

func forInit(ctx context.Context, q request, s initSide) (a answer, err error) {
	switch q.Op {
	case opStatus:
		return answerStatus(s.Status(ctx))
	case opExtend:
		stage, err := label.ParseStage(q.Stage)
		if err != nil {
			return a, err
		}
		return a, s.Extend(ctx, stage)
	case opUnseal:
		o, r, err := s.Unseal(ctx)
		if err != nil {
			return a, err
		}
		a.Record = r.Bytes()
		err = o.Use(func(sealed, half []byte) error { a.Sealed, a.Half = sealed, half; return nil })
		return a, err
	}
	return a, Refused{"not a request that process 1 may make"}
}

func forAgent(ctx context.Context, q request, s agentSide) (a answer, err error) {
	switch q.Op {
	case opStatus:
		return answerStatus(s.Status(ctx))
	case opRecord:
		r, err := s.Record(ctx)
		return answer{Record: r.Bytes()}, err
	case opWrite:
		r, err := label.ParseRecord(q.Record)
		if err != nil {
			return a, err
		}
		return a, s.WriteRecord(ctx, r)
	case opTLS:
		a.Chain, err = s.LeafTLS(ctx, q.SPKI)
	case opReceipt:
		a.Chain, err = s.LeafReceipt(ctx, q.SPKI)
	case opReplica:
		if len(q.Digest) != len(label.Digest{}) {
			return a, Refused{"replica leaf: no statement"}
		}
		a.Chain, err = s.LeafReplica(ctx, q.SPKI, label.Digest(q.Digest))
	case opKeyRelease:
		a.Chain, err = s.LeafKeyRelease(ctx, q.SPKI, q.Access, q.Usage)
	case opRequest:
		a.PEM, err = s.EnrolRequest(ctx)
	case opInstall:
		return answerInstall(s.EnrolInstall(ctx, q.Bundle))
	case opRandom:
		a.Random, err = s.Random(ctx, q.Size)
	case opConfirm:
		a.Confirmed, err = answerConfirm(ctx, q, s)
	default:
		err = Refused{"not a request that the agent may make"}
	}
	return a, err
}

func answerConfirm(ctx context.Context, q request, s agentSide) ([]byte, error) {
	c, err := label.ParseChallenge(q.Challenge)
	if err != nil {
		return nil, Refused{err.Error()}
	}
	all, err := s.Confirm(ctx, c, q.Channel)
	if err != nil {
		return nil, err
	}
	return all.Bytes(), nil
}

func answerStatus(s Status, err error) (answer, error) { return answer{Status: &s}, err }

func answerInstall(i Installed, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	in := &installation{Box: i.Box, Officer: i.Officer, NeedsStore: i.NeedsStore, Added: i.Approvals}
	if i.NeedsStore {
		in.StoreKey = i.key()
	}
	return answer{Install: in}, nil
}
