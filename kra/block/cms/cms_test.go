package cms_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/block/cms"
)

// made returns what openssl cms -encrypt writes of content.
func made(t testing.TB, content []byte, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	write(t, in, content)
	openssl(t, append([]string{"cms", "-encrypt", "-binary", "-in", in, "-out", out, "-outform", "DER"}, args...)...)
	return read(t, out)
}

var oaep = []string{"-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"}

// TestRefusedSaysWhatToType: the recipients that stock clients make and agents do not take, and what is said to them.
func TestRefusedSaysWhatToType(t *testing.T) {
	dir := t.TempDir()
	r := holderOf(t, dir, "rsa", keys().rsa, nil)
	big, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec, p521 := holderOf(t, dir, "ec", keys().ec, nil), holderOf(t, dir, "p521", big, nil)
	for name, c := range map[string]struct {
		args []string
		why  []string
	}{
		"PKCS#1 v1.5":          {[]string{"-aes-256-gcm", "-recip", r.certFile}, []string{"v1.5 is refused", "-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256"}},
		"OAEP with SHA-384":    {[]string{"-aes-256-gcm", "-recip", r.certFile, "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha384"}, []string{"SHA-256 or SHA-1 for both", "-keyopt rsa_oaep_md:sha256"}},
		"MGF1 by default":      {[]string{"-aes-256-gcm", "-recip", r.certFile, "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_mgf1_md:sha256"}, []string{"SHA-256 or SHA-1 for both"}},
		"OAEP with two hashes": {[]string{"-aes-256-gcm", "-recip", r.certFile, "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_mgf1_md:sha1"}, []string{"SHA-256 or SHA-1 for both"}},
		"MGF1 with SHA-512":    {[]string{"-aes-256-gcm", "-recip", r.certFile, "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_mgf1_md:sha512"}, []string{"SHA-256 or SHA-1 for both"}},
		"OAEP with a label":    {[]string{"-aes-256-gcm", "-recip", r.certFile, "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_oaep_label:6162"}, []string{"empty label"}},
		"KDF with SHA-512":     {[]string{"-aes-256-gcm", "-recip", ec.certFile, "-keyopt", "ecdh_kdf_md:sha512"}, []string{"1.3.132.1.11.3 is not known", "-keyopt ecdh_kdf_md:sha256"}},
		"3DES key wrap":        {[]string{"-des3", "-recip", ec.certFile}, []string{"not AES key wrap", "-aes256-wrap"}},
		"P-521":                {[]string{"-aes-256-gcm", "-recip", p521.certFile}, []string{"P-256"}},
		"shared key":           {[]string{"-aes-256-gcm", "-secretkey", "000102030405060708090a0b0c0d0e0f", "-secretkeyid", "01"}, []string{"not a key pair"}},
		"password":             {[]string{"-aes-256-cbc", "-pwri_password", "secret"}, []string{"not a key pair"}},
	} {
		t.Run(name, func(t *testing.T) {
			h, _, err := cms.ReadHead(bytes.NewReader(made(t, []byte("content"), c.args...)))
			if err != nil {
				t.Fatal(err)
			}
			e, err := h.Envelope()
			if err == nil || len(e.Wraps()) != 0 {
				t.Fatalf("%d wraps", len(e.Wraps()))
			}
			for _, want := range c.why {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v; want %q", err, want)
				}
			}
		})
	}
}

