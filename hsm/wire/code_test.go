package wire

import (
	"bytes"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/receipt"
)

var update = flag.Bool("update", false, "write the seeds of the fuzz targets")

// rewrite parses the request or answer b of a verb and writes it again. ok is false if b is refused.
func rewrite(b []byte, answer bool) (again []byte, ok bool) {
	w := &writer{}
	v := verb(b[0])
	w.u8(b[0])
	r := &reader{b: b[1:]}
	if answer {
		rewriteAnswer(w, r, v)
	} else {
		rewriteRequest(w, r, v)
	}
	return w.b, v >= verbOpen && v <= verbLast && r.done() == nil
}

func rewriteRequest(w *writer, r *reader, v verb) {
	switch v {
	case verbOpen:
		w.token(r.token())
	case verbGenerate:
		w.u8(r.enum(uint8(SuiteLast)))
		w.u8(r.enum(uint8(Replicable)))
		w.u8(r.enum(uint8(Vault)))
	case verbImport:
		w.u8(r.enum(uint8(Replicable)))
		w.u8(r.enum(uint8(Vault)))
		w.bytes(r.bytes(MaxPKCS8))
	case verbDestroy:
		var id block.KeyID
		r.fixed(id[:])
		w.fixed(id[:])
	case verbUnwrap:
		w.wraps(r.wraps())
	case verbTranscrypt:
		w.recipient(r.recipient())
		w.wraps(r.wraps())
	case verbSince:
		w.u64(r.u64())
	case verbCheck:
		w.head(r.head())
	case verbEnclose, verbLoad, verbUnload, verbLoaded:
		rewriteLabelled(w, r, v)
	case verbImportKey, verbNewImportKey:
	case verbImportWrapped:
		w.u8(r.enum(uint8(Replicable)))
		w.u8(r.enum(uint8(Vault)))
		w.fixed(r.take(32))
		w.bytes(r.bytes(MaxWrappedKey))
	default:
		rewriteTransfer(w, r, v)
	}
}

func rewriteAnswer(w *writer, r *reader, v verb) {
	err := r.err()
	w.err(err)
	if err != nil || r.bad {
		return
	}
	switch v {
	case verbOpen, verbStatus:
		w.instance(r.instance())
	case verbImportKey, verbNewImportKey:
		w.bytes(r.bytes(MaxPKCS8))
		w.files(r.files())
	case verbGenerate, verbImport, verbImportWrapped:
		w.key(r.key())
		w.files(r.files())
	case verbDestroy:
		w.files(r.files())
	case verbList:
		w.keys(r.keys())
	case verbUnwrap, verbTranscrypt:
		n, last := 0, formKey
		if v == verbTranscrypt {
			last = formSealed
		}
		if len(r.b) >= 92 {
			n = int(r.b[90])<<8 | int(r.b[91])
		}
		results, head, err := r.batch(n, last)
		r.bad = r.bad || err != nil
		w.batch(results, head)
	case verbSince:
		w.items(r.items())
	case verbEnclose, verbLoad, verbLoaded:
		rewriteLabelledAnswer(w, r, v)
	default:
		rewriteTransferred(w, r, v)
	}
}

