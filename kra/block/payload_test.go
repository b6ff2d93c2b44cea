package block_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"filippo.io/age"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/keyrelease/krabox/kra/block"
)

const (
	chunk  = block.ChunkSize
	sealed = chunk + chacha20poly1305.Overhead
)

// A sealedBlock is one whose ciphertext portion is made by a test.
type sealedBlock struct {
	header  block.Header
	fileKey []byte
	raw     []byte // ciphertext portion
}

func newSealed(t testing.TB, text []byte) sealedBlock {
	t.Helper()
	k := newKey(t)
	h, raw := parse(t, encrypt(t, string(text), recipient(t, k)))
	fileKey, err := block.OpenEC(k, h.Wraps()[0])
	if err != nil {
		t.Fatal(err)
	}
	return sealedBlock{h, fileKey, raw}
}

// chunks seals parts, the last of them marked as such, as no encryptor would.
func (b sealedBlock) chunks(t testing.TB, parts ...[]byte) []byte {
	t.Helper()
	key, err := hkdf.Key(sha256.New, b.fileKey, b.raw[:16], "payload", chacha20poly1305.KeySize)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := chacha20poly1305.New(key)
	if err != nil {
		t.Fatal(err)
	}
	out := slices.Clone(b.raw[:16])
	for i, p := range parts {
		nonce := make([]byte, chacha20poly1305.NonceSize)
		nonce[10] = byte(i)
		if i == len(parts)-1 {
			nonce[11] = 1
		}
		out = aead.Seal(out, nonce, p, nil)
	}
	return out
}

// open reads with buffers of size bytes. src sees the reader of the ciphertext portion.
func (b sealedBlock) open(raw []byte, size int, src func(io.Reader) io.Reader) ([]byte, error) {
	r, err := b.header.OpenPayload(src(bytes.NewReader(raw)), b.fileKey)
	if err != nil {
		return nil, err
	}
	var got bytes.Buffer
	_, err = io.CopyBuffer(struct{ io.Writer }{&got}, r, make([]byte, size))
	return got.Bytes(), err
}

// age is the reference implementation on the same bytes.
func (b sealedBlock) age(raw []byte) ([]byte, error) {
	whole := slices.Concat(b.header.Bytes(), raw)
	r, err := age.Decrypt(bytes.NewReader(whole), age.NewInjectedFileKeyIdentity(b.fileKey))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func plainly(r io.Reader) io.Reader { return r }

// text has no two chunks alike.
func text(n int) []byte {
	b := make([]byte, 0, n+20)
	for len(b) < n {
		b = fmt.Appendf(b, "%d,", len(b))
	}
	return b[:n]
}

// TestPayloadOfEveryLength reads at the borders of chunks and of the buffers, from readers
// that give little, much, and the end with the last bytes.
func TestPayloadOfEveryLength(t *testing.T) {
	readers := map[string]func(io.Reader) io.Reader{"whole": plainly, "half": iotest.HalfReader, "end with data": iotest.DataErrReader}
	for _, n := range []int{0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, 4*chunk - 1, 4 * chunk, 4*chunk + 1, 9*chunk + 5} {
		want := text(n)
		b := newSealed(t, want)
		for name, src := range readers {
			for _, size := range []int{1000, chunk - 1, chunk, chunk + 1, 4 * chunk, 5 * chunk} {
				if got, err := b.open(b.raw, size, src); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes, reader %s, buffer %d: %d bytes, %v", n, name, size, len(got), err)
				}
			}
		}
	}
	b := newSealed(t, text(chunk+10))
	if got, err := b.open(b.raw, chunk, iotest.OneByteReader); err != nil || len(got) != chunk+10 {
		t.Errorf("byte by byte: %d bytes, %v", len(got), err)
	}
}

