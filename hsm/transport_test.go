package hsm

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/hsm/wire"
)

// TestReplicaPage holds REPLICA.md to the code.
func TestReplicaPage(t *testing.T) {
	page, err := os.ReadFile("REPLICA.md")
	if err != nil {
		t.Fatal(err)
	}
	k, err := newTransport([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	letter, err := wire.SealLetter(k.public(), make([]byte, aesKeySize))
	if err != nil {
		t.Fatal(err)
	}
	const sealedKey = aesKeySize + gcmTagBits/8
	for _, want := range []string{"`" + transportContext + "`", "`kra/transfer/v1`", "`kra/peer/v1`",
		fmt.Sprintf("; %d bytes", len(k.public())), fmt.Sprintf("enc (%d) ‖ sealed transfer key (%d)", len(letter)-sealedKey, sealedKey)} {
		if !strings.Contains(string(page), want) {
			t.Errorf("REPLICA.md lacks %q", want)
		}
	}
}

// TestTransportKey: it belongs to the chain key, and a letter to it.
func TestTransportKey(t *testing.T) {
	a, err := newTransport([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	again, err := newTransport([32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := newTransport([32]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.public(), again.public()) || bytes.Equal(a.public(), b.public()) {
		t.Error("the transport key does not follow the chain key")
	}
	if wire.PeerOf(a.public()) == wire.PeerOf(b.public()) {
		t.Error("two transport keys are one peer")
	}
	key := bytes.Repeat([]byte{7}, aesKeySize)
	letter, err := wire.SealLetter(a.public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.open(letter); err != nil || !bytes.Equal(got, key) {
		t.Errorf("opened %x, %v; want %x", got, err, key)
	}
	if _, err := b.open(letter); err == nil {
		t.Error("another chain key opens the letter")
	}
	short, err := wire.SealLetter(a.public(), key[:16])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.open(short); err == nil {
		t.Error("a shorter key is taken")
	}
	for i := range letter {
		letter[i] ^= 1
		if i%97 == 0 || i > len(letter)-20 {
			if _, err := a.open(letter); err == nil {
				t.Errorf("a letter with byte %d changed opens", i)
			}
		}
		letter[i] ^= 1
	}
	if strings.Contains(fmt.Sprintf("%+v %#v", a, &a), fmt.Sprintf("%x", a.public()[:8])) {
		t.Error("the transport key prints")
	}
}
