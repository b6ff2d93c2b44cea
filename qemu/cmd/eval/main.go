// Eval shows the whole product at work in one run.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/keyrelease/krabox/qemu/eval"
)

func main() {
	if err := eval.Main(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "eval:", err)
		os.Exit(1)
	}
}
