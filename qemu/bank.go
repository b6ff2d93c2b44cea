package qemu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"
)

// TPM 2.0 commands, whole (part 3: 9.3 Startup, 22.5 PCR_Allocate, 9.4 Shutdown).
var (
	tpmStartup = []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0}
	tpmBanks   = []byte{
		0x80, 0x02, 0, 0, 0, 55, 0, 0, 0x01, 0x2b, 0x40, 0, 0, 0x0c, // platform hierarchy
		0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, // empty password
		0, 0, 0, 4, // banks: of these only SHA-256 with registers
		0, 0x04, 3, 0, 0, 0,
		0, 0x0b, 3, 0xff, 0xff, 0xff,
		0, 0x0c, 3, 0, 0, 0,
		0, 0x0d, 3, 0, 0, 0,
	}
	tpmShutdown = []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, 0}
)

// onlySHA256 leaves a new TPM with the one bank that the product uses. Firmware
// hashes everything once for each bank: translated by TCG, three unused ones
// are several seconds of each boot.
func onlySHA256(state string) error {
	dir, err := os.MkdirTemp("", "qemu-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "tpm")
	c, err := start("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state+",mode=0600", "--server", "type=unixio,path="+socket, "--flags", "not-need-init")
	if err != nil {
		return err
	}
	defer c.kill()
	var conn net.Conn
	if err := await(c, awaitTime, func() (err error) { conn, err = net.Dial("unix", socket); return err }); err != nil {
		return fmt.Errorf("reach TPM: %w; %s", err, c.stderr)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(awaitTime)); err != nil {
		return err
	}
	for _, command := range [][]byte{tpmStartup, tpmBanks, tpmShutdown} {
		if err := transact(conn, command); err != nil {
			return fmt.Errorf("set up TPM: %w", err)
		}
	}
	return nil
}

// transact sends one command; any answer but success is an error.
func transact(conn net.Conn, command []byte) error {
	if _, err := conn.Write(command); err != nil {
		return err
	}
	header := make([]byte, 10)
	if _, err := io.ReadFull(conn, header); err != nil {
		return err
	}
	size := int64(binary.BigEndian.Uint32(header[2:])) - int64(len(header))
	if size < 0 {
		return errors.New("answer is cut short")
	}
	if _, err := io.CopyN(io.Discard, conn, size); err != nil {
		return err
	}
	if code := binary.BigEndian.Uint32(header[6:]); code != 0 {
		return fmt.Errorf("command %x: answer %#x", command[6:10], code)
	}
	return nil
}
