package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
)

var versionCommand = command{
	name:  "version",
	brief: "say which version this is",
	help:  "The commit is that of the source from which the program was built.",
	run: func(t *tool, _ context.Context, fs *flag.FlagSet, args []string) error {
		operands, err := parse(fs, args)
		if err != nil {
			return err
		}
		if len(operands) != 0 {
			return usagef("no operand is needed, and %q was given", operands[0])
		}
		_, err = fmt.Fprintf(t.stdout, "kra %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return err
	},
}

// version is the module's version, or the commit where it was built from a checkout.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v, commit, edited := info.Main.Version, "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			edited = "+edited"
		}
	}
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	if commit != "" {
		v += " " + commit + edited
	}
	return v
}
