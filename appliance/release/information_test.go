package release

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/policy"
)

// knowing is a world with roles, groups and attributes on others' word.
func knowing(t *testing.T) *world {
	w := newWorld(t)
	w.server.delay = time.Millisecond
	w.def.Authorities = []policy.AuthorityDef{{Alias: "corp-aa", May: []policy.Kind{policy.Role}}, {Alias: "idp", May: []policy.Kind{policy.Group}}, {Alias: "ldap", May: []policy.Kind{policy.Attribute}}}
	w.def.Rules[0].Expr = `roles.has("teller", "corp-aa") || groups.has("legal", "idp") || attributes.has("department", "sales", "ldap")`
	w.publish()
	w.info.said.Store(&sayings{})
	return w
}

// TestInformationReachesTheRules: what is presented counts on the word of an authority, and is in the log with that.
func TestInformationReachesTheRules(t *testing.T) {
	w := knowing(t)
	h, c := w.hsm.header(t, "legal"), w.alice()
	sales := policy.Item{Kind: policy.Attribute, Name: "department", Value: "sales", Authority: "ldap", Via: policy.Directory}
	over := overChannel(t)
	for name, tt := range map[string]struct {
		shows kra.Presented
		says  *sayings
		want  int
		log   string
	}{
		"nothing":                  {kra.Presented{}, &sayings{}, 403, `"not permitted"`},
		"attribute certificate":    {kra.Presented{Attributes: [][]byte{[]byte("good")}}, &sayings{}, 200, `"teller"`},
		"token":                    {kra.Presented{Tokens: []string{"good"}}, &sayings{}, 200, `"idp"`},
		"directory":                {kra.Presented{}, &sayings{items: []policy.Item{sales}}, 200, `"sales"`},
		"directory is away":        {kra.Presented{}, &sayings{unavailable: []kra.Anchor{"ldap"}}, 403, `"ldap"`},
		"forged beside good":       {kra.Presented{Attributes: [][]byte{[]byte("good"), []byte("forged")}}, &sayings{}, 403, `not signed by any authority`},
		"what was dropped is said": {kra.Presented{}, &sayings{}, 403, `"notes":["ldap-two: image is too old"]`},
		"nobody vouches":           {kra.Presented{Tokens: []string{"good"}}, nil, 403, `no source that could vouch`},
	} {
		w.info.said.Store(tt.says)
		code, _ := w.post(c, compose(t, "", tt.shows, over, h).Encode())
		if e := w.jour.last(1)[0]; code != tt.want || !strings.Contains(entryText(e), tt.log) {
			t.Errorf("%s: %d; want %d; logged as %s", name, code, tt.want, entryText(e))
		}
	}
}

// TestInformationServesAConnection: asked once a second for a connection that presents nothing, again when there is a new
// world, and every time for one that presents something.
func TestInformationServesAConnection(t *testing.T) {
	w := knowing(t)
	h, c := w.hsm.header(t, "legal"), w.alice()
	s := w.info.said.Load()
	for range 5 {
		w.ask(c, "", h)
	}
	if n := s.asked.Load(); n != 1 {
		t.Errorf("asked %d times in one second", n)
	}
	w.clock.Store(&moment{w.clock.Load().now.Add(time.Second), true})
	w.ask(c, "", h)
	if n := s.asked.Load(); n != 2 {
		t.Errorf("asked %d times in two seconds", n)
	}
	for range 2 {
		if code, _ := w.post(c, compose(t, "", kra.Presented{Tokens: []string{"good"}}, overChannel(t), h).Encode()); code != 200 {
			t.Error(code)
		}
	}
	if n := s.asked.Load(); n != 4 {
		t.Errorf("asked %d times with tokens", n)
	}
	next := &sayings{items: []policy.Item{{Kind: policy.Attribute, Name: "department", Value: "sales", Authority: "ldap", Via: policy.Directory}}}
	w.info.said.Store(next)
	if code, _ := w.ask(c, "", h); code != 200 || next.asked.Load() != 1 {
		t.Errorf("new world: %d", code)
	}
	if e := s.last.Load(); e.Channel != policy.Authenticated || len(e.Chain) != 2 || e.Decryptor.String() != alice {
		t.Errorf("asked about %+v", e)
	}
}

