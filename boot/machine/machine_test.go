package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// box is a Handler that remembers what it was asked.
type box struct {
	did      []string
	refuse   error
	programs []Program // what is read, in turn
	asked    int       // for one of them

	strangers []string
}

func (b *box) note(s string) error { b.did = append(b.did, s); return b.refuse }

func (b *box) Reboot() error                      { return b.note("reboot") }
func (b *box) Maintenance() error                 { return b.note("maintenance") }
func (b *box) PowerOff() error                    { return b.note("poweroff") }
func (b *box) Lock(reason string) error           { return b.note("lock " + reason) }
func (b *box) SetClock(t time.Time) error         { return b.note("clock " + t.Format(time.RFC3339)) }
func (b *box) AdjustClock(by time.Duration) error { return b.note("adjust " + by.String()) }
func (b *box) SetNetwork(_ context.Context, n Network) error {
	return b.note(strings.TrimSpace(fmt.Sprint("network ", n.Mode, " ", n.Address, " ", strings.Trim(fmt.Sprint(n.Further()), "[]"), " ", n.Host)))
}
func (b *box) Unlock(k Key) (Key, error) { return Key{k[0] + 1}, b.note("unlock") }
func (b *box) Renew(how Opening, k Key) (Key, error) {
	return Key{k[0] + 2}, b.note("renew " + string(how))
}
func (b *box) Disk(q DiskRequest) (DiskReply, error) {
	return DiskReply{Text: string(q.Do)}, b.note("disk " + string(q.Do))
}
func (b *box) Program(at int) (Program, error) {
	b.asked++
	if at >= len(b.programs) {
		return Program{}, b.refuse
	}
	return b.programs[at], b.refuse
}
func (b *box) Turn(context.Context) error { return b.note("turn") }
func (b *box) Status() Status {
	return Status{Mode: "locked", Reason: "PCR \xff 4", Services: []Service{{Name: "krad", State: Ready, PID: 7}}, Strangers: b.strangers}
}

// pair connects a client to a served handler; ended receives what Serve returned.
func pair(t *testing.T, h Handler) (*Client, <-chan error) {
	t.Helper()
	near, far := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- Serve(t.Context(), far, h) }()
	c := NewClient(near)
	t.Cleanup(func() { c.Close() })
	return c, ended
}

func TestEveryRequestReachesTheHandler(t *testing.T) {
	ctx := t.Context()
	b := &box{}
	c, ended := pair(t, b)
	err := errors.Join(
		c.SetClock(ctx, time.Date(2026, 11, 21, 22, 0, 0, 500, time.UTC)),
		c.AdjustClock(ctx, -20*time.Millisecond),
		c.AdjustClock(ctx, time.Nanosecond),
		c.SetNetwork(ctx, Network{Mode: Static, Address: netip.MustParsePrefix("10.0.2.15/24"), Gateway: netip.MustParseAddr("10.0.2.2")}),
		c.SetNetwork(ctx, Network{Mode: DHCP, Routes: [MaxRoutes]Route{route("10.8.0.0/16", "10.0.2.9")}, Host: "box1"}),
		c.Lock(ctx, "state is older than the record"),
		c.Reboot(ctx),
		c.Maintenance(ctx),
		c.PowerOff(ctx),
	)
	if err != nil {
		t.Fatal(err)
	}
	if c.AdjustClock(ctx, MaxAdjust+time.Millisecond) == nil || c.AdjustClock(ctx, -time.Second) == nil {
		t.Error("a long adjustment was sent")
	}
	s, err := c.Status(ctx)
	if err != nil || s.Reason != "PCR \ufffd 4" || len(s.Services) != 1 {
		t.Errorf("Status() = %+v, %v", s, err)
	}
	for _, of := range []func() (Key, error){
		func() (Key, error) { k, err := c.Unlock(ctx, Key{8}); return k, err },
		func() (Key, error) { return c.Renew(ctx, WithSecret, Key{7}) },
		func() (Key, error) { k, err := c.Renew(ctx, AsBefore, Key{7}); return Key{k[0] + 7}, err },
		func() (Key, error) { k, err := c.Renew(ctx, Unattended, Key{7}); return Key{k[0] + 7}, err },
	} {
		if k, err := of(); err != nil || k != (Key{9}) {
			t.Errorf("a key: %v of %d, %v", k, k[0], err)
		}
	}
	if err := c.Turn(ctx); err != nil {
		t.Error(err)
	}
	if r, err := c.disk(ctx, DiskRequest{Do: DiskList}); err != nil || r.Text != "list" {
		t.Errorf("about disks: %+v, %v", r, err)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", Key{65}, Key{65}, Key{65}, Key{65}); strings.Contains(text, "65") || strings.Contains(text, "41") || strings.Contains(text, "A") {
		t.Errorf("a key prints as %s", text)
	}
	want := []string{"clock 2026-11-21T22:00:00Z", "adjust -20ms", "network static 10.0.2.15/24", "network dhcp invalid Prefix 10.8.0.0/16 via 10.0.2.9 box1",
		"lock state is older than the record", "reboot", "maintenance", "poweroff",
		"unlock", "renew with secret", "renew as before", "renew unattended", "turn", "disk list"}
	if d := cmp.Diff(want, b.did); d != "" {
		t.Error(d)
	}
	c.Close()
	if err := <-ended; err != nil {
		t.Errorf("Serve after hang-up = %v", err)
	}
}

