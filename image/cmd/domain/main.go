// Command domain is the signing desk of a domain: it makes the domain's keys, enrols boxes and approves releases.
package main

import (
	"fmt"
	"os"

	"github.com/keyrelease/krabox/image/desk"
)

func main() {
	if err := desk.Command(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "domain:", err)
		os.Exit(1)
	}
}
