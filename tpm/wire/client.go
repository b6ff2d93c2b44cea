package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/keyrelease/krabox/kra/label"
)

// Init is process 1's channel to tpmd. Nobody else has one: it is a socket inherited at start.
type Init struct {
	mu   sync.Mutex // one request at a time
	conn net.Conn
}

// NewInit speaks over a connected stream.
func NewInit(conn net.Conn) *Init { return &Init{conn: conn} }

func (i *Init) do(ctx context.Context, q request) (answer, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	a, err := exchange(ctx, i.conn, q)
	if err != nil {
		return a, fmt.Errorf("%s: %w", q.Op, err)
	}
	return a, nil
}

// Status asks what the TPM side knows.
func (i *Init) Status(ctx context.Context) (Status, error) {
	return status(i.do(ctx, request{Op: opStatus}))
}

// Extend enters a stage. Running on a boot that was never open extends open first: both boxes end in one value.
func (i *Init) Extend(ctx context.Context, s label.Stage) error {
	_, err := i.do(ctx, request{Op: opExtend, Stage: s.String()})
	return err
}

// Preload hands over approvals that lay on the boot partition and returns how many of them are new. A refusal is a Refused.
func (i *Init) Preload(ctx context.Context, bundle []byte) (added int, err error) {
	a, err := i.do(ctx, request{Op: opPreload, Bundle: bundle})
	if err != nil {
		return 0, err
	}
	if a.Install == nil || a.Install.NeedsStore {
		return 0, fmt.Errorf("%s: not an answer to it", opPreload)
	}
	return a.Install.Added, nil
}

// Unseal opens the state at stage open and reads the NV record. A refusal is a Refused; where a register is the
// cause it names the register, the approval that came closest, and what was found.
func (i *Init) Unseal(ctx context.Context) (Opened, label.Record, error) {
	a, err := i.do(ctx, request{Op: opUnseal})
	if err != nil {
		return Opened{}, label.Record{}, err
	}
	r, err := label.ParseRecord(a.Record)
	if err != nil {
		return Opened{}, label.Record{}, err
	}
	o, err := NewOpened(a.Sealed, a.Half)
	return o, r, err
}

// WriteHalf puts another half of the state's key into the TPM, SecretSize bytes, while the state is open and the box runs: nothing that the
// half before it opens is opened again. After an error that is no Refused it may be there or not.
func (i *Init) WriteHalf(ctx context.Context, half []byte) error {
	_, err := i.do(ctx, request{Op: opHalf, Secret: half})
	return err
}

// Close gives up the channel.
func (i *Init) Close() error { return i.conn.Close() }

// Client is the agent's channel to tpmd. It is safe for concurrent use and dials again, once per call, when tpmd was
// restarted.
type Client struct {
	path string

	mu   sync.Mutex // guards conn; one request at a time
	conn net.Conn   // nil after an error
}

// Dial connects to tpmd's socket.
func Dial(path string) (*Client, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("dial tpmd: %w", err)
	}
	return &Client{path: path, conn: conn}, nil
}

// Close gives up the channel.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil
	}
	err := c.conn.Close()
	c.conn = nil
	return err
}

func (c *Client) do(ctx context.Context, q request) (answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	held := c.conn != nil
	a, err := c.try(ctx, q)
	if held && c.conn == nil && ctx.Err() == nil {
		a, err = c.try(ctx, q) // every request may be repeated
	}
	if err != nil {
		return a, fmt.Errorf("%s: %w", q.Op, err)
	}
	return a, nil
}

// try makes one attempt; conn is nil afterwards if the connection broke.
func (c *Client) try(ctx context.Context, q request) (answer, error) {
	if c.conn == nil {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.path)
		if err != nil {
			return answer{}, fmt.Errorf("dial tpmd: %w", err)
		}
		c.conn = conn
	}
	a, err := exchange(ctx, c.conn, q)
	var refused Refused
	var failed failure
	if err != nil && !errors.As(err, &refused) && !errors.As(err, &failed) {
		_ = c.conn.Close() // the stream is of no more use
		c.conn = nil
	}
	return a, err
}

