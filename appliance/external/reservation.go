package external

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// A reservation is what a service set aside under the id of a question.
//
//	reserved --capture--> captured        the key leaves
//	    '-----cancel----> given back      also from captured, if nobody knows whether it was
type reservation struct {
	c  *client
	id string
}

// Capture makes it final, trying twice. If that stays in doubt, the key stays in the box, and it is given back.
func (r *reservation) Capture(ctx context.Context) error {
	err := r.settle(ctx, pathCapture)
	if doubtful(err) && ctx.Err() == nil {
		err = r.settle(ctx, pathCapture)
	}
	if doubtful(err) {
		_ = r.Cancel(context.WithoutCancel(ctx)) // a service forgets what it cannot be told
	}
	return err
}

// Cancel gives it back.
func (r *reservation) Cancel(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	return r.settle(ctx, pathCancel)
}

// errSaidNo is what a service says, as opposed to what is not known.
var errSaidNo = errors.New("refused")

func doubtful(err error) bool { return err != nil && !errors.Is(err, errSaidNo) }

func (r *reservation) settle(ctx context.Context, path string) error {
	body, err := json.Marshal(settlement{protocol, r.c.box, r.id})
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	within, cancel := context.WithTimeout(ctx, r.c.service.Timeout)
	defer cancel()
	a, _, err := r.c.post(within, path, r.id, body)
	switch {
	case err != nil:
		return err
	case a.Answer != yes:
		return errSaidNo
	}
	return nil
}
