// Command outboundd connects krad, which has no network, with what is outside the box.
package main

import (
	"fmt"
	"os"

	"github.com/keyrelease/krabox/boot/outbound"
)

func main() {
	if err := outbound.Run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "outboundd:", err)
		os.Exit(1)
	}
}
