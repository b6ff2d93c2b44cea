package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"unicode/utf8"
)

// ErrAway says that no agent answers on the socket.
var ErrAway = errors.New("the agent does not answer")

// A Client speaks to the agent behind a unix socket. It dials when it needs to and may outlive the agent.
type Client struct{ http *http.Client }

// NewClient returns a client of the socket at path.
func NewClient(path string) *Client {
	return &Client{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		DisableCompression: true,
		DisableKeepAlives:  true, // the agent may be another one by the next request
	}}}
}

// Banner asks for the banner.
func (c *Client) Banner(ctx context.Context) (Banner, error) {
	var b Banner
	err := c.ask(ctx, http.MethodGet, "/v1/banner", nil, &b)
	return b, err
}

// Login opens a session.
func (c *Client) Login(ctx context.Context, who Credentials) (Session, error) {
	var s session
	err := c.ask(ctx, http.MethodPost, "/v1/login", who, &s)
	return s.Session, err
}

// Names lists names for completion.
func (c *Client) Names(ctx context.Context, s Session, list string) ([]string, error) {
	var n names
	err := c.ask(ctx, http.MethodPost, "/v1/names", listing{s, list}, &n)
	return n.Names, err
}

// Do sends one line and writes to out what comes back.
func (c *Client) Do(ctx context.Context, r Request, out io.Writer) (Outcome, error) {
	resp, err := c.send(ctx, http.MethodPost, "/v1/do", r)
	if err != nil {
		return Outcome{}, err
	}
	defer resp.Body.Close()
	in := bufio.NewReaderSize(resp.Body, maxFrame)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return Outcome{}, fmt.Errorf("read answer: %w", errors.Join(ErrAway, ctx.Err()))
		}
		var f frame
		if err := decode(bytes.NewReader(line), &f); err != nil {
			return Outcome{}, err
		}
		if f.Done {
			return f.Outcome, nil
		}
		if _, err := io.WriteString(out, f.Text); err != nil {
			return Outcome{}, err
		}
	}
}

func (c *Client) ask(ctx context.Context, method, path string, body, into any) error {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return decode(io.LimitReader(resp.Body, maxReply), into)
}

func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("write request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://krad"+path, bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("write request: %w", err)
	}
	resp, err := c.http.Do(req)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, ErrAway
	case resp.StatusCode == http.StatusOK:
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // what could be read is what there is to say
	return nil, errors.New(strings.TrimSpace(string(text)))
}

// runeEnd returns the length of the longest beginning of b that ends with a whole character.
func runeEnd(b []byte) int {
	for n := len(b); n > len(b)-utf8.UTFMax && n > 0; n-- {
		if utf8.RuneStart(b[n-1]) {
			if utf8.FullRune(b[n-1:]) {
				return len(b)
			}
			return n - 1
		}
	}
	return len(b)
}
