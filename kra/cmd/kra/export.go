package main

import (
	"bufio"
	"errors"

	"github.com/keyrelease/krabox/kra/client"
)

func (t *tool) verifyExport(name string, _ *bufio.Reader, _ client.Trust) error {
	return untrusted(name, errors.New("neither receipts nor an exported log"))
}
