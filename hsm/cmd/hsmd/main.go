// Command hsmd keeps the key-release keys: it alone loads the PKCS#11 module.
package main

import (
	"fmt"
	"os"

	"github.com/keyrelease/krabox/hsm"
)

func main() {
	if err := hsm.Run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "hsmd:", err)
		os.Exit(hsm.Code(err))
	}
}