// samples are one message of each kind, and some that must be refused.
func samples(t testing.TB, answer bool) map[string][]byte {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	wrap, err := block.WrapFileKey(key.PublicKey(), make([]byte, block.FileKeySize))
	if err != nil {
		t.Fatal(err)
	}
	agreed, err := block.Seal(block.SuiteECDHES, key.PublicKey(), make([]byte, block.MaxKeySize), []byte{'x', 0, 0, 1, 0})
	if err != nil {
		t.Fatal(err)
	}
	transport, err := block.NewWrap(block.SuiteOAEPSHA1, block.KeyIDRef(block.KeyID{1}), nil, make([]byte, 256), nil)
	if err != nil {
		t.Fatal(err)
	}
	head := receipt.ChainHead{Instance: receipt.Instance{1}, N: 3, Head: receipt.Hash{2}, MAC: receipt.Hash{3}}
	files := Files{"a/b": []byte("x"), "a/c": nil, "d/e": {}}
	fileKey, _ := block.NewFileKey(make([]byte, block.FileKeySize))
	contentKey, _ := block.NewFileKey(make([]byte, block.MaxKeySize))
	k := Key{SPKI: spki, Suite: P256, Custody: Bound, Origin: Imported, Mode: Vault}
	s := map[string]func(*writer){
		"open":           func(w *writer) { w.u8(uint8(verbOpen)); w.token(Token{files, []byte("1234"), []byte("5678")}) },
		"generate":       func(w *writer) { w.u8(uint8(verbGenerate)); w.u8(3); w.u8(2); w.u8(2) },
		"import":         func(w *writer) { w.u8(uint8(verbImport)); w.u8(1); w.u8(1); w.bytes([]byte("0")) },
		"import key":     func(w *writer) { w.u8(uint8(verbImportKey)) },
		"new import key": func(w *writer) { w.u8(uint8(verbNewImportKey)) },
		"import wrapped": func(w *writer) {
			w.u8(uint8(verbImportWrapped))
			w.u8(1)
			w.u8(2)
			w.fixed(make([]byte, 32))
			w.bytes(make([]byte, 400))
		},
		"destroy": func(w *writer) { w.u8(uint8(verbDestroy)); w.fixed(make([]byte, 32)) },
		"list":    func(w *writer) { w.u8(uint8(verbList)) },
		"unwrap":  func(w *writer) { w.u8(uint8(verbUnwrap)); w.wraps([]block.Wrap{wrap, wrap}) },
		"suites":  func(w *writer) { w.u8(uint8(verbUnwrap)); w.wraps([]block.Wrap{agreed, tagged(t)}) },
		"since":   func(w *writer) { w.u8(uint8(verbSince)); w.u64(7) },
		"check":   func(w *writer) { w.u8(uint8(verbCheck)); w.head(head) },
		"status":  func(w *writer) { w.u8(uint8(verbStatus)) },
		"admit": func(w *writer) {
			w.u8(uint8(verbAdmit))
			w.token(Token{PIN: []byte("1234"), SOPIN: []byte("5678")})
			w.bytes([]byte("transport"))
		},
		"pack": func(w *writer) {
			w.u8(uint8(verbPack))
			w.fixed(make([]byte, 32))
			w.ids([]block.KeyID{{1}, {2}})
		},
		"receive": func(w *writer) { w.u8(uint8(verbReceive)); w.u8(2); w.bytes([]byte("sealed")); w.parcels(someParcels) },
		"dismiss": func(w *writer) { w.u8(uint8(verbDismiss)); w.fixed(make([]byte, 32)) },
		"enclose": func(w *writer) {
			w.u8(uint8(verbEnclose))
			w.u8(1)
			w.string("attended")
			w.fixed(make([]byte, LabelSecret))
		},
		"load":   func(w *writer) { w.u8(uint8(verbLoad)); w.enclosed(someEnclosed); w.fixed(make([]byte, LabelSecret)) },
		"unload": func(w *writer) { w.u8(uint8(verbUnload)); w.fixed(make([]byte, 32)) },
		"loaded": func(w *writer) { w.u8(uint8(verbLoaded)) },
		"transcrypt": func(w *writer) {
			w.u8(uint8(verbTranscrypt))
			w.recipient(Recipient{bytes.Repeat([]byte{0x81}, minRecipient), 3})
			w.wraps([]block.Wrap{transport, wrap})
		},
	}
	if answer {
		ok := func(v verb, f func(*writer)) func(*writer) {
			return func(w *writer) { w.u8(uint8(v)); w.err(nil); f(w) }
		}
		s = map[string]func(*writer){
			"open": ok(verbOpen, func(w *writer) {
				w.instance(Instance{receipt.Instance{1}, files, Report{"m", 2, []Check{{"a", ""}, {"b", "no"}}, 1}})
			}),
			"generate":       ok(verbGenerate, func(w *writer) { w.key(k); w.files(files) }),
			"import key":     ok(verbImportKey, func(w *writer) { w.bytes([]byte("spki")); w.files(files) }),
			"import wrapped": ok(verbImportWrapped, func(w *writer) { w.key(k); w.files(files) }),
			"destroy":        ok(verbDestroy, func(w *writer) { w.files(files) }),
			"list":           ok(verbList, func(w *writer) { w.keys([]Key{k, k}) }),
			"unwrap": ok(verbUnwrap, func(w *writer) {
				w.batch([]Result{{Key: fileKey}, {Err: ErrUnwrap}, {Err: Refused{"token is away"}}}, head)
			}),
			"long": ok(verbUnwrap, func(w *writer) { w.batch([]Result{{Key: contentKey}}, head) }),
			"transcrypt": ok(verbTranscrypt, func(w *writer) {
				w.batch([]Result{{Sealed: []byte("ciphertext")}, {Err: ErrUnwrap}, {Key: fileKey}}, head)
			}),
			"since": ok(verbSince, func(w *writer) {
				w.items([]receipt.Item{{Key: receipt.Hash{1}}, {Ciphertext: receipt.Hash{2}, Peer: receipt.Hash{3}}}, head)
			}),
			"transport": ok(verbTransport, func(w *writer) { w.bytes([]byte("transport")) }),
			"admit":     ok(verbAdmit, func(w *writer) { w.bytes([]byte("sealed")); w.files(files) }),
			"pack":      ok(verbPack, func(w *writer) { w.head(head); w.parcels(someParcels) }),
			"receive":   ok(verbReceive, func(w *writer) { w.keys([]Key{k, k}); w.files(files) }),
			"dismiss":   ok(verbDismiss, func(w *writer) { w.files(files) }),
			"enclose":   ok(verbEnclose, func(w *writer) { w.key(k); w.enclosed(someEnclosed) }),
			"load":      ok(verbLoad, func(w *writer) { w.key(k) }),
			"loaded":    ok(verbLoaded, func(w *writer) { w.keys([]Key{k}) }),
			"refused":   func(w *writer) { w.u8(uint8(verbList)); w.err(Refused{"no"}) },
			"closed":    func(w *writer) { w.u8(uint8(verbList)); w.err(ErrClosed) },
		}
	}
	out := map[string][]byte{}
	for name, f := range s {
		w := &writer{}
		f(w)
		out[name] = w.b
	}
	return out
}

