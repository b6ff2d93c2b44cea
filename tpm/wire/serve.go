package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

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
	LeafImport(ctx context.Context, spki []byte) ([][]byte, error)
	LeafKeyRelease(ctx context.Context, spki []byte, access string, u Usage) ([][]byte, error)
	EnrolRequest(context.Context) ([]byte, error)
	EnrolInstall(context.Context, []byte) (Installed, error)
	Random(ctx context.Context, n int) ([]byte, error)
	Confirm(ctx context.Context, c label.Challenge, channel []byte) (label.Confirmations, error)
	BindSecret(ctx context.Context, l label.ID, secret []byte) ([]byte, error)
	OpenSecret(ctx context.Context, l label.ID, blob []byte) ([]byte, error)
	Advance(context.Context) (uint64, error)
	Advertise(ctx context.Context, addresses []string, life time.Duration) ([]label.SignedAdvert, error)
	Retract(ctx context.Context, l label.ID) (label.SignedRetraction, error)
	Holdings(context.Context) ([]Holding, error)
	Events(context.Context) (Events, error)
	Zeroize(context.Context) error
	operators
}

// operators is what the agent may say of operators who are present.
type operators interface {
	Present(ctx context.Context, l label.ID, passphrase []byte, during time.Duration) error
	OperatorChallenge(ctx context.Context, l label.ID, during time.Duration) ([]byte, error)
	OperatorAnswer(ctx context.Context, text []byte) error
	Absent(ctx context.Context, l label.ID) error
}

// initSide is what process 1's channel may ask.
type initSide interface {
	Status(context.Context) (Status, error)
	Extend(context.Context, label.Stage) error
	Preload(context.Context, []byte) (Installed, error)
	Unseal(context.Context) (Opened, label.Record, error)
	WriteHalf(ctx context.Context, half []byte) error
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
		clear(q.Secret)
		clear(a.Secret)
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
	case opPreload:
		return answerInstall(s.Preload(ctx, q.Bundle))
	case opUnseal:
		o, r, err := s.Unseal(ctx)
		if err != nil {
			return a, err
		}
		a.Record = r.Bytes()
		err = o.Use(func(sealed, half []byte) error { a.Sealed, a.Half = sealed, half; return nil })
		return a, err
	case opHalf:
		return a, s.WriteHalf(ctx, q.Secret)
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
	case opImport:
		a.Chain, err = s.LeafImport(ctx, q.SPKI)
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
	case opBind:
		a.Blob, err = s.BindSecret(ctx, q.Label, q.Secret)
	case opOpen:
		a.Secret, err = s.OpenSecret(ctx, q.Label, q.Blob)
	case opAdvance:
		a.Epoch, err = s.Advance(ctx)
	case opAdvertise:
		a.Adverts, err = answerAdvertise(ctx, q, s)
	case opRetract:
		a.Retracted, err = answerRetract(ctx, q, s)
	case opHoldings:
		a.Holdings, err = s.Holdings(ctx)
	case opEvents:
		return answerEvents(s.Events(ctx))
	case opZeroize:
		err = s.Zeroize(ctx)
	default:
		return forOperators(ctx, q, s)
	}
	return a, err
}

func forOperators(ctx context.Context, q request, s operators) (a answer, err error) {
	during := time.Duration(q.Seconds) * time.Second
	switch q.Op {
	case opPresent:
		err = s.Present(ctx, q.Label, q.Secret, during)
	case opAsk:
		a.PEM, err = s.OperatorChallenge(ctx, q.Label, during)
	case opAnswer:
		err = s.OperatorAnswer(ctx, q.Text)
	case opAbsent:
		err = s.Absent(ctx, q.Label)
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

func answerEvents(e Events, err error) (answer, error) { return answer{Events: &e}, err }

func answerInstall(i Installed, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	in := &installation{Box: i.Box, Officer: i.Officer, NeedsStore: i.NeedsStore, Added: i.Approvals, Epoch: i.Epoch}
	if i.NeedsStore {
		in.StoreKey = i.key()
	}
	return answer{Install: in}, nil
}

func answerAdvertise(ctx context.Context, q request, s agentSide) (out [][]byte, err error) {
	all, err := s.Advertise(ctx, q.Addresses, q.Life)
	for _, a := range all {
		out = append(out, a.Bytes())
	}
	return out, err
}

func answerRetract(ctx context.Context, q request, s agentSide) ([]byte, error) {
	r, err := s.Retract(ctx, q.Label)
	if err != nil {
		return nil, err
	}
	return r.Bytes(), nil
}
