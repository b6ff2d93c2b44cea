package board

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image/png"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra/label"
)

// A browser is headless Chromium, spoken to over a pipe by the Chrome DevTools Protocol: messages are JSON, each followed by a zero byte.
type browser struct {
	t       *testing.T
	from    *os.File
	in      *bufio.Reader
	out     io.Writer
	id      int
	session string
}

type message struct {
	ID      int             `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Params  any             `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   json.RawMessage `json:"error,omitempty"`
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	toR, toW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromR, fromW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// without its sandbox, because tests run as root; what it reads is our own
	c := exec.Command("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	c.ExtraFiles = []*os.File{toR, fromW}
	c.WaitDelay = 10 * time.Second
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	_ = toR.Close()
	_ = fromW.Close()
	b := &browser{t: t, from: fromR, in: bufio.NewReader(fromR), out: toW}
	t.Cleanup(func() {
		_, _ = io.WriteString(toW, `{"id":999999,"method":"Browser.close"}`+"\x00")
		ended := make(chan struct{})
		go func() { _ = c.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = c.Process.Kill()
			<-ended
		}
		for range 1000 { // its other processes may still write into its folder, which goes next
			if syscall.Kill(-c.Process.Pid, syscall.SIGKILL) != nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		_ = toW.Close()
		_ = fromR.Close()
	})
	target := b.do("Target.createTarget", map[string]any{"url": "about:blank"})
	b.session = b.do("Target.attachToTarget", map[string]any{"targetId": target["targetId"], "flatten": true})["sessionId"].(string)
	b.do("Page.enable", nil)
	b.do("Emulation.setScriptExecutionDisabled", map[string]any{"value": true})
	return b
}

// do sends a command and returns its result.
func (b *browser) do(method string, params any) map[string]any {
	b.t.Helper()
	b.id++
	text, err := json.Marshal(message{ID: b.id, Method: method, Session: b.session, Params: params})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.out.Write(append(text, 0)); err != nil {
		b.t.Fatal(err)
	}
	for {
		m := b.next()
		if m.ID != b.id {
			continue
		}
		if m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error)
		}
		var out map[string]any
		if err := json.Unmarshal(m.Result, &out); err != nil {
			b.t.Fatal(err)
		}
		return out
	}
}

func (b *browser) next() (m message) {
	b.t.Helper()
	_ = b.from.SetReadDeadline(time.Now().Add(2 * time.Minute))
	text, err := b.in.ReadBytes(0)
	if err != nil {
		b.t.Fatalf("chromium: %v", err)
	}
	if err := json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &m); err != nil {
		b.t.Fatal(err)
	}
	return m
}

// open loads a page and waits for it.
func (b *browser) open(url string) {
	b.t.Helper()
	if r := b.do("Page.navigate", map[string]any{"url": url}); r["errorText"] != nil {
		b.t.Fatalf("%s: %v", url, r["errorText"])
	}
	for b.next().Method != "Page.loadEventFired" {
	}
}

