package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/keyrelease/krabox/kra/client"
)

var logCommand = command{
	name:  "log",
	args:  "verify FILE...",
	brief: "verify receipts or an exported release log, offline",
	help: `
FILE is a log that the box exported, or receipts that 'kra decrypt -receipt' kept.
Everything is checked up to the domain root: signatures, that each receipt's record
stands in the log, that the log was only ever extended, and that each use of a key in
the HSM has its record. No network and no clock is needed.

  kra log verify -root root.pem contract.receipt
`,
	run: runLog,
}

func runLog(t *tool, _ context.Context, fs *flag.FlagSet, args []string) error {
	set := t.settings(fs, setRoot)
	operands, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(operands) == 0 || operands[0] != "verify" {
		return usagef("want 'kra log verify FILE...'")
	}
	if operands = operands[1:]; len(operands) == 0 {
		operands = []string{stdio}
	}
	trust, err := set.trust()
	if err != nil {
		return err
	}
	var failed []error
	for _, path := range operands {
		if err := t.verifyLog(path, trust); err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) != 0 {
		return &failures{failed}
	}
	return nil
}

func (t *tool) verifyLog(path string, trust client.Trust) (err error) {
	f, name, err := t.open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
		return untrusted(name, errors.New("the file is empty"))
	}
	in := bufio.NewReaderSize(f, chunk)
	start, _ := in.Peek(len(client.EvidenceStart))
	if bytes.Equal(start, []byte(client.EvidenceStart)) {
		return t.verifyReceipts(name, in, trust)
	}
	return t.verifyExport(name, in, trust)
}

// verifyReceipts checks evidence, one line each.
func (t *tool) verifyReceipts(name string, in *bufio.Reader, trust client.Trust) error {
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return nil
		}
		if err != nil && err != io.EOF {
			return err
		}
		if err := t.verifyReceipt(name, line, trust); err != nil {
			return untrusted(fmt.Sprintf("%s: receipt %d", name, n), err)
		}
	}
}

func (t *tool) verifyReceipt(name string, line []byte, trust client.Trust) error {
	e, err := client.ParseEvidence(line)
	if err != nil {
		return err
	}
	v, err := e.Verify(trust)
	if err != nil {
		return err
	}
	p, c := v.Public(), v.Checkpoint()
	_, err = fmt.Fprintf(t.stdout, "%s: good: box %s of domain %s logged this %v as record %d, to %s at %s UTC; the log had %d records\n",
		name, v.Name().Box, v.Name().Domain, p.Kind, v.Index(), p.Access, p.Time.Time().Format(time.DateTime), c.Size)
	return err
}

func untrusted(what string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return err
	}
	return hint(&client.Untrusted{Err: fmt.Errorf("%s: %w", what, err)}, "the file was changed, or is not from this domain: compare with another copy before you rely on it")
}
