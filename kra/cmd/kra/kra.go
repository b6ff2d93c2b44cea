// Command kra encrypts files to access identifiers and decrypts them with a key release agent's consent.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
)

// A tool is one run of the command: the world as it sees it, and what it was told.
type tool struct {
	stdin  *os.File
	stdout *os.File
	stderr *os.File
	env    func(string) string
	name   string // of the command, for messages

	mu    sync.Mutex // held while a file gets its name, and for good when interrupted
	temps map[string]bool
	undo  func() // what an interruption has to undo besides, or nil
}

// A command is one verb. help is shown by -h, after the line that says how to call it.
type command struct {
	name  string
	args  string
	brief string
	help  string
	run   func(t *tool, ctx context.Context, fs *flag.FlagSet, args []string) error
}

func commands() []command {
	return []command{encryptCommand, decryptCommand, inspectCommand, directoryCommand, boardCommand, verifyCommand, whoAmICommand, platformCommand, groupCommand, logCommand, operatorCommand, wrapKeyCommand, versionCommand}
}

// allCommands adds those about the program itself, which explain all others.
func allCommands() []command { return append(commands(), completionCommand(), manCommand()) }

func process() *tool {
	t := &tool{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Getenv, temps: map[string]bool{}}
	t.watchSignals()
	return t
}

// run executes one command line and returns the exit code.
func run(args []string, t *tool) int {
	if len(args) == 0 {
		fmt.Fprint(t.stderr, overview())
		return exitUsage
	}
	name, rest := args[0], args[1:]
	switch name {
	case "help", "-h", "-help", "--help":
		return t.help(rest)
	case "-version", "--version":
		name = versionCommand.name
	case "keys":
		name = directoryCommand.name
	}
	for _, c := range allCommands() {
		if c.name == name {
			return t.exit(c.start(t, context.Background(), rest))
		}
	}
	return t.exit(usagef("there is no command %q; 'kra help' lists them", name))
}

func (c command) start(t *tool, ctx context.Context, args []string) error {
	t.name = c.name
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	err := c.run(t, ctx, fs, args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(t.stdout, c.usage(fs))
		return nil
	}
	return err
}

// parse reads flags and operands in any order; after "--" there are operands only.
func parse(fs *flag.FlagSet, args []string) (operands []string, err error) {
	for {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, usagef("%v", err)
		}
		rest := fs.Args()
		if len(rest) == 0 {
			return operands, nil
		}
		if n := len(args) - len(rest); n > 0 && args[n-1] == "--" {
			return append(operands, rest...), nil
		}
		operands, args = append(operands, rest[0]), rest[1:]
	}
}

func (t *tool) help(args []string) int {
	if len(args) == 0 {
		fmt.Fprint(t.stdout, overview())
		return exitDone
	}
	for _, c := range allCommands() {
		if c.name == args[0] || args[0] == "keys" && c.name == directoryCommand.name {
			return t.exit(c.start(t, context.Background(), []string{"-h"}))
		}
	}
	return t.exit(usagef("there is no command %q; 'kra help' lists them", args[0]))
}

func overview() string {
	var b strings.Builder
	b.WriteString("Usage: kra COMMAND [FLAG]... [FILE]...\n\n" +
		"Encrypt to access identifiers; decrypt with the consent of a key release agent.\n\n")
	for _, c := range allCommands() {
		fmt.Fprintf(&b, "  %-10s %s\n", c.name, c.brief)
	}
	b.WriteString("\n'kra COMMAND -h' explains a command.\n\nEnvironment; a flag says the same and wins:\n")
	for _, s := range settingTable() {
		if s.env != "" {
			fmt.Fprintf(&b, "  %-19s -%-15s %s\n", s.env, s.flag, s.help)
		}
	}
	b.WriteString("\nExit codes:\n")
	for _, e := range exitTable() {
		fmt.Fprintf(&b, "  %3d  %s\n", e.code, e.help)
	}
	return b.String()
}

func (c command) usage(fs *flag.FlagSet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: kra %s\n\n%s\n\n%s\n", c.call(), upper(c.brief)+".", strings.Trim(c.help, "\n"))
	first := true
	fs.VisitAll(func(f *flag.Flag) {
		if first {
			b.WriteString("\nFlags:\n")
			first = false
		}
		value, help := flag.UnquoteUsage(f)
		fmt.Fprintf(&b, "  %-20s %s\n", strings.TrimSpace("-"+f.Name+" "+value), help)
	})
	return b.String()
}

// call is the command as one writes it.
func (c command) call() string { return strings.TrimSpace(c.name + " " + c.args) }

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
