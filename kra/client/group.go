package client

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/keyrelease/krabox/kra"
)

// ErrNotMaintained means that the agent has no such group for this client, or cannot do with it what was asked.
var ErrNotMaintained = errors.New("the agent refuses: you do not maintain such a group, or that is not possible with it")

// Group asks for a group that the holder of Config.Certificate maintains, with all its members.
func (a *Agent) Group(ctx context.Context, name string) (kra.GroupState, error) {
	var all kra.GroupState
	for after := ""; ; {
		g, _, err := a.groupPage(ctx, name, after)
		if err != nil {
			return kra.GroupState{}, err
		}
		if all.Group != "" && g.Version != all.Version {
			return kra.GroupState{}, fmt.Errorf("read group %s: it changed meanwhile; try again", name)
		}
		g.Members = append(all.Members, g.Members...)
		if all = g; !g.More {
			return all, nil
		}
		after = g.Members[len(g.Members)-1]
	}
}

func (a *Agent) groupPage(ctx context.Context, name, after string) (kra.GroupState, issuer, error) {
	q := url.Values{"group": {name}}
	if after != "" {
		q.Set("after", after)
	}
	ans, err := a.exchange(ctx, kra.PathGroups+"?"+q.Encode(), nil, kra.MaxResponse)
	if err != nil {
		return kra.GroupState{}, issuer{}, err
	}
	g, err := a.groupOf(ans)
	return g, ans.from, err
}

func (a *Agent) groupOf(ans answer) (kra.GroupState, error) {
	switch ans.status {
	case http.StatusOK:
	case http.StatusForbidden:
		return kra.GroupState{}, ErrNotMaintained
	default:
		return kra.GroupState{}, a.rejected(ans)
	}
	g, err := kra.ParseGroupState(ans.body)
	if err != nil {
		return kra.GroupState{}, untrusted("%w", err)
	}
	return g, nil
}

// EditGroup states, with the key of Config.Certificate, whom a group has to gain and lose, and returns the group as it is
// then, without members. The statement is for the box that the channel leads to and for the group as it is now.
func (a *Agent) EditGroup(ctx context.Context, name string, add, remove []kra.Decryptor) (kra.GroupState, error) {
	key, ok := a.key.(crypto.Signer)
	if !ok {
		return kra.GroupState{}, errors.New("edit group: a client certificate with its private key is needed")
	}
	now, from, err := a.groupPage(ctx, name, "")
	if err != nil {
		return kra.GroupState{}, err
	}
	e, err := kra.SignGroupEdit(from.domain, from.box, name, add, remove, now.Version, key)
	if err != nil {
		return kra.GroupState{}, err
	}
	body, err := e.Encode()
	if err != nil {
		return kra.GroupState{}, fmt.Errorf("edit group: %w", err)
	}
	ans, err := a.exchange(ctx, kra.PathGroups, body, kra.MaxResponse)
	if err != nil {
		return kra.GroupState{}, err
	}
	return a.groupOf(ans)
}