// TestPrograms: every program of the list is asked for, each fault and each stranger is told, and a list that changes in between is none.
func TestPrograms(t *testing.T) {
	of := func(faults ...string) []Program {
		var all []Program
		for _, f := range faults {
			all = append(all, Program{Path: "/bin/x", Of: len(faults), Fault: f})
		}
		return all
	}
	other := of("", "", "")
	other[1].Of = 2
	for name, c := range map[string]struct {
		box    box
		n      int
		faults []string
		fails  bool
	}{
		"no list":      {box: box{}},
		"as listed":    {box: box{programs: of("", "", "")}, n: 3},
		"the last one": {box: box{programs: of("", "", "/bin/x is other")}, n: 3, faults: []string{"/bin/x is other"}},
		"two":          {box: box{programs: of("a", "", "b")}, n: 3, faults: []string{"a", "b"}},
		"a stranger":   {box: box{programs: of(""), strangers: []string{"7: \"/tmp/x\""}}, n: 1, faults: []string{`process 7: "/tmp/x" is not in the list`}},
		"refused":      {box: box{programs: of(""), refuse: errors.New("no")}, fails: true},
		"other list":   {box: box{programs: other}, fails: true},
		"endless":      {box: box{programs: []Program{{Of: MaxPrograms + 1}}}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := pair(t, &c.box)
			n, faults, err := client.Programs(t.Context())
			if (err != nil) != c.fails || n != c.n || !slices.Equal(faults, c.faults) {
				t.Errorf("Programs() = %d, %q, %v", n, faults, err)
			}
			if !c.fails && c.box.asked != max(1, c.n) {
				t.Errorf("asked %d times for %d", c.box.asked, c.n)
			}
		})
	}
}

func TestRefusalIsNotTheEndOfTheConnection(t *testing.T) {
	b := &box{refuse: errors.New("the clock of this host is not ours")}
	c, _ := pair(t, b)
	var r *Refused
	if err := c.SetClock(t.Context(), time.Unix(1e9, 0)); !errors.As(err, &r) {
		t.Fatalf("SetClock = %v; want a Refused", err)
	}
	b.refuse = nil
	if err := c.Reboot(t.Context()); err != nil {
		t.Errorf("Reboot after a refusal = %v", err)
	}
}

func TestSilentServerMeetsTheDeadline(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	go io.Copy(io.Discard, far)
	c := NewClient(near)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Reboot(ctx); err == nil {
		t.Fatal("Reboot without an answer = nil")
	}
	if err := c.Reboot(t.Context()); err == nil {
		t.Error("the connection was used again after a late answer could come")
	}
}

// Who asks and goes away, as an officer does with ^C, does not cut the agent off from process 1.
func TestWhoGoesAwayCutsNothing(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	ctx, leave := context.WithCancel(t.Context())
	b := &box{}
	go func() {
		one := make([]byte, 1)
		io.ReadFull(far, one) // the question is under way
		leave()
		time.Sleep(50 * time.Millisecond) // for what that does
		Serve(t.Context(), prefixed{io.MultiReader(bytes.NewReader(one), far), far}, b)
	}()
	c := NewClient(near)
	if s, err := c.Status(ctx); err != nil || s.Mode != "locked" {
		t.Errorf("Status = %v, %v", s, err)
	}
	if err := c.Reboot(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Reboot for nobody = %v", err)
	}
	if err := c.Reboot(t.Context()); err != nil || !slices.Equal(b.did, []string{"reboot"}) {
		t.Errorf("Reboot = %v; did %q", err, b.did)
	}
}

// prefixed is a connection of which something was read.
type prefixed struct {
	all io.Reader
	net.Conn
}

func (p prefixed) Read(b []byte) (int, error) { return p.all.Read(b) }

