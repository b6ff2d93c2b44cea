// Command init is process 1 of the appliance's image.
package main

import "github.com/keyrelease/krabox/boot"

func main() { boot.Init() }
