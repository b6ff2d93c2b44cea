package enrol

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// installLimit is how long a desk waits for a box to install a bundle, which has a little less.
const (
	installWithin = 4 * time.Minute
	installLimit  = 5 * time.Minute
)

// ErrCode says that the box does not know the code, or does not take it: it is wrong, used or too old, or somebody stands between.
var ErrCode = errors.New("the box does not know this code, or takes it no more: read it again at its console, or have it show a new one (enrol listen)")

// A Desk is the desk's side of a meeting that the box has entered: both have proved to know the code.
type Desk struct {
	Request []byte // of the box

	code    Code
	channel []byte
	conn    net.Conn
	client  *http.Client
	base    string
}

// Meet meets the box at https://HOST[:PORT].
func Meet(ctx context.Context, at string, code Code) (*Desk, error) {
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" || u.User != nil {
		return nil, errors.New("meet box: want its address as https://HOST or https://HOST:PORT")
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "443")
	}
	// Whose key it is shows by the code, and not by a certificate: nobody has certified a factory box.
	c, err := (&tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, fmt.Errorf("meet box: %w", err)
	}
	d := &Desk{code: code, conn: c, base: "https://" + host}
	if err := d.begin(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("meet box: %w", err), d.Close())
	}
	return d, nil
}

func (d *Desk) begin(ctx context.Context) error {
	state := d.conn.(*tls.Conn).ConnectionState()
	var err error
	if d.channel, err = channel(&state); err != nil {
		return err
	}
	once := make(chan net.Conn, 1)
	once <- d.conn
	d.client = &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1, IdleConnTimeout: Valid, DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		select {
		case c := <-once:
			return c, nil
		default:
			return nil, errors.New("the connection to the box is lost, and the code with it")
		}
	}}}
	var a asked
	if err := d.post(ctx, requestPath, hello{d.code.prove(byDesk, d.channel, nil)}, &a); err != nil {
		return err
	}
	if !d.code.proves(a.Proof, byBox, d.channel, []byte(a.Request)) {
		return ErrCode
	}
	d.Request = []byte(a.Request)
	return nil
}

// Answer gives the box its bundle and returns the box's name when it is installed.
func (d *Desk) Answer(ctx context.Context, bundle []byte) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, installLimit)
	defer cancel()
	var r done
	if err := d.post(ctx, bundlePath, answer{string(bundle), d.code.prove(byAnswer, d.channel, bundle)}, &r); err != nil {
		return "", fmt.Errorf("answer box: %w", err)
	}
	if r.Error != "" {
		return "", fmt.Errorf("answer box: it refuses the bundle: %.500q", r.Error)
	}
	return r.Box, nil
}

func (d *Desk) post(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, d.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	q.Header.Set("Content-Type", "application/json")
	a, err := d.client.Do(q)
	if err != nil {
		return fmt.Errorf("%w", unwrapURL(err))
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		return ErrCode
	}
	return read(a.Body, out)
}

// unwrapURL leaves out the address, which the officer knows.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// Host is where the box was met, without the scheme.
func (d *Desk) Host() string { return strings.TrimPrefix(d.base, "https://") }

// Close ends the meeting.
func (d *Desk) Close() error {
	if d.client != nil {
		d.client.CloseIdleConnections()
	}
	if err := d.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