var badNetworks = map[string]Network{
	"no mode":              {},
	"unknown mode":         {Mode: "bridge"},
	"address with dhcp":    {Mode: DHCP, Address: netip.MustParsePrefix("10.0.0.1/8")},
	"gateway with off":     {Mode: Off, Gateway: netip.MustParseAddr("10.0.0.1")},
	"no address":           {Mode: Static},
	"multicast":            {Mode: Static, Address: netip.MustParsePrefix("224.0.0.1/8")},
	"loopback":             {Mode: Static, Address: netip.MustParsePrefix("127.0.0.1/8")},
	"gateway elsewhere":    {Mode: Static, Address: netip.MustParsePrefix("10.0.0.1/24"), Gateway: netip.MustParseAddr("10.0.1.1")},
	"gateway itself":       {Mode: Static, Address: netip.MustParsePrefix("10.0.0.1/24"), Gateway: netip.MustParseAddr("10.0.0.1")},
	"gateway other family": {Mode: Static, Address: netip.MustParsePrefix("10.0.0.1/24"), Gateway: netip.MustParseAddr("fe80::1")},
	"gap in name servers":  {Mode: Static, Address: netip.MustParsePrefix("10.0.0.1/24"), DNS: [MaxDNS]netip.Addr{1: netip.MustParseAddr("10.0.0.2")}},
	"route with off":       {Mode: Off, Routes: [MaxRoutes]Route{route("10.8.0.0/16", "10.0.0.9")}},
	"host name with off":   {Mode: Off, Host: "box1"},
	"no host name":         {Mode: DHCP, Host: "box1-"},
	"gap in routes":        {Mode: DHCP, Routes: [MaxRoutes]Route{1: route("10.8.0.0/16", "10.0.0.9")}},
	"two routes to one":    {Mode: DHCP, Routes: [MaxRoutes]Route{route("10.8.0.0/16", "10.0.0.9"), route("10.8.0.0/16", "10.0.0.8")}},
	"half a route":         {Mode: DHCP, Routes: [MaxRoutes]Route{{To: netip.MustParsePrefix("10.8.0.0/16")}}},
	"nowhere":              {Mode: DHCP, Routes: [MaxRoutes]Route{{Via: netip.MustParseAddr("10.0.0.9")}}},
}

func TestBadNetworksAreRefused(t *testing.T) {
	for name, n := range badNetworks {
		if err := n.Check(); err == nil {
			t.Errorf("%s: %+v passed", name, n)
		}
	}
}

func TestGarbageEndsTheConnection(t *testing.T) {
	for name, line := range map[string]string{
		"not JSON":         "reboot\n",
		"unknown verb":     `{"do":"shell"}` + "\n",
		"repeated field":   `{"do":"status","do":"reboot"}` + "\n",
		"other case":       `{"Do":"reboot"}` + "\n",
		"space":            `{"do": "reboot"}` + "\n",
		"field of another": `{"do":"reboot","reason":"x"}` + "\n",
		"no reason":        `{"do":"lock"}` + "\n",
		"long":             strings.Repeat("x", MaxLine) + "\n",
		"no secret":        `{"do":"unlock"}` + "\n",
		"short secret":     `{"do":"unlock","secret":"00"}` + "\n",
		"renew somehow":    `{"do":"renew","opening":"x"}` + "\n",
		"renew by what":    `{"do":"renew","opening":"with secret"}` + "\n",
		"turn with secret": `{"do":"turn","secret":"` + strings.Repeat("00", 32) + `"}` + "\n",
		"disk, and what":   `{"do":"disk"}` + "\n",
		"disk by a path":   `{"do":"disk","disk":{"do":"read","disk":"../sdb","mark":"` + strings.Repeat("0", 64) + `"}}` + "\n",
		"a partition":      `{"do":"disk","disk":{"do":"read","disk":"sdb1","mark":"` + strings.Repeat("0", 64) + `"}}` + "\n",
		"disk unmarked":    `{"do":"disk","disk":{"do":"write","disk":"sdb","box":"box1","made":1}}` + "\n",
		"no box's backup":  `{"do":"disk","disk":{"do":"write","disk":"sdb","mark":"` + strings.Repeat("0", 64) + `","box":"../x","made":1}}` + "\n",
		"no backup's part": `{"do":"disk","disk":{"do":"part","text":"U\u0000"}}` + "\n",
		"a part far off":   `{"do":"disk","disk":{"do":"part","at":67108864,"text":"x"}}` + "\n",
		"a long part":      `{"do":"disk","disk":{"do":"part","text":"` + strings.Repeat("x", maxPart+1) + `"}}` + "\n",
		"list with a disk": `{"do":"disk","disk":{"do":"list","disk":"sdb"}}` + "\n",
		"disk's reboot":    `{"do":"reboot","disk":{"do":"list"}}` + "\n",
		"time before 1970": `{"do":"clock","unix":-5}` + "\n",
		"program before":   `{"do":"program","at":-1}` + "\n",
		"program far off":  `{"do":"program","at":4096}` + "\n",
		"program's reboot": `{"do":"reboot","at":1}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			b, ended := &box{}, make(chan error, 1)
			go func() { ended <- Serve(t.Context(), far, b) }()
			go io.WriteString(near, line)
			if err := <-ended; err == nil || len(b.did) != 0 {
				t.Errorf("Serve = %v, did %q", err, b.did)
			}
		})
	}
}

// FuzzRequest asserts that what is accepted has one encoding and passes its check only with the fields of its verb.
func FuzzRequest(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzRequest/*")
	if err != nil || len(seeds) < 4 {
		f.Fatalf("seeds: %d, %v", len(seeds), err)
	}
	f.Add([]byte(`{"do":"status"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var r request
		if decode(line, &r) != nil || r.check() != nil {
			return
		}
		var out strings.Builder
		if err := send(&out, r); err != nil || out.String() != string(line)+"\n" {
			t.Errorf("send = %q, %v; want %q", out.String(), err, line)
		}
	})
}