// tagged is a wrap of stock age to a hybrid key, after its tag was resolved.
func tagged(t testing.TB) block.Wrap {
	t.Helper()
	pq, err := mlkem.GenerateKey768()
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := block.NewHybridKey(append(pq.EncapsulationKey().Bytes(), ec.PublicKey().Bytes()...))
	if err != nil {
		t.Fatal(err)
	}
	w, err := block.Seal(block.SuiteHybridTag, pub, make([]byte, block.FileKeySize), nil)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestMessagesHaveOneForm(t *testing.T) {
	for _, answer := range []bool{false, true} {
		for name, b := range samples(t, answer) {
			if again, ok := rewrite(b, answer); !ok || !bytes.Equal(again, b) {
				t.Errorf("%s (answer %v): parsed %v and written again as\n%x, want\n%x", name, answer, ok, again, b)
			}
			for i := range b {
				if _, ok := rewrite(b[:i+1], answer); ok && i+1 < len(b) {
					t.Errorf("%s (answer %v): its first %d bytes are accepted", name, answer, i+1)
				}
			}
			if _, ok := rewrite(append(bytes.Clone(b), 0), answer); ok {
				t.Errorf("%s (answer %v): a byte too many is accepted", name, answer)
			}
		}
	}
}

func TestErrorsCross(t *testing.T) {
	for _, want := range []error{nil, ErrClosed, ErrNoKey, ErrUnwrap, ErrForgotten, ErrHead, ErrPIN, Refused{"why"}} {
		w := &writer{}
		w.err(want)
		r := &reader{b: w.b}
		if got := r.err(); got != want || r.done() != nil {
			t.Errorf("%v arrives as %v, %v", want, got, r.done())
		}
	}
	w := &writer{}
	w.err(fmt.Errorf("wrapped: %w", ErrPIN))
	if got := (&reader{b: w.b}).err(); !errors.Is(got, ErrPIN) {
		t.Errorf("a wrapped error arrives as %v", got)
	}
	w = &writer{}
	w.err(errors.New(string(make([]byte, 2*maxReason))))
	if got := (&reader{b: w.b}).err(); len(got.Error()) != maxReason {
		t.Errorf("a long reason arrives with %d bytes, want %d", len(got.Error()), maxReason)
	}
}

func TestNames(t *testing.T) {
	for s := P256; s <= SuiteLast; s++ {
		if got, err := ParseSuite(s.String()); err != nil || got != s || s.Wraps() == 0 {
			t.Errorf("ParseSuite(%q) = %v, %v", s, got, err)
		}
	}
	for c := Bound; c <= Labelled; c++ {
		if got, err := ParseCustody(c.String()); err != nil || got != c {
			t.Errorf("ParseCustody(%q) = %v, %v", c, got, err)
		}
	}
	if _, err := ParseSuite("suite 0"); err == nil || Suite(0).Wraps() != 0 {
		t.Error("the zero suite is accepted")
	}
	if _, err := ParseCustody("custody 0"); err == nil {
		t.Error("the zero custody is accepted")
	}
	got := []string{Generated.String(), Imported.String(), Wrapped.String(), Origin(0).String()}
	if d := cmp.Diff([]string{"generated", "imported", "imported wrapped", "origin 0"}, got); d != "" {
		t.Error(d)
	}
}

func FuzzRequest(f *testing.F) { fuzz(f, "FuzzRequest", false) }
func FuzzAnswer(f *testing.F)  { fuzz(f, "FuzzAnswer", true) }

// fuzz asserts that what is accepted is written again byte for byte.
func fuzz(f *testing.F, name string, answer bool) {
	dir := filepath.Join("testdata", "fuzz", name)
	if *update {
		for n, b := range samples(f, answer) {
			if err := os.WriteFile(filepath.Join(dir, n), fmt.Appendf(nil, "go test fuzz v1\n[]byte(%q)\n", b), 0o644); err != nil {
				f.Fatal(err)
			}
		}
	}
	seeds, err := os.ReadDir(dir)
	if err != nil || len(seeds) < 8 {
		f.Fatalf("%d seeds in %s, %v; want at least 8", len(seeds), dir, err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		if again, ok := rewrite(b, answer); ok && !bytes.Equal(again, b) {
			t.Errorf("%x is accepted but written as %x", b, again)
		}
	})
}
