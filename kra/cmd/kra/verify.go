package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
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
  kra verify -epoch 7 https://box1.example:8443   # no release older than that
  kra verify -board https://board.example.org https://box1.example:8443

With -board or -permissions, the box has to be one that the domain permits now, and its
release not too old.

With -rebuild it also builds the image from your checkout of the commit that the box
runs, and compares: the image's bytes, and the registers that it predicts with those
that the TPM quoted. Whoever does this believes nobody about what the box runs.

  kra verify -rebuild ~/krabox https://box1.example:8443
  kra verify -rebuild ~/krabox -kernel full https://box1.example:8443   # a server's image
  kra verify -rebuild ~/krabox -fips140 certified https://box1.example:8443

For scripts: it ends with 0 only if every check holds. 2: the command line or a setting
is wrong. 4: the box does not answer, or cannot be what its label says now. 5: what it
shows is not what the domain vouches for, is of a lower epoch than -epoch, or is not
what -rebuild built. Where a box is not believed, nothing goes to standard output. With
-json, "checks" are what was checked, and "unshown" what nobody should conclude.
`,
	run: runVerify,
}

// bauds are the speeds that the serial line of an image can have.
var bauds = []string{"9600", "19200", "38400", "57600", "115200"}

func runVerify(t *tool, ctx context.Context, fs *flag.FlagSet, args []string) error {
	asJSON := fs.Bool("json", false, "write JSON")
	tree := fs.String("rebuild", "", "build the image again from the checkout in a `FOLDER`, and compare it with what the box runs")
	domain := fs.String("domain", "", "`FOLDER` with the domain's public part, for -rebuild; dist/domain in the checkout if not given")
	kernel := fs.String("kernel", "", "Debian's `kernel` in the box's image, for -rebuild: cloud or full; cloud if not given")
	fips := fs.String("fips140", "", "the `module` that the box computes with, for -rebuild, as GOFIPS140 names it; off if not given")
	health := fs.String("health", "", "the `address` where the box serves metrics, for -rebuild; none if not given")
	baud := fs.String("baud", "", "the `speed` of the box's serial line, for -rebuild: 9600, 19200, 38400, 57600 or 115200; 115200 if not given")
	epoch := fs.Uint64("epoch", 0, "believe no release of a lower `epoch`")
	start := fs.Bool("instantiate", false, "start the key-release service, if the box has it start on challenge")
	set := t.settings(fs, setURL, setRoot, setBoard, setPermissions)
	operands, err := parse(fs, args)
	if err != nil {
		return err
	}
	if *asJSON && *tree != "" {
		return usagef("-json and -rebuild do not go together")
	}
	if *kernel != "" && (*tree == "" || *kernel != "cloud" && *kernel != "full") {
		return usagef("-kernel goes with -rebuild, and is cloud or full")
	}
	if (*fips != "" || *health != "") && *tree == "" {
		return usagef("-fips140 and -health go with -rebuild")
	}
	if *baud != "" && (*tree == "" || !slices.Contains(bauds, *baud)) {
		return usagef("-baud goes with -rebuild, and is one of %s", strings.Join(bauds, ", "))
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
	permitted, _, err := set.permitted(ctx)
	if err != nil {
		return err
	}
	a, err := set.agentOf(client.Config{URL: url, MinEpoch: *epoch, Permissions: permitted})
	if err != nil {
		return err
	}
	defer a.Close()
	ask := a.Verify
	if *start {
		ask = a.Instantiate
	}
	id, err := ask(ctx)
	if err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(t.stdout).Encode(id)
	}
	if err := t.describe(id); err != nil || *tree == "" {
		return err
	}
	return rebuild{t, *tree, cmp.Or(*domain, filepath.Join(*tree, "dist", "domain")), *kernel, *fips, *health, *baud}.compare(ctx, id)
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
	if _, err = fmt.Fprintln(t.stdout, "\nNot shown:"); err != nil {
		return err
	}
	for _, u := range id.Unshown {
		if _, err := fmt.Fprintf(t.stdout, "  %s\n", u); err != nil {
			return err
		}
	}
	return nil
}
