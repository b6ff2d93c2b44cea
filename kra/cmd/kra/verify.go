package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/label"
)

var verifyCommand = command{
	name:  "verify",
	args:  "[URL]",
	brief: "say which box answers and why it may be believed",
	help: `
Connects to the box, validates its certificates up to the domain root, and challenges
it: the box's TPM signs a fresh number and quotes its registers, and both are held
against what the domain has signed. Nothing is asked of anybody but the box.

  kra verify https://box1.example:8443
  kra verify -json https://box1.example:8443 | jq -r .release

It ends with 0 only if every check holds; with 4 if the box does not answer, and with 5
if what it shows is not what the domain vouches for.
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
	image := "boots an image with SHA-256 " + id.Image
	if id.Image == (label.Digest{}).String() {
		image = "boots no image of the product: its registers were approved as they were found"
	}
	_, err := fmt.Fprintf(t.stdout, `%s is box %s of domain %s, and is %s.
It runs release %s (commit %s, epoch %d).

  label   %s
  names   %s
  boot    %s
  TLS key certified %s until %s UTC
  root    %s
          SHA-256 %s

Why this may be believed:
`, id.URL, plain(id.Box), plain(id.Domain), id.State, plain(id.Release), plain(id.Commit), id.Epoch, id.Label, plain(strings.Join(id.Names, ", ")), image,
		id.From.UTC().Format(time.DateTime), id.Until.UTC().Format(time.DateTime), plain(id.RootName), id.Root)
	if err != nil {
		return err
	}
	for _, c := range id.Checks {
		if _, err := fmt.Fprintf(t.stdout, "  %-10s %s\n", c.Name, plain(c.Means)); err != nil {
			return err
		}
	}
	_, err = fmt.Fprint(t.stdout, unshown)
	return err
}

// unshown is what nobody should conclude.
const unshown = `
Not shown: which rules the box has; that the TPM is beyond tampering by somebody who
holds it; that the domain's own keys were not misused; what the box did before now,
which its log shows (kra log verify).
`
