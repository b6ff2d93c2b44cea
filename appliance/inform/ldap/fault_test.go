package ldap_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/appliance/inform"
	"github.com/keyrelease/krabox/appliance/inform/ldap"
	"github.com/keyrelease/krabox/appliance/inform/ldap/ldaptest"
	"github.com/keyrelease/krabox/appliance/peertest"
	"github.com/keyrelease/krabox/kra/policy"
)

// A real server that is another one, does not know us, is slow, or is gone gives no image, soon; and one again when it is
// back.
func TestServerFaults(t *testing.T) {
	s := ldaptest.New(t)
	s.Person("bob", "mail=bob@example.com", "departmentNumber=sales")
	for what, edit := range map[string]func(*ldap.Config){
		"certificate signed by unknown authority": func(c *ldap.Config) { c.Roots = []*x509.Certificate{peertest.NewAuthority(t).Root} },
		"localhost": func(c *ldap.Config) { c.URL = strings.Replace(c.URL, "127.0.0.1", "localhost", 1) },
		"Invalid Credentials": func(c *ldap.Config) {
			c.Password = func() []byte { return []byte("not the password") }
		},
		"No Such Object": func(c *ldap.Config) { c.Base = "ou=nowhere," + ldaptest.Suffix },
	} {
		c := usual(s)
		edit(&c)
		if i, err := newServer(t, c).Sync(t.Context()); err == nil || i != nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, %v; want %q", i, err, what)
		}
	}
	server := newServer(t, usual(s))
	s.Signal(syscall.SIGSTOP)
	brief, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if i, err := server.Sync(brief); err == nil || i != nil || time.Since(began) > 20*time.Second {
		t.Errorf("a server that does not answer: %v, %v after %v", i, err, time.Since(began))
	}
	s.Signal(syscall.SIGCONT)
	if _, err := server.Sync(t.Context()); err != nil {
		t.Errorf("when it answers again: %v", err)
	}
	s.Stop()
	if i, err := server.Sync(t.Context()); err == nil || i != nil {
		t.Errorf("a server that is down: %v, %v", i, err)
	}
	s.Start()
	if i, err := server.Sync(t.Context()); err != nil || tell(i, mail(t, "bob@example.com")) == "" {
		t.Errorf("when it is up again: %v, %v", i, err)
	}
}

// What a directory said serves while it is down, until it is too old; then the directory is unavailable, and back with
// the server.
func TestLastGoodImage(t *testing.T) {
	s := ldaptest.New(t)
	bob := s.Person("bob", "mail=bob@example.com", "departmentNumber=sales")
	s.Group("legal", bob, s.Person("eve"))
	k := inform.NewKeeper(time.Now, nil)
	t.Cleanup(k.Close)
	who := mail(t, "bob@example.com")
	asked := func() (said, missing string) {
		in, err := k.World().Resolve(inform.Presented{Chain: []*x509.Certificate{who.Leaf}, Anchor: "corp", Decryptor: who.Decryptor, TLS: true}, time.Now(), true)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range in.Items() {
			if i.Authority == "corp-ldap" && i.Via == policy.Directory {
				said += i.Name + i.Value + " "
			}
		}
		for _, a := range in.Unavailable() {
			missing += string(a)
		}
		return said, missing
	}
	until := func(what, said, missing string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			a, b := asked()
			if a == said && b == missing {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: says %q, missing %q; want %q, %q", what, a, b, said, missing)
			}
		}
	}
	configure := func(maxAge time.Duration) {
		t.Helper()
		if err := k.Configure(inform.Config{Directories: []inform.Directory{{Alias: "corp-ldap", Of: "corp", May: []policy.Kind{policy.Group, policy.Attribute},
			Server: newServer(t, usual(s)), Stamp: maxAge.String(), Every: 20 * time.Millisecond, MaxAge: maxAge}}}); err != nil {
			t.Fatal(err)
		}
	}
	configure(time.Hour)
	until("as it is", "legal departmentsales ", "")
	s.Leave("cn=legal,"+ldaptest.Groups, bob)
	until("after leaving the group", "departmentsales ", "")
	s.Stop()
	for end := time.Now().Add(time.Minute); k.Status()[0].Err == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody notes that the server is down")
		}
	}
	until("while the server is down", "departmentsales ", "")
	configure(500 * time.Millisecond)
	until("never loaded", "", "corp-ldap")
	s.Start()
	configure(501 * time.Millisecond)
	until("with the server back", "departmentsales ", "")
	s.Stop()
	until("too old", "", "corp-ldap")
}

