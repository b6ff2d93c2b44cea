package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/keyrelease/krabox/kra"
)

var whoAmICommand = command{
	name:  "whoami",
	brief: "say what the agent knows of you, and what you belong to",
	help: `
Asks the agent who you are to it: the name that your client certificate gives you,
the access identifiers that you belong to now, what authorities say about you and
until when, and which authorities could not be asked. What only an external service
could say is not asked.

  kra whoami
`,
	run: runWhoAmI,
}

func runWhoAmI(t *tool, ctx context.Context, fs *flag.FlagSet, args []string) error {
	asJSON := fs.Bool("json", false, "write JSON")
	set := t.settings(fs, setURL, setRoot, setCert, setKey)
	operands, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(operands) > 0 {
		return usagef("whoami takes no operand")
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
	who, err := a.WhoAmI(ctx)
	if err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(t.stdout).Encode(who)
	}
	return t.showWhoAmI(who)
}

func (t *tool) showWhoAmI(who kra.WhoAmI) error {
	w := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "you are\t%s\n", plain(who.Decryptor))
	ids := make([]string, len(who.Access))
	for i, id := range who.Access {
		ids[i] = string(id)
	}
	if len(ids) == 0 {
		ids = []string{"nothing now"}
	}
	fmt.Fprintf(w, "you belong to\t%s\n", strings.Join(ids, ", "))
	for _, k := range who.Information {
		fmt.Fprintf(w, "%s\t%s\n", plain(k.Kind), plain(inWords(k)))
	}
	for _, a := range who.Unavailable {
		fmt.Fprintf(w, "not asked\t%s, which cannot be reached\n", plain(string(a)))
	}
	return w.Flush()
}

// inWords says in words what an authority says.
func inWords(k kra.Known) string {
	what := k.Name
	switch {
	case k.Name == "":
		what = k.Value
	case k.Value != "":
		what += " = " + k.Value
	}
	what += ", says " + string(k.Authority) + " (" + k.Via + ")"
	if k.From != nil {
		what += ", from " + k.From.UTC().Format(time.DateTime)
	}
	if k.Until != nil {
		what += ", until " + k.Until.UTC().Format(time.DateTime)
	}
	return what
}
