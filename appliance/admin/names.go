package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/boot/machine"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/console/wire"
)

// Names lists what the console may complete a word from.
func (a *Agent) Names(ctx context.Context, id wire.Session, list string) []string {
	if a.c.Mode != console.Enrolled {
		return nil
	}
	who, ok := a.who(id)
	if !ok {
		return nil
	}
	st := (&step{a: a, officer: who}).state()
	if who.Duty == store.Maintainer {
		return maintainerNames(st, who.Group, list)
	}
	if who.Duty == store.TeamOfficer && !slices.Contains(teamLists, list) {
		return nil
	}
	switch list {
	case console.NamesAccess:
		return each(st.Accesses(), func(x store.Access) string { return string(x.ID) })
	case console.NamesRule:
		return each(st.Rules(), func(x store.Rule) string { return x.Name })
	case console.NamesGroup:
		return each(st.Groups(), func(x store.Group) string { return x.Name })
	case console.NamesAlias:
		return append(anchors(st), each(st.Sources(), func(x store.Source) string { return string(x.Alias) })...)
	case console.NamesAnchor:
		return append(anchors(st), each(authorities(st), func(x store.Source) string { return string(x.Alias) })...)
	case console.NamesPlatforms:
		return each(st.Platforms(), func(x store.PlatformDomain) string { return string(x.Alias) })
	case console.NamesRole:
		return each(st.Roles(), func(x store.Role) string { return x.Name })
	case console.NamesKey:
		return each(st.Keys(), func(x store.Key) string { return short(x.ID) })
	case console.NamesOfficer:
		return each(st.Officers(), func(x store.Officer) string { return x.Name })
	case console.NamesRequest:
		mine := slices.DeleteFunc(st.Requests(), func(r store.Request) bool { return !sees(who, r) })
		return each(mine, func(x store.Request) string { return fmt.Sprint(x.Number) })
	case console.NamesTeam:
		return slices.Sorted(maps.Keys(st.Teams()))
	case console.NamesBox:
		return each(st.Peers(), func(x store.Peer) string { return x.Box })
	case console.NamesDisk:
		return a.diskNames(ctx)
	case console.NamesMember:
		return members(st)
	}
	return nil
}

// diskNames are none where disks cannot be listed now: the command itself says why.
func (a *Agent) diskNames(ctx context.Context) []string {
	if a.c.Machine == nil {
		return nil
	}
	all, err := a.c.Machine.Disks(context.WithoutCancel(ctx)) // who has given up must not cut the agent off from process 1 in the midst of a word
	if err != nil {
		return nil
	}
	return each(all, func(d machine.Disk) string { return d.Name })
}

// maintainerNames are those that the maintainer of a group may see.
func maintainerNames(st *store.State, group, list string) []string {
	g, _ := st.Group(group)
	switch list {
	case console.NamesGroup:
		return []string{group}
	case console.NamesMember:
		return g.Members[:min(len(g.Members), wire.MaxNames)]
	}
	return nil
}

func anchors(st *store.State) []string {
	return each(st.Anchors(), func(x store.Anchor) string { return string(x.Alias) })
}

// authorities are the attribute authorities.
func authorities(st *store.State) []store.Source {
	return slices.DeleteFunc(st.Sources(), func(x store.Source) bool { return x.Attribute == nil })
}

func each[V any](all []V, name func(V) string) []string {
	out := make([]string, 0, min(len(all), wire.MaxNames))
	for _, v := range all[:min(len(all), wire.MaxNames)] {
		out = append(out, name(v))
	}
	return out
}

// members are the decryptors in groups, and the beginnings of those who could be.
func members(st *store.State) []string {
	out := each(st.Anchors(), func(x store.Anchor) string { return string(x.Alias) + ":CN=" })
	for _, g := range st.Groups() {
		for _, m := range g.Members {
			if len(out) == wire.MaxNames {
				return out
			}
			if !strings.Contains("\n"+strings.Join(out, "\n")+"\n", "\n"+m+"\n") {
				out = append(out, m)
			}
		}
	}
	return out
}
