package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra/client"
)

var verifyCommand = command{
	name:  "verify",
	args:  "[URL]",
	brief: "say which box answers and why it may be believed",
	help: `
Connects to the box and validates its certificates up to the domain root. A box can
only have this certificate while its TPM signs, and the TPM signs only while the box
runs software that the domain has approved.

  kra verify https://box1.example:8443
`,
	run: runVerify,
}

func runVerify(t *tool, ctx context.Context, fs *flag.FlagSet, args []string) error {
	asJSON := fs.Bool("json", false, "write JSON")
	set := t.settings(fs, setURL, setRoot)
	operands, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(operands) > 1 {
		return usagef("one box at a time, not %d", len(operands))
	}
	url := set.get(setURL)
	if len(operands) == 1 {
		url = operands[0]
	}
	if url == "" {
		return usagef("which box? give its address, or set %s", setURL.env)
	}
	a, err := set.agent(url)
	if err != nil {
		return err
	}
	defer a.Close()
	id, err := a.Verify(ctx)
	if err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(t.stdout).Encode(id)
	}
	return t.describe(id)
}

func (t *tool) describe(id client.Identity) error {
	_, err := fmt.Fprintf(t.stdout, `%s is box %s of domain %s, and is %s.

  label   %s
  names   %s
  TLS key certified %s until %s UTC
  root    %s
          SHA-256 %s

Why this may be believed: the root that you gave certified the key of label %q of this
box. That key lives in the box's TPM, which signs with it only while the box runs
software that the domain has approved for this label; and it signed the key that this
connection used. Which version of the software runs is not shown by this.
`, id.URL, plain(id.Box), plain(id.Domain), id.State, id.Label, plain(strings.Join(id.Names, ", ")),
		id.From.UTC().Format(time.DateTime), id.Until.UTC().Format(time.DateTime), plain(id.RootName), id.Root, id.Label)
	return err
}
