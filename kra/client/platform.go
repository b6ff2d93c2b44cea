package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/label"
)

// platform is the machine that asks for keys as a machine. Show answers a box's nonce on a channel: an error means that its TPM does not
// sign in this state.
type platform interface {
	Show(ctx context.Context, nonce, channel []byte) (label.Showing, error)
	Close() error
}

// A showing is what the platform showed, and on which connection. The zero showing is none.
type showing struct {
	connection string
	digest     *label.Digest
}

// connectionExporter tells connections apart.
const connectionExporter = "EXPORTER-kra-connection-v1"

var errOtherConnection = errors.New("the agent closed the connection on which the platform had shown itself")

func connectionOf(s *tls.ConnectionState) (string, error) {
	b, err := s.ExportKeyingMaterial(connectionExporter, nil, label.NonceSize)
	return string(b), err
}

// on fails if the answer came over another connection.
func (s showing) on(ans answer) error {
	if s.digest == nil {
		return nil
	}
	c, err := connectionOf(ans.channel)
	if err == nil && c != s.connection {
		err = errOtherConnection
	}
	return err
}

// show has the platform, if there is one, show itself on the agent's connection; before that the box shows itself on the same one, if that is
// wanted. The caller holds one.
func (a *Agent) show(ctx context.Context) (showing, error) {
	if a.platform == nil {
		return showing{}, nil
	}
	before := ""
	if a.mutual {
		_, channel, err := a.challenge(ctx, label.Challenge{Label: releaseLabel})
		if err != nil {
			return showing{}, err
		}
		if before, err = connectionOf(channel); err != nil {
			return showing{}, untrusted("believe %s: %w", a.URL(), err)
		}
	}
	ans, asked, err := a.offer(ctx, label.Showing{})
	if err != nil {
		return showing{}, err
	}
	channel, err := ans.channel.ExportKeyingMaterial(label.PlatformExporter, asked.Nonce, label.NonceSize)
	if err != nil || asked.Nonce == nil {
		return showing{}, untrusted("believe %s: no number to answer: %w", a.URL(), err)
	}
	s, err := a.platform.Show(ctx, asked.Nonce, channel)
	if err != nil {
		return showing{}, fmt.Errorf("show platform: %w", err)
	}
	digest := s.Digest()
	out := showing{digest: &digest}
	if out.connection, err = connectionOf(ans.channel); err != nil {
		return showing{}, untrusted("believe %s: %w", a.URL(), err)
	}
	if before != "" && before != out.connection {
		return showing{}, errOtherConnection
	}
	took, shown, err := a.offer(ctx, s)
	if err != nil {
		return showing{}, err
	}
	if shown.Shown == nil || *shown.Shown != digest {
		return showing{}, untrusted("believe %s: it took note of something else than was shown", a.URL())
	}
	return out, out.on(took)
}

// offer sends a showing.
func (a *Agent) offer(ctx context.Context, s label.Showing) (answer, label.Shown, error) {
	ans, err := a.exchange(ctx, kra.PathPlatform, s.Bytes(), label.MaxChallenge)
	if err != nil {
		return answer{}, label.Shown{}, err
	}
	if ans.status != http.StatusOK {
		return answer{}, label.Shown{}, a.rejected(ans)
	}
	shown, err := label.ParseShown(ans.body)
	if err != nil {
		return answer{}, label.Shown{}, untrusted("believe %s: %w", a.URL(), err)
	}
	return ans, shown, nil
}
