package main

import (
	"context"
	"flag"
	"fmt"

	"github.com/keyrelease/krabox/kra"
)

var groupCommand = command{
	name:  "group",
	args:  "show|add|remove GROUP [DECRYPTOR]...",
	brief: "look at a group that you maintain, or change who is in it",
	help: `
The officers of a box can make you the maintainer of a group: you may change who is in
it, and nothing else. What you change, you state with the key of your client
certificate; the agent keeps the statement. Decryptors are written ALIAS:NAME, where
ALIAS is what the box calls the authority that certified them:

  kra group show legal
  kra group add legal "corp:CN=Alice Smith,O=Example" corp:CN=bob,O=Example
  kra group remove legal corp:CN=mallory,O=Example
`,
	run: runGroup,
}

func runGroup(t *tool, ctx context.Context, fs *flag.FlagSet, args []string) error {
	set := t.settings(fs, setURL, setRoot, setCert, setKey)
	operands, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(operands) < 2 {
		return usagef("say what to do with which group: kra group show GROUP, kra group add GROUP DECRYPTOR")
	}
	verb, group := operands[0], operands[1]
	who, err := decryptors(operands[2:])
	if err != nil {
		return err
	}
	switch {
	case verb != "show" && verb != "add" && verb != "remove":
		return usagef("%q is none of show, add and remove", verb)
	case (verb == "show") != (len(who) == 0):
		return usagef("group show names no decryptors, group add and group remove name some")
	case kra.CheckName(group) != nil:
		return usagef("%q is not the name of a group", group)
	}
	url, err := set.need(setURL, "the agent is needed")
	if err != nil {
		return err
	}
	a, err := set.agent(url)
	if err != nil {
		return err
	}
	defer a.Close()
	var g kra.GroupState
	switch verb {
	case "add":
		g, err = a.EditGroup(ctx, group, who, nil)
	case "remove":
		g, err = a.EditGroup(ctx, group, nil, who)
	default:
		if g, err = a.Group(ctx, group); err == nil {
			return t.showGroup(g)
		}
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.stdout, "%s has %d members now\n", plain(g.Group), g.Size)
	return err
}

func decryptors(names []string) (out []kra.Decryptor, err error) {
	for _, n := range names {
		d, err := kra.ParseDecryptor(n)
		if err != nil {
			return nil, usagef("%v", err)
		}
		out = append(out, d)
	}
	return out, nil
}

func (t *tool) showGroup(g kra.GroupState) error {
	for _, m := range g.Members {
		if _, err := fmt.Fprintln(t.stdout, plain(m)); err != nil {
			return err
		}
	}
	return nil
}
