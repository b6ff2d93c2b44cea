// Command console is the program on the serial line.
package main

import (
	"os"

	"github.com/keyrelease/krabox/console"
)

func main() { os.Exit(console.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
