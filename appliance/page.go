package appliance

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"time"

	advertising "github.com/keyrelease/krabox/appliance/board"
	"github.com/keyrelease/krabox/appliance/store"
	boards "github.com/keyrelease/krabox/kra/board"
	"github.com/keyrelease/krabox/kra/label"
	tpm "github.com/keyrelease/krabox/tpm/wire"
)

// page is the box's own board, and its eye on its domain's.
func (a *agent) page(o opened, b *board, h *health, by *tpm.Client) (*advertising.Keeper, error) {
	box := o.store.State().Box()
	k, err := advertising.New(advertising.Config{Domain: a.domain, Box: box.Name, Addresses: addressesOf(box, a.in.release.Addr()), TPM: by,
		Clock: o.clock.time, Able: h.able, Keys: func() []boards.Key { return keysOf(o.store.State()) },
		Save: func(ctx context.Context, p label.SignedPermissions) error {
			_, err := o.store.Commit(ctx, store.PermissionsSet{Signed: p.Bytes()})
			return err
		}, Dial: b.dial, Log: a.log})
	if err != nil {
		return nil, err
	}
	known, err := o.store.State().Permissions()
	if err != nil {
		return nil, err
	}
	k.Configure(settingsOf(o.store.State()), known)
	return k, nil
}

func settingsOf(st *store.State) advertising.Settings {
	b := st.Board()
	return advertising.Settings{URL: b.URL, CA: b.CA, Every: seconds(b.Every), Limit: seconds(b.Limit)}
}

// addressesOf are where the box is reached: its names, at the port that it listens on.
func addressesOf(box label.Box, at net.Addr) (out []string) {
	p, err := netip.ParseAddrPort(at.String())
	if err != nil {
		return nil
	}
	add := func(host string) {
		if len(out) < label.MaxAddresses {
			out = append(out, "https://"+net.JoinHostPort(host, strconv.Itoa(int(p.Port()))))
		}
	}
	for _, name := range box.DNS {
		add(name)
	}
	for _, ip := range box.IP {
		add(ip.String())
	}
	return out
}

// maxShown bounds the keys on the page; the directory has them all.
const maxShown = 200

// keysOf are the first keys to encrypt to, as the page shows them.
func keysOf(st *store.State) (out []boards.Key) {
	all := published{st}
	for _, a := range st.Accesses() {
		if len(out) == maxShown {
			break
		}
		if k, ok := all.of(a); ok {
			out = append(out, boards.Key{Access: string(k.Access), Title: k.Title, Suite: k.Suite, ID: k.KeyID})
		}
	}
	return out
}

// permits holds the platforms of the box's own domain to what that domain permits, where the box knows it. Other domains' lists it has not.
func (a *agent) permits(k *advertising.Keeper) func(label.Holder, uint64, time.Time, ...label.Digest) error {
	return func(h label.Holder, version uint64, at time.Time, keys ...label.Digest) error {
		known := k.Permissions()
		if known == nil || h.Domain != a.domain.Name {
			return nil
		}
		return permitted(known.Permissions, h, version, at, keys...)
	}
}

// permitted says whether a platform may be this label and, if it confirmed a version, run it.
func permitted(p label.Permissions, h label.Holder, version uint64, at time.Time, keys ...label.Digest) error {
	if err := p.Allows(h.Label, h.Name, label.Digest{}, at, keys...); err != nil || version == 0 {
		return err
	}
	return p.Runs(version)
}