// TestCipherRefused: content that is neither CBC nor GCM of AES is said to be so; its key is released all the same, for
// a client that knows it.
func TestCipherRefused(t *testing.T) {
	r := holderOf(t, t.TempDir(), "rsa", keys().rsa, nil)
	raw := made(t, []byte("content"), append([]string{"-des3", "-recip", r.certFile}, oaep...)...)
	h, content, err := cms.ReadHead(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	key := release(t, h, r)
	if _, err := content.Decrypt(key); err == nil || !strings.Contains(err.Error(), "-aes-256-gcm") {
		t.Errorf("Decrypt of 3DES: %v", err)
	}
}

// TestForeignRecipientsAreKept: recipients that an agent has nothing to do with are in the head as they stand, and open
// the message after a splice, too.
func TestForeignRecipientsAreKept(t *testing.T) {
	dir := t.TempDir()
	ours, old, reader := holderOf(t, dir, "ours", keys().ec, nil), holderOf(t, dir, "old", keys().rsa, nil), holderOf(t, dir, "reader", keys().ec2, nil)
	const secret = "000102030405060708090a0b0c0d0e0f"
	want := []byte("content")
	raw := made(t, want, "-aes-256-cbc", "-pwri_password", "secret", "-secretkey", secret, "-secretkeyid", "01", "-recip", old.certFile, "-recip", ours.certFile)
	h, content, err := cms.ReadHead(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, r := range h.Recipients() {
		kinds = append(kinds, r.Kind())
	}
	slices.Sort(kinds)
	if got := strings.Join(kinds, " "); got != "kari kekri ktri pwri" {
		t.Errorf("recipients %s; want kari kekri ktri pwri", got)
	}
	e, err := h.Envelope()
	if err != nil || len(e.Wraps()) != 1 || !bytes.Equal(e.Bytes(), h.Bytes()) {
		t.Fatalf("%d wraps, %v; want 1", len(e.Wraps()), err)
	}
	set := cms.Elements(cms.Elements(cms.Elements(cms.Elements(raw)[1])[0])[1])
	for _, info := range set {
		if !bytes.Contains(h.Bytes(), info) {
			t.Errorf("the head lacks the recipient %x", info[:8])
		}
	}
	to, err := cms.ToCertificate(reader.cert)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := content.Splice(&out, release(t, h, ours), to); err != nil {
		t.Fatal(err)
	}
	checkStock(t, "reader", out.Bytes(), reader, want)
	checkStock(t, "the one with PKCS#1 v1.5", out.Bytes(), old, want)
	checkStock(t, "ours", out.Bytes(), ours, want)
	in := filepath.Join(dir, "in")
	write(t, in, out.Bytes())
	for _, how := range [][]string{{"-pwri_password", "secret"}, {"-secretkey", secret, "-secretkeyid", "01"}} {
		got, err := exec.Command("openssl", append([]string{"cms", "-decrypt", "-inform", "DER", "-in", in}, how...)...).Output()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("openssl cms -decrypt %v: %q, %v", how, got, err)
		}
	}
	// A second splice for the same reader replaces the first.
	again, content, err := cms.ReadHead(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	var twice bytes.Buffer
	if err := content.Splice(&twice, release(t, again, ours), to); err != nil {
		t.Fatal(err)
	}
	if h, _, err = cms.ReadHead(&twice); err != nil || len(h.Recipients()) != 5 {
		t.Errorf("%d recipients after two splices, %v; want 5", len(h.Recipients()), err)
	}
}

// TestTamperedContent: what was changed or cut does not decrypt to its end.
func TestTamperedContent(t *testing.T) {
	r := holderOf(t, t.TempDir(), "rsa", keys().rsa, nil)
	for name, flags := range map[string][]string{"DER": {"-aes-256-gcm"}, "BER": {"-aes-256-gcm", "-stream"}} {
		raw := made(t, make([]byte, 70_000), append(append(flags, "-recip", r.certFile), oaep...)...)
		h, _, err := cms.ReadHead(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		key := release(t, h, r)
		decrypt := func(raw, key []byte) (int, error) {
			_, content, err := cms.ReadHead(bytes.NewReader(raw))
			if err != nil {
				return 0, err
			}
			plain, err := content.Decrypt(key)
			if err != nil {
				return 0, err
			}
			b, err := io.ReadAll(plain)
			return len(b), err
		}
		if n, err := decrypt(raw, key); err != nil || n != 70_000 {
			t.Fatalf("%s: %d bytes, %v", name, n, err)
		}
		for _, at := range []int{1000, 60_000, 69_000, len(raw) - 10} {
			bad := bytes.Clone(raw)
			bad[at] ^= 1
			if _, err := decrypt(bad, key); err == nil {
				t.Errorf("%s: opens with byte %d changed", name, at)
			}
		}
		for _, n := range []int{1, 7, 17, 1000, len(raw) - 10} {
			if _, err := decrypt(raw[:len(raw)-n], key); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: %d bytes cut: %v", name, n, err)
			}
		}
		if _, err := decrypt(append(bytes.Clone(raw), 0), key); err == nil {
			t.Errorf("%s: opens with a byte behind it", name)
		}
		if _, err := decrypt(raw, make([]byte, 32)); !errors.Is(err, cms.ErrContent) {
			t.Errorf("%s: another key: %v", name, err)
		}
		if _, err := decrypt(raw, make([]byte, 16)); !errors.Is(err, cms.ErrContent) {
			t.Errorf("%s: a shorter key: %v", name, err)
		}
	}
}

// TestPadding: of content in CBC a wrong key shows at its end, and that is all that shows.
func TestPadding(t *testing.T) {
	r := holderOf(t, t.TempDir(), "rsa", keys().rsa, nil)
	raw := made(t, make([]byte, 100), append([]string{"-aes-256-cbc", "-recip", r.certFile}, oaep...)...)
	h, _, err := cms.ReadHead(bytes.NewReader(raw))
	if err != nil || h.Authenticated() || h.Cipher() != "aes-256-cbc" {
		t.Fatalf("authenticated %v, cipher %s, %v", h.Authenticated(), h.Cipher(), err)
	}
	key := release(t, h, r)
	const tries = 16
	failed := 0
	for i := range tries { // padding fits by chance for one key in 256
		_, content, err := cms.ReadHead(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		key[i] ^= 1
		plain, err := content.Decrypt(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(plain); errors.Is(err, cms.ErrContent) {
			failed++
		}
	}
	if failed < tries/2 {
		t.Errorf("%d of %d wrong keys are found out", failed, tries)
	}
}

// TestOneForm: a head is taken in its one form only.
func TestOneForm(t *testing.T) {
	dir := t.TempDir()
	a, b := holderOf(t, dir, "a", keys().ec, nil), holderOf(t, dir, "b", keys().rsa, nil)
	raw := made(t, []byte("content"), append([]string{"-aes-256-gcm", "-recip", a.certFile, "-recip", b.certFile}, oaep...)...)
	h, _, err := cms.ReadHead(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	head := h.Bytes()
	outer := cms.Elements(head)
	data := cms.Elements(cms.Elements(outer[1])[0]) // version, recipients, encrypted content, mac
	infos := cms.Elements(data[1])
	build := func(change func(d [][]byte) [][]byte) []byte {
		return cms.Wrapped(0x30, outer[0], cms.Wrapped(0xa0, cms.Wrapped(0x30, change(slices.Clone(data))...)))
	}
	with := func(i int, v []byte) func([][]byte) [][]byte {
		return func(d [][]byte) [][]byte { d[i] = v; return d }
	}
	if same := build(func(d [][]byte) [][]byte { return d }); !bytes.Equal(same, head) {
		t.Fatal("the test does not build the head")
	}
	if _, err := cms.ParseHead(head); err != nil {
		t.Fatal(err)
	}
	e, err := h.Envelope()
	if err != nil || e.Format() != block.FormatCMS || e.Bound() || len(e.Wraps()) != 2 {
		t.Errorf("envelope of format %v, bound %v, %d wraps, %v", e.Format(), e.Bound(), len(e.Wraps()), err)
	}
	many := slices.Repeat([][]byte{infos[0]}, 300)
	for name, bad := range map[string][]byte{
		"empty":                    {},
		"whole message":            raw,
		"a byte behind it":         append(bytes.Clone(head), 0),
		"cut":                      head[:len(head)-1],
		"recipients out of order":  build(with(1, cms.Wrapped(0x31, infos[1], infos[0]))),
		"no recipient":             build(with(1, cms.Wrapped(0x31))),
		"more than fit":            build(with(1, cms.Wrapped(0x31, many...))),
		"version 5":                build(with(0, []byte{2, 1, 5})),
		"version of EnvelopedData": build(with(0, []byte{2, 1, 2})),
		"no mac":                   build(func(d [][]byte) [][]byte { return d[:3] }),
		"a mac":                    build(with(3, cms.Wrapped(4, make([]byte, 16)))),
		"attributes":               build(func(d [][]byte) [][]byte { return append(d, cms.Wrapped(0xa2)) }),
		"content":                  build(with(2, cms.Wrapped(0x30, append(cms.Elements(data[2]), cms.Wrapped(0x80, []byte("x")))...))),
		"indefinite length":        append(append([]byte{0x30, 0x80}, bytes.Join(outer, nil)...), 0, 0),
		"recipient of no kind":     build(with(1, cms.Wrapped(0x31, cms.Wrapped(0xa7)))),
		"recipient without key":    build(with(1, cms.Wrapped(0x31, cms.Wrapped(0x30, []byte{2, 1, 0})))),
		"signed data":              bytes.Replace(head, []byte{9, 16, 1, 23}, []byte{9, 16, 1, 24}, 1),
	} {
		if h, err := cms.ParseHead(bad); err == nil || len(h.Recipients()) != 0 || len(h.Bytes()) != 0 {
			t.Errorf("%s: is accepted", name)
		}
	}
}

// TestTextForms: PEM and S/MIME, which is what openssl writes unless it is told otherwise, are read as DER is.
func TestTextForms(t *testing.T) {
	r := holderOf(t, t.TempDir(), "ec", keys().ec, nil)
	want := bytes.Repeat([]byte("content "), 20_000)
	for _, form := range []string{"PEM", "SMIME", "DER"} {
		raw := made(t, want, "-aes-256-gcm", "-outform", form, "-recip", r.certFile)
		if !cms.Begins(raw[:32]) {
			t.Errorf("%s does not begin a message", form)
		}
		h, content, err := cms.ReadHead(cms.Binary(bytes.NewReader(raw)))
		if err != nil {
			t.Fatalf("%s: %v", form, err)
		}
		plain, err := content.Decrypt(release(t, h, r))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(plain); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: decrypts to %d bytes, %v", form, len(got), err)
		}
	}
	for _, text := range []string{"", "age-encryption.org/v1\n", "-----BEGIN AGE ENCRYPTED FILE-----\n", "{"} {
		if cms.Begins([]byte(text)) {
			t.Errorf("%q begins a message", text)
		}
	}
}

// TestGCM holds the streaming GCM to crypto/cipher's, with additional data that is known only at the end.
func TestGCM(t *testing.T) {
	for _, size := range []int{0, 1, 15, 16, 17, 31, 32, 33, 4096, 5000, 65536, 65552, 200_000} {
		for _, n := range []int{0, 1, 16, 100} {
			key, nonce, plain, additional := make([]byte, 16+8*(size%3)), make([]byte, 12), make([]byte, size), make([]byte, n)
			for _, b := range [][]byte{key, nonce, plain, additional} {
				_, _ = rand.Read(b)
			}
			b, err := aes.NewCipher(key)
			if err != nil {
				t.Fatal(err)
			}
			g, err := cipher.NewGCM(b)
			if err != nil {
				t.Fatal(err)
			}
			want := g.Seal(nil, nonce, plain, additional)
			for _, step := range []int{16, 4096, 65536} {
				if got, err := cms.Sealed(key, nonce, plain, additional, step); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes in steps of %d, %d additional: differs, %v", size, step, n, err)
				}
			}
		}
	}
}

// TestAuthenticatedAttributes: attributes that stand behind the content are authenticated with it, RFC 5083 section 2.2.
func TestAuthenticatedAttributes(t *testing.T) {
	key, nonce, plain := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 12), bytes.Repeat([]byte("content "), 20_000)
	attribute := cms.Wrapped(0x30, []byte{6, 3, 42, 3, 4}, cms.Wrapped(0x31, cms.Wrapped(4, []byte("value"))))
	sealed, err := cms.Sealed(key, nonce, plain, cms.Wrapped(0x31, attribute), 65536)
	if err != nil {
		t.Fatal(err)
	}
	n := len(sealed) - 16
	build := func(attributes []byte) []byte {
		algorithm := cms.Wrapped(0x30, []byte{6, 9, 96, 134, 72, 1, 101, 3, 4, 1, 46}, cms.Wrapped(0x30, cms.Wrapped(4, nonce), []byte{2, 1, 16}))
		info := cms.Wrapped(0x30, []byte{6, 9, 42, 134, 72, 134, 247, 13, 1, 7, 1}, algorithm, cms.Wrapped(0x80, sealed[:n]))
		recipient := cms.Wrapped(0x31, cms.Wrapped(0xa4, []byte("other")))
		data := cms.Wrapped(0x30, []byte{2, 1, 0}, recipient, info, attributes, cms.Wrapped(4, sealed[n:]))
		return cms.Wrapped(0x30, []byte{6, 11, 42, 134, 72, 134, 247, 13, 1, 9, 16, 1, 23}, cms.Wrapped(0xa0, data))
	}
	for name, c := range map[string]struct {
		attributes []byte
		want       error
	}{
		"as they were": {cms.Wrapped(0xa1, attribute), nil},
		"changed":      {cms.Wrapped(0xa1, bytes.Replace(attribute, []byte("value"), []byte("worth"), 1)), cms.ErrContent},
		"left out":     {nil, cms.ErrContent},
	} {
		_, content, err := cms.ReadHead(bytes.NewReader(build(c.attributes)))
		if err != nil {
			t.Fatal(err)
		}
		r, err := content.Decrypt(key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if !errors.Is(err, c.want) || err == nil && !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes, %v; want %v", name, len(got), err, c.want)
		}
	}
}

// TestLargeContentIsAStream: the memory that a message takes does not grow with it.
func TestLargeContentIsAStream(t *testing.T) {
	const size = 256 << 20
	to, err := cms.ToKey(&keys().ec.(*ecdsa.PrivateKey).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	in, out := io.Pipe()
	go func() {
		w, err := cms.Encrypt(out, cms.Unsized, to)
		if err == nil {
			_, err = io.CopyN(w, zeros{}, size)
		}
		if err == nil {
			err = w.Close()
		}
		out.CloseWithError(err)
	}()
	h, content, err := cms.ReadHead(in)
	if err != nil {
		t.Fatal(err)
	}
	e, err := h.Envelope()
	if err != nil {
		t.Fatal(err)
	}
	kx, err := keys().ec.(*ecdsa.PrivateKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	id, err := block.KeyIDOf(kx.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	key, err := block.OpenEC(kx, e.Wraps()[0].Named(id))
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r, err := content.Decrypt(key)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, r)
	runtime.ReadMemStats(&after)
	if err != nil || n != size {
		t.Fatalf("%d bytes, %v; want %d", n, err, size)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
		t.Errorf("%d bytes allocated for %d of content", grown, size)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// TestSeveralKeysOfOneAgreement: one KeyAgreeRecipientInfo may hold keys for several, and keying material that goes into
// the shared info.
func TestSeveralKeysOfOneAgreement(t *testing.T) {
	r := holderOf(t, t.TempDir(), "ec", keys().ec, nil)
	h, _, err := cms.ReadHead(bytes.NewReader(made(t, []byte("content"), "-aes-256-gcm", "-recip", r.certFile, "-keyopt", "ecdh_kdf_md:sha256")))
	if err != nil {
		t.Fatal(err)
	}
	outer := cms.Elements(h.Bytes())
	data := cms.Elements(cms.Elements(outer[1])[0])
	info := cms.Elements(cms.Elements(data[1])[0]) // version, originator, algorithm, keys
	first := cms.Elements(info[3])[0]
	second := cms.Wrapped(0x30, cms.Wrapped(0xa0, cms.Wrapped(4, []byte{7, 8, 9})), cms.Elements(first)[1])
	ukm := cms.Wrapped(0xa1, cms.Wrapped(4, []byte("ukm")))
	data[1] = cms.Wrapped(0x31, cms.Wrapped(0xa1, info[0], info[1], ukm, info[2], cms.Wrapped(0x30, first, second)))
	both, err := cms.ParseHead(cms.Wrapped(0x30, outer[0], cms.Wrapped(0xa0, cms.Wrapped(0x30, data...))))
	if err != nil {
		t.Fatal(err)
	}
	e, err := both.Envelope()
	if err != nil || len(e.Wraps()) != 2 {
		t.Fatalf("%d wraps, %v; want 2", len(e.Wraps()), err)
	}
	a, b := e.Wraps()[0], e.Wraps()[1]
	if !bytes.Equal(a.Enc(), b.Enc()) || a.Ref().Kind() != block.RefIssuerSerial || b.Ref().String() != "ski:070809" {
		t.Errorf("named %v and %v", a.Ref(), b.Ref())
	}
	// ECC-CMS-SharedInfo: id-aes256-wrap, [0] the keying material, [2] 256 bits.
	want := "\x30\x1c\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x01\x2d\xa0\x05\x04\x03ukm\xa2\x06\x04\x04\x00\x00\x01\x00"
	if got := string(b.Context()); got != want {
		t.Errorf("shared info %x; want %x", got, want)
	}
}