func status(a answer, err error) (Status, error) {
	switch {
	case err != nil:
		return Status{}, err
	case a.Status == nil:
		return Status{}, errors.New("status: empty answer")
	}
	return *a.Status, nil
}

// Status asks what the TPM side knows.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return status(c.do(ctx, request{Op: opStatus}))
}

// Record reads the NV record.
func (c *Client) Record(ctx context.Context) (label.Record, error) {
	a, err := c.do(ctx, request{Op: opRecord})
	if err != nil {
		return label.Record{}, err
	}
	return label.ParseRecord(a.Record)
}

// WriteRecord returns when the TPM holds the record. The first one completes an enrolment. Going back in generation or
// log size is refused.
func (c *Client) WriteRecord(ctx context.Context, r label.Record) error {
	_, err := c.do(ctx, request{Op: opWrite, Record: r.Bytes()})
	return err
}

// LeafTLS has the label key certify a TLS key (SubjectPublicKeyInfo, DER) for this box's names, for at most 24 hours.
// The chain is DER, leaf first, without the root.
func (c *Client) LeafTLS(ctx context.Context, spki []byte) ([][]byte, error) {
	a, err := c.do(ctx, request{Op: opTLS, SPKI: spki})
	return a.Chain, err
}

// LeafReceipt has the label key certify an Ed25519 receipt key under the URI kra://DOMAIN/receipt/BOX.
func (c *Client) LeafReceipt(ctx context.Context, spki []byte) ([][]byte, error) {
	a, err := c.do(ctx, request{Op: opReceipt, SPKI: spki})
	return a.Chain, err
}

// LeafReplica has the label key certify a P-256 key that signs the one statement about copies of keys with
// this digest, under the URI kra://DOMAIN/replica/BOX/DIGEST.
func (c *Client) LeafReplica(ctx context.Context, spki []byte, statement label.Digest) ([][]byte, error) {
	a, err := c.do(ctx, request{Op: opReplica, SPKI: spki, Digest: statement[:]})
	return a.Chain, err
}

// LeafImport has the label key certify the RSA-3072 key to which private keys are wrapped for this box, under the URI kra://DOMAIN/import/BOX.
func (c *Client) LeafImport(ctx context.Context, spki []byte) ([][]byte, error) {
	a, err := c.do(ctx, request{Op: opImport, SPKI: spki})
	return a.Chain, err
}

// LeafKeyRelease has the label key certify a key-release key for an access identifier, for a year.
func (c *Client) LeafKeyRelease(ctx context.Context, spki []byte, access string, u Usage) ([][]byte, error) {
	a, err := c.do(ctx, request{Op: opKeyRelease, SPKI: spki, Access: access, Usage: u})
	return a.Chain, err
}

// EnrolRequest prepares the TPM of a factory box, as far as it is not yet prepared, and gives the request to paste
// into the desk.
func (c *Client) EnrolRequest(ctx context.Context) ([]byte, error) {
	a, err := c.do(ctx, request{Op: opRequest})
	return a.PEM, err
}

// Random asks the TPM for up to 64 random bytes.
func (c *Client) Random(ctx context.Context, n int) ([]byte, error) {
	a, err := c.do(ctx, request{Op: opRandom, Size: n})
	return a.Random, err
}

// Confirm has the TPM show what the box is, for a challenge on a channel (label.NonceSize bytes). In any but an approved state, and for
// a label that the box does not have, it is a Refused.
func (c *Client) Confirm(ctx context.Context, q label.Challenge, channel []byte) (label.Confirmations, error) {
	a, err := c.do(ctx, request{Op: opConfirm, Challenge: q.Bytes(), Channel: channel})
	if err != nil {
		return label.Confirmations{}, err
	}
	return label.ParseConfirmations(a.Confirmed)
}