func tlv(tag byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	n := len(body)
	if n < 0x80 {
		return append([]byte{tag, byte(n)}, body...)
	}
	return append([]byte{tag, 0x83, byte(n >> 16), byte(n >> 8), byte(n)}, body...)
}

func text(tag byte, s string) []byte { return tlv(tag, []byte(s)) }

func message(id int, parts ...[]byte) []byte {
	number := []byte{2, 1, byte(id)}
	if id > 0x7f {
		number = []byte{2, 2, byte(id >> 8), byte(id)}
	}
	return tlv(0x30, append([][]byte{number}, parts...)...)
}

// found is an entry with one field.
func found(id int, dn, field, value string) []byte {
	return message(id, tlv(0x64, text(4, dn), tlv(0x30, tlv(0x30, text(4, field), tlv(0x31, text(4, value))))))
}

func result(tag, code byte) []byte { return tlv(tag, []byte{0x0a, 1, code}, text(4, ""), text(4, "")) }

// end is the end of a page; an empty cookie says that it was the last.
func end(id int, code byte, cookie string) []byte {
	return message(id, result(0x65, code), tlv(0xa0, tlv(0x30, text(4, "1.2.840.113556.1.4.319"), tlv(4, tlv(0x30, []byte{2, 1, 0}, text(4, cookie))))))
}

