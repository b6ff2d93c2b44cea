package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/receipt"
)

var logCommand = command{
	name:  "log",
	args:  "verify FILE... | replay EXPORT...",
	brief: "verify receipts or an exported release log, or decide again, offline",
	help: `
FILE is a log that the box exported, or receipts that 'kra decrypt -receipt' kept.
Everything is checked up to the domain root: signatures, that each receipt's record
stands in the log, that the log was only ever extended, and that each use of a key in
the HSM has its record. Receipts that are given together with a log must be in that
very log. The domain root is needed (-root or KRA_ROOT), but no network and no clock.

  kra log verify -root root.pem contract.receipt
  kra log verify -root root.pem box1.log contract.receipt

'replay' verifies a log, rebuilds every version of the rules from it, and decides again
about each request: the first record that is not what its rules make of it is named. The
log must have its private parts and begin with its first record or a start of the agent.

  kra log replay -root root.pem box1.log
`,
	run: runLog,
}

func runLog(t *tool, _ context.Context, fs *flag.FlagSet, args []string) error {
	asJSON := fs.Bool("json", false, "write a line of JSON for each receipt and log")
	set := t.settings(fs, setRoot)
	operands, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(operands) == 0 || operands[0] != "verify" && operands[0] != "replay" {
		return usagef("want 'kra log verify FILE...' or 'kra log replay EXPORT...'")
	}
	verb, operands := operands[0], operands[1:]
	if len(operands) == 0 {
		operands = []string{stdio}
	}
	trust, err := set.trust()
	if err != nil {
		return err
	}
	v := &logVerifier{t: t, trust: trust, json: *asJSON}
	defer v.close()
	if verb == "replay" {
		return v.replay(operands)
	}
	for _, path := range operands {
		v.receipts(path)
	}
	for _, l := range v.logs {
		v.failed(v.log(l))
	}
	if len(v.errs) != 0 {
		return &failures{v.errs}
	}
	return nil
}

// A logVerifier goes through the receipts first: the logs are then held to them.
type logVerifier struct {
	t     *tool
	trust client.Trust
	json  bool
	held  []receipt.Evidence
	logs  []exported
	open  []io.Closer
	errs  []error
}

// exported is a file that is not of receipts.
type exported struct {
	name string
	in   io.Reader
}

func (v *logVerifier) failed(err error) {
	if err != nil {
		v.errs = append(v.errs, err)
	}
}

func (v *logVerifier) close() {
	for _, c := range v.open {
		_ = c.Close() // of files that were only read
	}
}

// receipts verifies a file of receipts, and puts any other aside.
func (v *logVerifier) receipts(path string) {
	f, name, err := v.t.open(path)
	if err != nil {
		v.failed(err)
		return
	}
	v.open = append(v.open, f)
	in := bufio.NewReaderSize(f, chunk)
	start, err := in.Peek(len(client.EvidenceStart))
	if err != nil && err != io.EOF {
		v.failed(err)
		return
	}
	if !bytes.Equal(start, []byte(client.EvidenceStart)) {
		v.logs = append(v.logs, exported{name, in})
		return
	}
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return
		}
		if err == nil || err == io.EOF {
			if err = v.receipt(name, line); err != nil {
				err = unbelieved(fmt.Sprintf("%s: receipt %d", name, n), err)
			}
		}
		if err != nil {
			v.failed(err)
			return
		}
	}
}

// A receiptLine is what is said of a receipt in JSON.
type receiptLine struct {
	File    string        `json:"file"`
	Domain  string        `json:"domain"`
	Box     string        `json:"box"`
	Kind    receipt.Kind  `json:"kind"`
	Index   int64         `json:"index"`
	Access  string        `json:"access"`
	Header  *receipt.Hash `json:"header,omitempty"`
	Time    receipt.Stamp `json:"time"`
	LogSize int64         `json:"log_size"`
}

func (v *logVerifier) receipt(name string, line []byte) error {
	e, err := client.ParseEvidence(line)
	if err != nil {
		return err
	}
	ok, err := e.Verify(v.trust)
	if err != nil {
		return err
	}
	v.held = append(v.held, e.Held())
	p := ok.Public()
	l := receiptLine{name, ok.Name().Domain, ok.Name().Box, p.Kind, ok.Index(), p.Access, p.Header, p.Time, ok.Checkpoint().Size}
	if v.json {
		return json.NewEncoder(v.t.stdout).Encode(l)
	}
	_, err = fmt.Fprintf(v.t.stdout, "%s: good: box %s of domain %s logged this %v as record %d, to %s at %s UTC; the log had %d records\n",
		plain(name), l.Box, plain(l.Domain), l.Kind, l.Index, plain(l.Access), l.Time.Time().Format(time.DateTime), l.LogSize)
	return err
}

// unbelieved says that a file proves nothing.
func unbelieved(what string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return err
	}
	return hint(&client.Untrusted{Err: fmt.Errorf("%s: %w", what, err)}, "the file was changed, or is not from this domain: compare with another copy before you rely on it")
}