func TestRevokedOnOpenConnection(t *testing.T) { // counts for the next request, and the attempt is in the log
	w := newWorld(t)
	w.server.delay = time.Millisecond
	pair := w.corp.person(t, "alice", "Example")
	h, c := w.hsm.header(t, "legal"), w.client(pair)
	if code, _ := w.ask(c, "", h); code != http.StatusOK {
		t.Fatal(code)
	}
	w.info.said.Store(&sayings{revoked: []*x509.Certificate{leafOf(t, pair)}})
	if code, _ := w.ask(c, "", h); code != http.StatusForbidden || !strings.Contains(entryText(w.jour.last(1)[0]), "revoked") {
		t.Errorf("%d; logged as %s", code, entryText(w.jour.last(1)[0]))
	}
	if code, _ := w.who(c); code != http.StatusUnauthorized {
		t.Errorf("who am I: %d", code)
	}
}

func (w *world) who(c *http.Client) (int, []byte) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+w.addr+kra.PathWhoAmI, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, b
}

func TestWhoAmI(t *testing.T) { // one's own name, information and access identifiers, and nobody else's
	w := knowing(t)
	until := time.Date(2040, 1, 2, 3, 4, 5, 0, time.UTC)
	w.info.said.Store(&sayings{unavailable: []kra.Anchor{"idp"}, items: []policy.Item{
		{Kind: policy.Attribute, Name: "department", Value: "sales", Authority: "ldap", Via: policy.Directory, Until: until}}})
	for name, tt := range map[string]struct {
		client *http.Client
		code   int
		want   string
	}{
		"alice":                     {w.alice(), 200, `{"decryptor":"corp:CN=alice,O=Example","access":["legal-team"],"information":[{"kind":"attribute","name":"department","value":"sales","authority":"ldap","via":"directory","until":"2040-01-02T03:04:05Z"}],"unavailable":["idp"]}`},
		"nobody":                    {w.client(), 401, `{"error":"certificate"}`},
		"somebody else's authority": {w.client(w.stranger.person(t, "alice", "Example")), 401, `{"error":"certificate"}`},
	} {
		code, body := w.who(tt.client)
		if code != tt.code || string(body) != tt.want {
			t.Errorf("%s: %d %s", name, code, body)
		}
		if code == 200 {
			if _, err := kra.ParseWhoAmI(body); err != nil {
				t.Error(err)
			}
		}
	}
	w.info.said.Store(&sayings{})
	if _, body := w.who(w.mallory()); string(body) != `{"decryptor":"corp:CN=mallory,O=Elsewhere","access":[]}` {
		t.Errorf("mallory: %s", body)
	}
	if n := w.hsm.calls; n != 0 {
		t.Errorf("%d calls of the HSM", n)
	}
}

// TestTenThousandCiphertexts: a request of that many is refused by its form, in whatever way they are spread.
func TestTenThousandCiphertexts(t *testing.T) {
	w := newWorld(t)
	h := w.hsm.header(t, "legal")
	stanza := string(h.Bytes()[strings.Index(string(h.Bytes()), "-> "):strings.Index(string(h.Bytes()), "---")])
	text := string(h.Bytes())
	many := strings.Replace(text, stanza, strings.Repeat(stanza, 10_000), 1)
	most := strings.Replace(text, stanza, strings.Repeat(stanza, 65), 1)
	full := strings.Replace(text, stanza, strings.Repeat(stanza, 64), 1)
	hundred := make([]string, 160)
	for i := range hundred {
		hundred[i] = full
	}
	c := w.alice()
	for name, headers := range map[string][]string{"in one header": {many}, "one too many": {most}, "in many headers": hundred, "a header each": slices.Repeat([]string{text}, 10_000)} {
		var b strings.Builder
		b.WriteString(`{"headers":[`)
		for i, h := range headers {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`"` + base64Of(h) + `"`)
		}
		b.WriteString(`]}`)
		if code, body := w.post(c, []byte(b.String())); code != http.StatusBadRequest && code != http.StatusRequestEntityTooLarge || w.hsm.calls != 0 {
			t.Errorf("%s: %d %.100s", name, code, body)
		}
	}
	if code, _ := w.ask(c, "", h); code != http.StatusOK { // and the box goes on
		t.Error(code)
	}
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
