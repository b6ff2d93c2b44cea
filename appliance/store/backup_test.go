package store

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/boot/machine"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

// lostBox is a state with a bound key that is current, a replicable one behind it, and one that was destroyed.
func lostBox(t *testing.T) (s *State, stays, goes, destroyed hsm.Key) {
	t.Helper()
	stays, goes, destroyed = testKeyNumbered(1), testKeyNumbered(2), testKeyNumbered(3)
	stays.Custody = hsm.Bound
	s, err := Apply(newState(), BoxSet{Box: label.Box{Name: "box1", DNS: []string{"box1.test"}}}, OfficerAdd{Name: "olga", Hash: "$argon2id$x", Duty: Chief}, OfficerAdd{Name: "otto", Hash: "$argon2id$x", Duty: Chief},
		OfficerFailures{Name: "otto", Failures: 3}, OfficerCodes{"otto", testCodes(20, 2)}, OfficerCodeUsed{Name: "otto", Step: 9}, RuleAdd{Name: "office", Expr: "true"}, AccessAdd{ID: "legal", Title: "Legal"}, AccessLists{ID: "legal", Lists: []string{"office"}},
		KeyAdd{Key: goes, Access: "legal"}, KeyAdd{Key: destroyed}, KeyAdd{Key: stays, Access: "legal"}, KeyRemove{ID: destroyed.ID, At: time.Unix(1790000000, 0)})
	if err != nil {
		t.Fatal(err)
	}
	return s, stays, goes, destroyed
}

func TestRestore(t *testing.T) {
	old, stays, goes, destroyed := lostBox(t)
	records, err := old.Records([]block.KeyID{goes.ID})
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(records, func(r Record) bool {
		return strings.Contains(string(r.Value), "box1.test") || strings.Contains(r.Key, stays.ID.String())
	}); i >= 0 {
		t.Errorf("a backup has %s %s", records[i].Bucket, records[i].Key)
	}
	mine := "$argon2id$mine"
	here := testKeyNumbered(4)
	fresh, err := Apply(newState(), BoxSet{Box: label.Box{Name: "box2", DNS: []string{"box2.test"}}}, OfficerAdd{Name: "olga", Hash: mine, Duty: Chief}, KeyAdd{Key: here}, KeyRemove{ID: here.ID})
	if err != nil {
		t.Fatal(err)
	}
	change := Restore{From: "box1", Records: records, Keys: []hsm.Key{goes}, Files: map[string][]byte{"a": []byte("b")}}
	s, err := Apply(fresh, change)
	if err != nil {
		t.Fatal(err)
	}
	k, ok := s.Key(goes.ID)
	if !ok || k.From == nil || k.From.Box != "box1" || k.State != Active || len(s.Keys()) != 1 {
		t.Errorf("keys are %+v", s.Keys())
	}
	a, _ := s.Access("legal")
	if a.Title != "Legal" || !slices.Equal(a.Lists, []string{"office"}) || !slices.Equal(a.Keys, []block.KeyID{goes.ID}) {
		t.Errorf("access identifier %+v", a)
	}
	if o, ok := s.Officer("otto"); !ok || o.Failures != 0 || len(s.Officers()) != 2 || s.Box().Name != "box2" || !s.HasFiles() {
		t.Errorf("officers %+v of box %s", s.Officers(), s.Box().Name)
	}
	if o, _ := s.Officer("otto"); o.Codes == nil || o.Codes.Last != 9 || len(o.Codes.Recovery) != 2 || o.Codes.Secret.size() != 20 {
		t.Errorf("otto's second factor is %+v", o.Codes)
	}
	if !s.WasDestroyed(destroyed.ID) || !s.WasDestroyed(here.ID) {
		t.Error("of the keys that were destroyed there, and here, some are not on the list")
	}
	if _, err := Apply(s, CopyAdd{Key: destroyed, State: Active, From: Copy{Box: "box1", Origin: "generated"}}); err == nil {
		t.Error("a destroyed key comes back")
	}
	b, err := EncodeChange(change)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseChange(b); err != nil {
		t.Error(err)
	}
}

