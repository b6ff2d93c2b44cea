package outbound

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	namesFile  = "servers" // one address a line
	maxServers = 3         // as many as a resolver asks
	maxNames   = 1 << 10   // bytes of the file
)

// WriteServers says which name servers to ask from now on, in a folder that outboundd may read; none: names are not known. The
// file is replaced as a whole. Process 1 calls it.
func WriteServers(dir string, servers []netip.Addr) error {
	if len(servers) > maxServers {
		return fmt.Errorf("write name servers: %d, at most %d are asked", len(servers), maxServers)
	}
	var text strings.Builder
	for _, a := range servers {
		if !a.IsValid() || a.Zone() != "" {
			return fmt.Errorf("write name servers: %s cannot be asked", a)
		}
		fmt.Fprintln(&text, a)
	}
	next := filepath.Join(dir, namesFile+".next")
	if err := os.WriteFile(next, []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("write name servers: %w", err)
	}
	if err := errors.Join(os.Chmod(next, 0o644), os.Rename(next, filepath.Join(dir, namesFile))); err != nil {
		return fmt.Errorf("write name servers: %w", err)
	}
	return nil
}

// readServers returns what WriteServers wrote last, none if it never did.
func readServers(dir string) ([]netip.Addr, error) {
	f, err := os.Open(filepath.Join(dir, namesFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read name servers: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxNames+1))
	if err != nil {
		return nil, fmt.Errorf("read name servers: %w", err)
	}
	return parseServers(string(text))
}

func parseServers(text string) (out []netip.Addr, err error) {
	if len(text) > maxNames {
		return nil, errors.New("read name servers: too many")
	}
	for line := range strings.Lines(text) {
		a, err := netip.ParseAddr(strings.TrimSuffix(line, "\n"))
		if err != nil || a.String()+"\n" != line || a.Zone() != "" || slices.Contains(out, a) || len(out) == maxServers {
			return nil, fmt.Errorf("read name servers: %.60q is malformed or one too many", line)
		}
		out = append(out, a)
	}
	return out, nil
}

// errNoServers is what a name gets on a box that was given none.
var errNoServers = errors.New("no name server is configured: give one to network static, or use an address")

// lookupWithin is how long one name server may take, so that another gets a chance.
const lookupWithin = 3 * time.Second

// lookup returns a name's addresses, the best first, from the first name server that says yes or no.
func (s *server) lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	servers, err := readServers(s.names)
	if err != nil {
		return nil, err
	}
	err = errNoServers
	for _, to := range servers {
		within, cancel := context.WithTimeout(ctx, lookupWithin)
		found, failed := s.resolver(to).LookupNetIP(within, "ip", name+".") // as it is, without search domains
		cancel()
		var dns *net.DNSError
		if failed == nil || errors.As(failed, &dns) && dns.IsNotFound {
			return found, failed
		}
		err = failed
	}
	return nil, err
}

// resolver asks one name server. The files and the servers that Go's resolver would look for are not there.
func (s *server) resolver(server netip.Addr) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return s.dialer().DialContext(ctx, network, netip.AddrPortFrom(server, portDNS).String())
	}}
}

const portDNS = 53
