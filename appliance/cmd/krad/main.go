// Krad is the agent's daemon: port, rules, log and store.
package main

import (
	"fmt"
	"os"

	"github.com/keyrelease/krabox/appliance"
)

func main() {
	if err := appliance.Main(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "krad:", err)
		os.Exit(1)
	}
}