// TestRestoreSettings: dual control, standby, sources of time and syslog come back where the new box has set none; where it has, its own
// stand, and of two limits the stricter. The network does not: it is told.
func TestRestoreSettings(t *testing.T) {
	at := func(host string) Syslog { return Syslog{Host: host, Port: 6514, CA: [][]byte{{1}}, From: 7} }
	set := func(off, rules bool, minutes int, source, syslog, address string) *State {
		t.Helper()
		s := newState().draft()
		s.control.put(only, Control{Off: off, Rules: rules})
		s.standby.put(only, Standby{minutes})
		s.times.put(source, TimeSource{Address: source, CA: []byte(syslog)})
		s.syslog.put(only, at(syslog))
		s.network.put(only, machine.Network{Mode: machine.Static, Address: netip.MustParsePrefix(address), Gateway: netip.MustParseAddr("192.0.2.1")})
		out, err := Apply(s)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	old := set(true, true, 10, "old.example:4460", "old.example", "192.0.2.7/24")
	records, err := old.Records(nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := NetworkIn(records); !ok || n.Address.String() != "192.0.2.7/24" {
		t.Errorf("the network is told as %+v, %v", n, ok)
	}
	if _, ok := NetworkIn(nil); ok {
		t.Error("a network out of nothing")
	}
	change := Restore{From: "box1", Records: records}
	fresh, err := Apply(newState(), change)
	if err != nil {
		t.Fatal(err)
	}
	if c := fresh.Control(); !c.Off || !c.Rules || fresh.Standby().Minutes != 10 || len(fresh.TimeSources()) != 1 || fresh.TimeSources()[0].Address != "old.example:4460" {
		t.Errorf("restored %+v, standby %+v, times %+v", c, fresh.Standby(), fresh.TimeSources())
	}
	if to := fresh.Syslog(); to.Host != "old.example" || to.From != 0 {
		t.Errorf("syslog %+v; want the old server, from this log's beginning", to)
	}
	if fresh.Network().Mode != "" {
		t.Errorf("the network was restored: %+v", fresh.Network())
	}
	own, err := Apply(set(false, false, 5, "own.example:4460", "own.example", "192.0.2.9/24"), change)
	if err != nil {
		t.Fatal(err)
	}
	if c := own.Control(); c.Off || !c.Rules || own.Standby().Minutes != 5 {
		t.Errorf("of two limits the looser: %+v, %+v", c, own.Standby())
	}
	if times := own.TimeSources(); len(times) != 1 || times[0].Address != "own.example:4460" || own.Syslog().Host != "own.example" || own.Syslog().From != 7 || own.Network().Address.String() != "192.0.2.9/24" {
		t.Errorf("what was set here is another: %+v, %+v, %+v", times, own.Syslog(), own.Network())
	}
	twin, err := Apply(set(false, false, 60, "old.example:4460", "own.example", "192.0.2.9/24"), change)
	if err != nil {
		t.Fatal(err)
	}
	if times := twin.TimeSources(); len(times) != 1 || string(times[0].CA) != "own.example" || twin.Standby().Minutes != 10 {
		t.Errorf("a source of the same address has the authority %q; standby %+v", times[0].CA, twin.Standby())
	}
}

// TestRestoreRefuses: nothing is restored beside anything, and no key that is another or was destroyed.
func TestRestoreRefuses(t *testing.T) {
	old, stays, goes, _ := lostBox(t)
	records, err := old.Records([]block.KeyID{goes.ID})
	if err != nil {
		t.Fatal(err)
	}
	good := Restore{From: "box1", Records: records, Keys: []hsm.Key{goes}}
	if _, err := Apply(newState(), good); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string][]Change{
		"has rules":       {RuleAdd{Name: "r", Expr: "true"}},
		"has keys":        {KeyAdd{Key: testKeyNumbered(9)}},
		"was destroyed":   {KeyAdd{Key: goes}, KeyRemove{ID: goes.ID}},
		"has access iden": {AccessAdd{ID: "a"}},
	} {
		if _, err := Apply(newState(), append(c, good)...); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bound := goes
	bound.Custody = hsm.Bound
	for name, c := range map[string]Restore{
		"of no box":         {Records: records, Keys: []hsm.Key{goes}},
		"is not what":       {From: "box1", Records: records, Keys: []hsm.Key{bound}},
		"does not name":     {From: "box1", Records: records, Keys: []hsm.Key{goes, stays}},
		"does not know":     {From: "box1", Records: append(slices.Clone(records), Record{Bucket: "pin"}), Keys: []hsm.Key{goes}},
		"of the backup: de": {From: "box1", Records: append(slices.Clone(records), Record{Bucket: "rule", Key: "x", Value: []byte(`{"other":1}`)}), Keys: []hsm.Key{goes}},
	} {
		if _, err := Apply(newState(), c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBackupKey: it has the sizes of its kind, and the newest takes the place of the one before.
func TestBackupKey(t *testing.T) {
	good := BackupKey{Public: make([]byte, hsm.TransportSize), Letter: make([]byte, hsm.LetterSize), Threshold: 2, Shares: make([]label.Digest, 3), Nonce: label.Digest{1}, Number: 3, Made: time.Unix(1790000000, 0)}
	if _, err := Apply(newState(), BackupMade{At: time.Now()}); err == nil {
		t.Error("a backup without a key")
	}
	s, err := Apply(newState(), BackupKeySet{Key: good}, BackupMade{At: time.Unix(1790000001, 0)})
	if k, ok := s.BackupKey(); err != nil || !ok || k.Last.Unix() != 1790000001 || k.Threshold != 2 {
		t.Errorf("%+v, %v", k, err)
	}
	for why, spoil := range map[string]func(*BackupKey){"length": func(k *BackupKey) { k.Public = nil }, "another length": func(k *BackupKey) { k.Letter = nil },
		"no nonce": func(k *BackupKey) { k.Nonce = label.Digest{} }, "number 2 of the domain": func(k *BackupKey) { k.Number = 2 },
		"number 3 of the domain": func(k *BackupKey) { k.Public = append([]byte{1}, k.Public[1:]...) }, "4 of 3": func(k *BackupKey) { k.Threshold = 4 }, "0 of 3": func(k *BackupKey) { k.Threshold = 0 }, "shares": func(k *BackupKey) { k.Shares = nil }} {
		k := good
		spoil(&k)
		if _, err := Apply(s, BackupKeySet{Key: k}); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
	asked := good
	if _, err := Apply(s, BackupKeyAsk{Key: asked}); err == nil {
		t.Error("one that has a transfer key waits for it")
	}
	asked.Letter, asked.Number, asked.Public = nil, 0, append([]byte{1}, good.Public[1:]...)
	if s, err = Apply(s, BackupKeyAsk{Key: asked}); err != nil {
		t.Fatal(err)
	}
	if k, _ := s.BackupKey(); k.ID() != good.ID() {
		t.Error("one that was asked for counts before it is approved")
	}
	good.Number, good.Public = 4, asked.Public
	if s, err = Apply(s, BackupKeySet{Key: good}); err != nil {
		t.Fatal(err)
	}
	if _, waits := s.AskedBackupKey(); waits {
		t.Error("what was approved waits still")
	}
}