// TestDamagedPayload asserts that what age refuses is refused, and that not a byte comes
// out that age would not have given.
func TestDamagedPayload(t *testing.T) {
	one, rest := text(chunk), text(100)
	b := newSealed(t, text(2*chunk+100))
	full := newSealed(t, text(2*chunk))
	swapped := slices.Concat(b.raw[:16], b.raw[16+sealed:16+2*sealed], b.raw[16:16+sealed], b.raw[16+2*sealed:])
	cases := map[string][]byte{
		"no nonce":               {},
		"half a nonce":           b.raw[:8],
		"no chunk":               b.raw[:16],
		"less than a tag":        b.raw[:16+15],
		"a tag":                  b.raw[:16+16],
		"cut in a chunk":         b.raw[:16+1000],
		"cut after a chunk":      b.raw[:16+sealed],
		"cut after two":          b.raw[:16+2*sealed],
		"cut in the last":        b.raw[:len(b.raw)-1],
		"swapped":                swapped,
		"one left out":           slices.Concat(b.raw[:16], b.raw[16+sealed:]),
		"a byte appended":        append(slices.Clone(b.raw), 0),
		"a chunk appended":       append(slices.Clone(b.raw), b.raw[16:16+sealed]...),
		"more after a full last": append(slices.Clone(full.raw), 0),
		"empty last chunk":       b.chunks(t, one, nil),
		"two empty chunks":       b.chunks(t, nil, nil),
		"a short one before":     b.chunks(t, rest, one),
		"none is the last":       b.chunks(t, one, one, rest)[:16+2*sealed],
	}
	for _, at := range []int{0, 15, 16, 16 + sealed - 1, 16 + sealed, 16 + 2*sealed, len(b.raw) - 1} {
		bad := slices.Clone(b.raw)
		bad[at] ^= 1
		cases[fmt.Sprintf("byte %d changed", at)] = bad
	}
	for name, raw := range cases {
		b := b
		if name == "more after a full last" {
			b = full
		}
		want, err := b.age(raw)
		if err == nil {
			t.Fatalf("%s: age reads it", name)
		}
		for _, size := range []int{1000, chunk, 4 * chunk} {
			if got, err := b.open(raw, size, plainly); err == nil || !bytes.Equal(got, want) {
				t.Errorf("%s, buffer %d: %d bytes, %v; want an error after %d", name, size, len(got), err, len(want))
			}
		}
	}
}

// TestRefusedChunkIsCleared looks at the scratch space behind what was read.
func TestRefusedChunkIsCleared(t *testing.T) {
	b := newSealed(t, text(2*chunk+100))
	b.raw[16+sealed+5] ^= 1
	r, err := b.header.OpenPayload(bytes.NewReader(b.raw), b.fileKey)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4*chunk)
	if n, err := r.Read(buf); err != nil || n != chunk {
		t.Fatalf("Read = %d, %v; want one chunk", n, err)
	}
	if !bytes.Equal(buf[chunk:], make([]byte, 3*chunk)) {
		t.Error("a chunk that does not authenticate stays in the buffer")
	}
	for range 2 {
		if n, err := r.Read(buf); err == nil || err == io.EOF || n != 0 {
			t.Errorf("Read after the refusal = %d, %v; want an error for good", n, err)
		}
	}
}

func TestPayloadNeedsTheHeadersKey(t *testing.T) {
	b := newSealed(t, text(10))
	src := bytes.NewReader(b.raw)
	if r, err := b.header.OpenPayload(src, make([]byte, block.FileKeySize)); !errors.Is(err, block.ErrMAC) || r != nil || src.Len() != len(b.raw) {
		t.Errorf("OpenPayload with another key = %v, %v; want ErrMAC and nothing read", r, err)
	}
	if _, err := (block.Header{}).OpenPayload(src, b.fileKey); !errors.Is(err, block.ErrMAC) {
		t.Errorf("OpenPayload of the zero Header = %v; want ErrMAC", err)
	}
}

// TestPayloadSourceFails asserts that a fault of the source is met as it is, after the
// chunks before it.
func TestPayloadSourceFails(t *testing.T) {
	b := newSealed(t, text(2*chunk))
	fault := errors.New("input/output error")
	for at, want := range map[int]int{16: 0, 1000: 0, 16 + sealed: chunk, 16 + sealed + 1: chunk, len(b.raw): 2 * chunk} {
		got, err := b.open(b.raw[:at], 4*chunk, func(r io.Reader) io.Reader { return io.MultiReader(r, iotest.ErrReader(fault)) })
		if !errors.Is(err, fault) || len(got) != want {
			t.Errorf("fault after %d bytes: %d bytes, %v; want %d and the fault", at, len(got), err, want)
		}
	}
}

func BenchmarkOpenPayload(b *testing.B) {
	s := newSealed(b, text(16<<20))
	buf := make([]byte, 4*chunk)
	b.SetBytes(16 << 20)
	b.ReportAllocs()
	for b.Loop() {
		r, err := s.header.OpenPayload(bytes.NewReader(s.raw), s.fileKey)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf); err != nil {
			b.Fatal(err)
		}
	}
}
