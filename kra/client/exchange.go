package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// A busy agent is asked again this often, after the time it names or this long.
const (
	maxTries  = 4
	busyPause = time.Second
	maxPause  = 10 * time.Second
)

// answer is an HTTP answer that was read whole.
type answer struct {
	status int
	retry  time.Duration
	body   []byte
	from   issuer

	channel *tls.ConnectionState // on which it came
}

// exchange sends body, or asks for a document where that is nil, and reads at most
// limit bytes of answer. It asks a busy agent again.
func (a *Agent) exchange(ctx context.Context, path string, body []byte, limit int64) (answer, error) {
	for try := 1; ; try++ {
		ans, err := a.once(ctx, path, body, limit)
		if err != nil {
			return answer{}, err
		}
		if ans.status != http.StatusServiceUnavailable || ans.retry == 0 || try == maxTries {
			return ans, nil
		}
		if err := wait(ctx, ans.retry); err != nil {
			return answer{}, &Unreachable{URL: a.URL(), Err: err}
		}
	}
}

func (a *Agent) once(ctx context.Context, path string, body []byte, limit int64) (answer, error) {
	req, err := a.request(ctx, path, body)
	if err != nil {
		return answer{}, fmt.Errorf("make request: %w", err)
	}
	res, err := a.http.Do(req)
	if err != nil {
		return answer{}, a.transportError(unwrapURL(err))
	}
	defer res.Body.Close()
	ans := answer{status: res.StatusCode, retry: pause(res), channel: res.TLS}
	if ans.from, err = peerOf(res.TLS); err != nil {
		return answer{}, untrusted("believe %s: %w", a.URL(), err)
	}
	if err := a.permits(res.TLS, ans.from); err != nil {
		return answer{}, untrusted("believe %s: %w", a.URL(), err)
	}
	a.last.Store(&ans.from)
	ans.body, err = io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		clear(ans.body)
		return answer{}, a.transportError(err)
	}
	if int64(len(ans.body)) > limit {
		clear(ans.body)
		return answer{}, &Rejected{URL: a.URL(), Status: res.StatusCode, Detail: "answer is too long"}
	}
	if media, _, err := mime.ParseMediaType(res.Header.Get("Content-Type")); err != nil || media != kra.ContentType {
		return answer{}, &Rejected{URL: a.URL(), Status: res.StatusCode}
	}
	return ans, nil
}

func (a *Agent) request(ctx context.Context, path string, body []byte) (*http.Request, error) {
	path, query, _ := strings.Cut(path, "?")
	at := a.base.JoinPath(path)
	at.RawQuery = query
	to := at.String()
	if body == nil {
		return http.NewRequestWithContext(ctx, http.MethodGet, to, nil)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", kra.ContentType)
	if path == kra.PathGroups {
		return req, nil // good once
	}
	// Asking twice is harmless: it is only recorded twice. net/http then repeats a
	// request whose idle connection the agent had just closed; the header is not sent.
	req.Header["Idempotency-Key"] = []string{}
	return req, nil
}

func pause(res *http.Response) time.Duration {
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		return 0
	}
	s, err := strconv.ParseUint(res.Header.Get("Retry-After"), 10, 31)
	if err != nil {
		return busyPause
	}
	return min(max(time.Duration(s)*time.Second, busyPause/10), maxPause)
}

// rejected makes the error of an answer with a status that no document and no
// release travels under.
func (a *Agent) rejected(ans answer) error {
	e, err := kra.ParseError(ans.body)
	if err != nil {
		return &Rejected{URL: a.URL(), Status: ans.status}
	}
	r := &Rejected{URL: a.URL(), Status: ans.status, Code: e.Code, Detail: e.Detail}
	if e.Code == kra.CodeBusy || e.Code == kra.CodeUnavailable {
		return &Unreachable{URL: a.URL(), Err: r}
	}
	return r
}

// document fetches a document without a client certificate being needed.
func (a *Agent) document(ctx context.Context, path string, limit int64) ([]byte, error) {
	ans, err := a.exchange(ctx, path, nil, limit)
	if err != nil {
		return nil, err
	}
	if ans.status != http.StatusOK {
		return nil, a.rejected(ans)
	}
	return ans.body, nil
}

// unwrapURL takes off the verb and address that net/http puts before an error: our
// own errors say them.
func unwrapURL(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
