// Command stage1 confines itself and becomes a daemon: stage1 -kind sealed|open [-uid N -gid N] [-files N] [-ro PATH]… [-rw PATH]… -- PROGRAM [ARG]…
package main

import (
	"fmt"
	"os"

	"github.com/keyrelease/krabox/boot/compartment"
)

func main() {
	p, err := compartment.Parse(os.Args[1:])
	if err == nil {
		err = compartment.Become(p)
	}
	fmt.Fprintln(os.Stderr, "stage1:", err)
	os.Exit(127)
}
