package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"sort"
	"strings"
)

func completionCommand() command {
	return command{
		name:  "completion",
		args:  "bash|zsh",
		brief: "write completion for a shell",
		help: `
  source <(kra completion bash)                         for this shell
  kra completion bash >/etc/bash_completion.d/kra       for everybody
  source <(kra completion zsh)
`,
		run: func(t *tool, _ context.Context, fs *flag.FlagSet, args []string) error {
			operands, err := parse(fs, args)
			if err != nil {
				return err
			}
			if len(operands) != 1 || operands[0] != "bash" && operands[0] != "zsh" {
				return usagef("want 'kra completion bash' or 'kra completion zsh'")
			}
			if operands[0] == "zsh" {
				fmt.Fprintln(t.stdout, "autoload -U +X bashcompinit && bashcompinit")
			}
			_, err = io.WriteString(t.stdout, bashCompletion(t))
			return err
		},
	}
}

func manCommand() command {
	return command{
		name:  "man",
		brief: "write the manual page",
		help: `
  kra man | man -l -
  kra man >/usr/local/share/man/man1/kra.1
`,
		run: func(t *tool, _ context.Context, fs *flag.FlagSet, args []string) error {
			operands, err := parse(fs, args)
			if err != nil {
				return err
			}
			if len(operands) != 0 {
				return usagef("no operand is needed, and %q was given", operands[0])
			}
			_, err = io.WriteString(t.stdout, manual(t))
			return err
		},
	}
}

// flags returns the flags that a command declares: it is told to explain itself, and
// what it would say is not needed.
func (c command) flags(t *tool) []*flag.Flag {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	_ = c.run(t, context.Background(), fs, []string{"-h"}) // always flag.ErrHelp
	var all []*flag.Flag
	fs.VisitAll(func(f *flag.Flag) { all = append(all, f) })
	return all
}

// bashCompletion completes commands, flags, file names, and after -to the access
// identifiers of the directory.
func bashCompletion(t *tool) string {
	var names []string
	var cases strings.Builder
	for _, c := range allCommands() {
		names = append(names, c.name)
		var flags []string
		for _, f := range c.flags(t) {
			flags = append(flags, "-"+f.Name)
		}
		fmt.Fprintf(&cases, "\t%s) words=%q ;;\n", c.name, strings.Join(append(flags, "-h"), " "))
	}
	sort.Strings(names)
	return fmt.Sprintf(`_kra() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} words=
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		COMPREPLY=($(compgen -W %q -- "$word"))
		return
	fi
	case $before in
	-to) COMPREPLY=($(compgen -W "$(kra directory 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$word")); return ;;
	-ask) COMPREPLY=($(compgen -W "auto always never" -- "$word")); return ;;
	log) COMPREPLY=($(compgen -W "verify replay" -- "$word")); return ;;
	completion) COMPREPLY=($(compgen -W "bash zsh" -- "$word")); return ;;
	esac
	case ${COMP_WORDS[1]} in
%s	esac
	case $word in
	-*) COMPREPLY=($(compgen -W "$words" -- "$word")) ;;
	*) COMPREPLY=($(compgen -f -- "$word")) ;;
	esac
}
complete -o filenames -F _kra kra
`, strings.Join(append(names, "help"), " "), cases.String())
}

// manual is the manual page in man(7).
func manual(t *tool) string {
	var b strings.Builder
	b.WriteString(".TH KRA 1\n.SH NAME\nkra \\- encrypt to access identifiers, decrypt with a key release agent's consent\n" +
		".SH SYNOPSIS\n.B kra\n.I COMMAND\n[\\fIFLAG\\fR]... [\\fIFILE\\fR]...\n.SH COMMANDS\n")
	for _, c := range allCommands() {
		fmt.Fprintf(&b, ".SS kra %s\n%s.\n.PP\n.nf\n%s\n.fi\n", roff(c.call()), roff(upper(c.brief)), roff(strings.Trim(c.help, "\n")))
		for _, f := range c.flags(t) {
			value, help := flag.UnquoteUsage(f)
			fmt.Fprintf(&b, ".TP\n\\fB\\-%s\\fR \\fI%s\\fR\n%s\n", roff(f.Name), roff(value), roff(help))
		}
	}
	b.WriteString(".SH ENVIRONMENT\nA flag says the same and wins.\n")
	for _, s := range settingTable() {
		fmt.Fprintf(&b, ".TP\n.B %s\n\\-%s: %s\n", s.env, s.flag, roff(s.help))
	}
	b.WriteString(".SH EXIT STATUS\n")
	for _, e := range exitTable() {
		fmt.Fprintf(&b, ".TP\n.B %d\n%s\n", e.code, roff(e.help))
	}
	b.WriteString(".SH SEE ALSO\n.BR age (1)\n")
	return b.String()
}

// roff escapes what man(7) would take for itself.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