// look sets the window and the reader's colours.
func (b *browser) look(width int, scheme string) {
	b.t.Helper()
	b.do("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false})
	b.do("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}})
}

// wide is how wide the content is.
func (b *browser) wide() float64 {
	b.t.Helper()
	return b.do("Page.getLayoutMetrics", nil)["cssContentSize"].(map[string]any)["width"].(float64)
}

// ask evaluates an expression of ours; the page's own scripts stay off.
func (b *browser) ask(expression string) any {
	b.t.Helper()
	return b.do("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true})["result"].(map[string]any)["value"]
}

func (b *browser) shot(file string) (brightness uint32) {
	b.t.Helper()
	data, err := base64.StdEncoding.DecodeString(b.do("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true})["data"].(string))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		b.t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		b.t.Fatal(err)
	}
	r, g, bl, _ := img.At(2, 2).RGBA()
	return (r + g + bl) / 3 >> 8
}

// busySite has long names, a full entry, revocations, and a client.
func busySite(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	long := s.f.Platform(strings.Repeat("a-very-long-name", 3)+"-of-a-box", label.KeyRelease, label.Server, "2001:db8:1234:5678:9abc:def0:1234:5678", strings.Repeat("long.", 10)+"example.org")
	for _, a := range []label.SignedAdvert{s.f.one.Advert(1, addr1), s.f.two.Advert(1, addr2), s.f.client.Advert(1),
		long.Advert(1, "https://[2001:db8:1234:5678:9abc:def0:1234:5678]:8443", "https://"+strings.Repeat("long.", 10)+"example.org:8443")} {
		s.want("advert", PathAdverts, a.Bytes(), 204, "")
	}
	p := s.f.Permissions(1, label.Revoke, 2, label.Permission{Name: "box9", State: label.Revoked, Reason: strings.Repeat("stolen", 30)},
		label.Permission{Key: label.Digest{1}, State: label.Revoked}, label.Permission{Name: "box1", Label: label.KeyRelease, State: label.Granted})
	s.want("permissions", PathPermissions, p.Bytes(), 204, "")
	s.want("list", PathRevoked, pemOf("X509 CRL", s.f.RevocationList(1)), 204, "")
	return s
}

// The page is read in Chromium without script, by day and by night, on telephones and on desks: all of it is there, and nothing is wider
// than the window. It prints. The screenshots are artefacts of the test (go test -artifacts).
func TestPageInChromium(t *testing.T) {
	s := busySite(t)
	b := newBrowser(t)
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int{320, 800, 1280} {
			name := fmt.Sprintf("%s at %d", scheme, width)
			b.look(width, scheme)
			b.open(s.http.URL + "/")
			if got := b.wide(); got > float64(width) {
				t.Errorf("%s: the page is %.0f wide", name, got)
			}
			if got := b.ask(`[...document.querySelectorAll("body *")].filter(e => e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1).map(e => e.tagName + " " + e.textContent.slice(0, 40)).join("; ")`); got != "" {
				t.Errorf("%s: text overflows in %v", name, got)
			}
			text, _ := b.ask("document.body.innerText").(string)
			for _, want := range []string{"box1", "box2", "laptop7", "key-release", "may provide the service", "may take part", "v0.1.0", "box9", "kra board find", "Number 1"} {
				if !strings.Contains(text, want) {
					t.Errorf("%s: the page does not show %q", name, want)
				}
			}
			bright := b.shot(filepath.Join(t.ArtifactDir(), fmt.Sprintf("board-%s-%d.png", scheme, width)))
			if scheme == "light" && bright < 230 || scheme == "dark" && bright > 60 {
				t.Errorf("%s: the background is of brightness %d", name, bright)
			}
		}
	}
	pdf, err := base64.StdEncoding.DecodeString(b.do("Page.printToPDF", map[string]any{"printBackground": true})["data"].(string))
	if err != nil || !bytes.HasPrefix(pdf, []byte("%PDF-")) {
		t.Errorf("it does not print: %v", err)
	}
	if err := os.WriteFile(filepath.Join(t.ArtifactDir(), "board.pdf"), pdf, 0o644); err != nil {
		t.Fatal(err)
	}
}

// The page needs no script and loads nothing; the browser is told to keep it so. What others say cannot become markup.
func TestPageIsInert(t *testing.T) {
	s := busySite(t)
	a, err := http.Get(s.http.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script", "javascript:", " onclick", "<img", "<iframe", "<link", "@import", "url("} {
		if bytes.Contains(bytes.ToLower(text), []byte(bad)) {
			t.Errorf("the page has %q", bad)
		}
	}
	policy := a.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'", "style-src 'sha256-"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy %q lacks %q", policy, want)
		}
	}
	if strings.Contains(policy, "unsafe") || a.Header.Get("X-Content-Type-Options") != "nosniff" || a.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("headers %v", a.Header)
	}
	for _, block := range regexp.MustCompile(`(?s)<pre>(.*?)</pre>`).FindAllSubmatch(text, -1) {
		for line := range strings.Lines(string(block[1])) {
			if n := len([]rune(strings.TrimSpace(line))); n > 80 {
				t.Errorf("%d columns: %s", n, line)
			}
		}
	}
	hostile := s.f.Permissions(2, label.Revoke, 0, label.Permission{Name: "box9", State: label.Revoked, Reason: `<script>alert(1)</script>"'`})
	s.want("permissions", PathPermissions, hostile.Bytes(), 204, "")
	if _, page := s.get("/"); strings.Contains(page, "<script") || !strings.Contains(page, "&lt;script&gt;") {
		t.Error("a reason became markup")
	}
}