// liar is a server with a good certificate that lets anybody bind and answers searches in its own way.
func liar(t *testing.T, answer func(id int, w io.Writer) error) ldap.Config {
	t.Helper()
	authority := peertest.NewAuthority(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{authority.Server(t, "127.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewReader(c); ; {
					id, op, err := request(in)
					switch {
					case err != nil:
						return
					case op == 0x60:
						_, err = c.Write(message(id, result(0x61, 0)))
					case op == 0x63:
						err = answer(id, c)
					}
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	return ldap.Config{URL: "ldaps://" + l.Addr().String(), Roots: []*x509.Certificate{authority.Root}, Bind: "cn=kra", Password: func() []byte { return []byte("x") },
		Base: "dc=example", Name: "uid:cn", Map: []ldap.Mapping{{Kind: policy.Group, From: "memberOf"}}}
}

// request reads one message of a client, of less than 64 KiB.
func request(in *bufio.Reader) (id int, op byte, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(in, head); err != nil {
		return 0, 0, err
	}
	n := int(head[1])
	if n > 0x80 {
		long := make([]byte, n-0x80)
		if _, err := io.ReadFull(in, long); err != nil {
			return 0, 0, err
		}
		n = 0
		for _, c := range long {
			n = n<<8 | int(c)
		}
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(in, body); err != nil {
		return 0, 0, err
	}
	for _, c := range body[2 : 2+body[1]] {
		id = id<<8 | int(c)
	}
	return id, body[2+body[1]], nil
}

// A server that is the right one and lies, or breaks, gives no image, in bounded time and memory.
func TestLyingServers(t *testing.T) {
	const dn = "uid=bob,dc=example"
	all := func(parts ...[]byte) func(int, io.Writer) error {
		return func(_ int, w io.Writer) error {
			_, err := w.Write(bytes.Join(parts, nil))
			return err
		}
	}
	cut := func(parts ...[]byte) func(int, io.Writer) error {
		return func(_ int, w io.Writer) error {
			if _, err := w.Write(bytes.Join(parts, nil)); err != nil {
				return err
			}
			return io.EOF
		}
	}
	for what, x := range map[string]struct {
		answer func(id int, w io.Writer) error
		want   string
	}{
		"endless entries": {func(id int, w io.Writer) error {
			for many := bytes.Repeat(found(id, dn, "uid", "bob"), 1000); ; {
				if _, err := w.Write(many); err != nil {
					return err
				}
			}
		}, "entries"},
		"endless names": {func(id int, w io.Writer) error {
			for many := bytes.Repeat(found(id, dn, "memberOf", strings.Repeat("x", 400<<10)), 10); ; {
				if _, err := w.Write(many); err != nil {
					return err
				}
			}
		}, "more than"},
		"endless pages":        {func(id int, w io.Writer) error { _, err := w.Write(end(id, 0, "more")); return err }, "pages"},
		"another server":       {all(message(2, text(0x73, "")), end(2, 0, "")), ""},
		"another server first": {all(message(2, tlv(0x73, text(4, "ldaps://elsewhere/dc=example"))), end(2, 0, "")), "refers to another"},
		"a referral":           {all(end(2, 10, "")), "Referral"},
		"too much":             {all(found(2, dn, "uid", "bob"), end(2, 4, "")), "Size Limit"},
		"a long value":         {all(found(2, dn, "memberOf", strings.Repeat("x", 513<<10)), end(2, 0, "")), "longer than"},
		"a long promise":       {all([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 2, 1, 2}), "longer than"},
		"a longer promise":     {all([]byte{0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1}), "longer than"},
		"no length":            {all([]byte{0x30, 0x80, 2, 1, 2, 0, 0}), "longer than"},
		"something else":       {all([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")), "no message"},
		"no end":               {all(found(2, dn, "uid", "bob"), message(2, result(0x65, 0))), "complete"},
		"cut":                  {cut(found(2, dn, "uid", "bob")), ""},
		"cut in a message":     {cut(found(2, dn, "uid", "bob")[:20]), ""},
		"no name":              {all(found(2, "bob", "uid", "bob"), end(2, 0, "")), "distinguished name"},
		"a long name":          {all(found(2, "uid="+strings.Repeat("x", 1025), "uid", "bob"), end(2, 0, "")), "distinguished name"},
		"half an entry":        {all(message(2, tlv(0x64, text(4, dn))), end(2, 0, "")), ""},
		"nonsense":             {all(message(2, tlv(0x64, []byte{4, 200, 1})), end(2, 0, "")), ""},
		"deep nonsense":        {all(message(2, bytes.Repeat([]byte{0x30, 0x80}, 5000)), end(2, 0, "")), ""},
		"silence":              {all(), "deadline"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if what == "silence" {
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
				defer cancel()
			}
			i, err := newServer(t, liar(t, x.answer)).Sync(ctx)
			if err == nil || i != nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v, %v; want %q", i, err, x.want)
			}
		})
	}
	// The same server can tell the truth. Of one entry it tells only a part.
	c := liar(t, all(found(2, dn, "uid", "bob"), found(2, "uid=eve,dc=example", "uid", "eve"), end(2, 0, "")))
	if _, err := newServer(t, c).Sync(t.Context()); err != nil {
		t.Error(err)
	}
	c = liar(t, all(found(2, "cn=eve,dc=example", "memberOf;range=0-1499", "legal"), end(2, 0, "")))
	c.Name = ""
	eve := mail(t)
	eve.Leaf.RawSubject = rawName(t, "eve", "example")
	if got := tell(sync(t, c), eve); !strings.Contains(got, "only some values") {
		t.Errorf("of a part: %q", got)
	}
}

// A server that accepts connections and never speaks.
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := ldap.Config{URL: "ldaps://" + l.Addr().String(), Roots: []*x509.Certificate{peertest.NewAuthority(t).Root}, Base: "dc=example"}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if i, err := newServer(t, c).Sync(ctx); err == nil || i != nil {
		t.Errorf("%v, %v", i, err)
	}
}
