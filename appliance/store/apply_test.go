package store

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/keyrelease/krabox/boot/machine"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
)

func sprint(format string, a ...any) string { return fmt.Sprintf(format, a...) }

func read(t *testing.T, f *file, bucket string, into map[string][]byte) {
	t.Helper()
	err := f.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(bucket)).ForEach(func(k, v []byte) error {
			into[string(k)] = bytes.Clone(v)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, f *file, bucket, key string, value []byte) {
	t.Helper()
	err := f.db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucket)).Put([]byte(key), value) })
	if err != nil {
		t.Fatal(err)
	}
}

// testCodes makes up a second factor.
func testCodes(secret, recovery int) Codes {
	c := Codes{Secret: NewSecret(bytes.Repeat([]byte{7}, secret))}
	for i := range recovery {
		c.Recovery = append(c.Recovery, sprint("%064x", i))
	}
	return c
}

// TestCodesCountOnce: a code, and all before it, and a recovery code, count once, also in what is read back from the record.
func TestCodesCountOnce(t *testing.T) {
	s, err := Apply(newState(), OfficerAdd{Name: "alice", Hash: "$argon2id$x", Duty: Chief}, OfficerCodes{"alice", testCodes(20, 2)}, OfficerCodeUsed{Name: "alice", Step: 7})
	if err != nil {
		t.Fatal(err)
	}
	first := s
	used := testCodes(20, 2).Recovery[0]
	if s, err = Apply(s, OfficerCodeUsed{Name: "alice", Recovery: used}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Change{OfficerCodeUsed{Name: "alice", Step: 7}, OfficerCodeUsed{Name: "alice", Step: 6}, OfficerCodeUsed{Name: "alice", Recovery: used}, OfficerCodeUsed{Name: "alice"},
		OfficerCodeUsed{Name: "alice", Step: 9, Recovery: testCodes(20, 2).Recovery[1]}, OfficerCodes{"alice", testCodes(20, 2)}} {
		if _, err := Apply(s, c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	if o, _ := first.Officer("alice"); len(o.Codes.Recovery) != 2 || o.Codes.Last != 7 {
		t.Errorf("a state changed: %+v", o.Codes)
	}
	if s, err = Apply(s, OfficerCodeUsed{Name: "alice", Step: 8}, OfficerFailures{Name: "alice", Failures: 1}, OfficerPassphrase{"alice", "$argon2id$y"}, OfficerAdd{Name: "bob", Hash: "$argon2id$x", Duty: Chief},
		OfficerDuty{Name: "alice", Duty: Auditor}); err != nil {
		t.Fatal(err)
	}
	if o, _ := s.Officer("alice"); o.Codes == nil || o.Codes.Last != 8 || len(o.Codes.Recovery) != 1 || !s.AsksCodes() {
		t.Errorf("alice is %+v", o)
	}
	if s, err = Apply(s, OfficerCodesRemove{"alice"}); err != nil || s.AsksCodes() {
		t.Errorf("removed: %v", err)
	}
}

// testKeyNumbered makes up the public part of a key; the store never uses it as one.
func testKeyNumbered(n int) hsm.Key {
	spki := fmt.Appendf(nil, "subject public key info %d", n)
	return hsm.Key{ID: block.KeyIDOfSPKI(spki), SPKI: spki, Suite: hsm.P256, Custody: hsm.Replicable, Origin: hsm.Generated, Mode: hsm.Resident}
}

// authority makes a CA certificate and a leaf under it.
func authority(t testing.TB) (ca, leaf []byte, id block.KeyID, key hsm.Key) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	if ca, err = x509.CreateCertificate(rand.Reader, c, c, k.Public(), k); err != nil {
		t.Fatal(err)
	}
	l := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "legal-team"}, NotAfter: time.Now().Add(time.Hour)}
	if leaf, err = x509.CreateCertificate(rand.Reader, l, c, k.Public(), k); err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	id = block.KeyIDOfSPKI(spki)
	return ca, leaf, id, hsm.Key{ID: id, SPKI: spki, Suite: hsm.P256, Custody: hsm.Bound, Origin: hsm.Generated, Mode: hsm.Resident}
}

// TestInvalidChanges: each is refused with a text that says why, and the state is as before.
func TestInvalidChanges(t *testing.T) {
	ca, leaf, id, key := authority(t)
	one, two := testKeyNumbered(1), testKeyNumbered(2)
	base, err := Apply(newState(), OfficerAdd{Name: "alice", Hash: "$argon2id$x", Duty: Chief}, AccessAdd{"legal-team", "Legal team"},
		RuleAdd{"office", "true"}, RuleAdd{"counsel", `groups.has("legal")`}, GroupAdd{"legal", "corp:CN=alice"},
		AccessLists{"legal-team", []string{"office && counsel"}}, AnchorAdd{"corp", kra.WholeName, ca},
		KeyAdd{Key: key, Access: "legal-team", Chain: [][]byte{leaf, ca}}, KeyAdd{Key: one, Access: "legal-team"},
		KeyAdd{Key: two}, KeyMark{two.ID, Compromised}, BoxSet{label.Box{Name: "box1"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change Change
		want   string
	}{
		{OfficerAdd{Name: "alice", Hash: "$argon2id$x", Duty: Chief}, "exists already"},
		{OfficerAdd{Name: "Alice", Hash: "$argon2id$x", Duty: Chief}, "want a-z"},
		{OfficerAdd{Name: "bob", Hash: "secret", Duty: Chief}, "not hashed"},
		{OfficerAdd{Name: "bob", Hash: "$argon2id$x"}, "is no duty"},
		{OfficerAdd{Name: "bob", Hash: "$argon2id$x", Duty: "owner"}, "is no duty"},
		{OfficerAdd{Name: "bob", Hash: "$argon2id$x", Duty: Chief, Group: "legal"}, "only a maintainer"},
		{OfficerDuty{Name: "alice", Duty: Auditor}, "the last one"},
		{OfficerDuty{Name: "alice", Duty: Chief}, "already"},
		{OfficerDuty{Name: "nobody", Duty: Chief}, "no officer"},
		{ControlSet{}, "so already"},
		{RequestEnd{Number: 1}, "no request 1"},
		{RequestAdd{Request{By: "nobody", Line: "status", Told: []string{"x"}, Until: time.Unix(9, 0)}}, "no officer"},
		{RequestAdd{Request{By: "alice", Told: []string{"x"}, Until: time.Unix(9, 0)}}, "empty"},
		{RequestAdd{Request{By: "alice", Line: "status", Told: []string{"x"}, Hash: "secret", Until: time.Unix(9, 0)}}, "malformed"},
		{RequestAdd{Request{By: "alice", Line: "status", Told: []string{"x"}, Secrets: make([]Secret, 1), Until: time.Unix(9, 0)}}, "malformed"},
		{RequestAdd{Request{By: "alice", Line: "status", Told: []string{"x"}, Secrets: []Secret{NewSecret(make([]byte, maxSecret+1))}, Until: time.Unix(9, 0)}}, "too long"},
		{RequestAdd{Request{By: "alice", Line: "status", Told: []string{"x"}, Secrets: slices.Repeat([]Secret{NewSecret([]byte("s"))}, maxSecrets+1), Until: time.Unix(9, 0)}}, "too long"},
		{RequestAdd{Request{By: "alice", Line: "status", Told: []string{"x"}}}, "no time"},
		{RequestAdd{Request{Number: 4, By: "alice", Line: "status", Told: []string{"x"}, Until: time.Unix(9, 0)}}, "has a number"},
		{OfficerRemove{"alice"}, "last one"},
		{OfficerRemove{"bob"}, `no officer "bob"`},
		{OfficerPassphrase{"bob", "$argon2id$x"}, `no officer "bob"`},
		{OfficerPassphrase{"alice", ""}, "not hashed"},
		{OfficerFailures{Name: "alice", Failures: -1}, "-1 failures"},
		{OfficerCodes{"bob", testCodes(20, 1)}, `no officer "bob"`},
		{OfficerCodes{"alice", testCodes(15, 1)}, "a secret of 15 bytes"},
		{OfficerCodes{"alice", testCodes(65, 1)}, "a secret of 65 bytes"},
		{OfficerCodes{"alice", Codes{}}, "a secret of 0 bytes"},
		{OfficerCodes{"alice", testCodes(20, maxRecovery+1)}, "21 recovery codes"},
		{OfficerCodes{"alice", Codes{Secret: testCodes(20, 0).Secret, Recovery: []string{"ABCD"}}}, "not hashed"},
		{OfficerCodes{"alice", Codes{Secret: testCodes(20, 0).Secret, Recovery: slices.Repeat(testCodes(20, 1).Recovery, 2)}}, "there twice"},
		{OfficerCodeUsed{Name: "alice", Step: 1}, "has no second factor"},
		{OfficerCodesRemove{"alice"}, "has no second factor"},
		{OfficerCodesRemove{"bob"}, `no officer "bob"`},
		{RuleAdd{"office", "false"}, "exists already"},
		{RuleAdd{"Office", "false"}, "want a-z"},
		{RuleAdd{"empty", ""}, "bytes of text"},
		{RuleAdd{"bell", "true\a"}, "bytes of text"},
		{RuleSet{"home", "true"}, `no rule "home"`},
		{RuleRemove{"office"}, `rule "office" is in use by legal-team`},
		{RuleRemove{"home"}, `no rule "home"`},
		{AccessAdd{"legal-team", ""}, "exists already"},
		{AccessAdd{"Legal Team", ""}, "want a-z"},
		{AccessAdd{"x", "two\nlines"}, "one line"},
		{AccessTitle{"nobody", "x"}, `no access identifier "nobody"`},
		{AccessLists{"nobody", nil}, `no access identifier "nobody"`},
		{AccessLists{"legal-team", make([]string, MaxLists+1)}, "too many"},
		{AccessLists{"legal-team", []string{""}}, "bytes of text"},
		{AccessKeys{"legal-team", []block.KeyID{{1}}}, "no key 0100"},
		{AccessKeys{"legal-team", []block.KeyID{one.ID, one.ID}}, "named twice"},
		{AccessKeys{"legal-team", []block.KeyID{two.ID}}, "compromised and cannot be current"},
		{AccessRemove{"nobody"}, `no access identifier "nobody"`},
		{GroupAdd{"legal", "corp:CN=alice"}, "is in group"},
		{GroupAdd{"legal", "alice"}, "want ALIAS:NAME"},
		{GroupAdd{"legal", ""}, "exists already"},
		{GroupAdd{"Legal", "corp:CN=alice"}, "want a-z"},
		{GroupRemove{"legal", "corp:CN=bob"}, "is not in group"},
		{GroupRemove{"legal", ""}, `in use by rule counsel`},
		{GroupRemove{"nobody", ""}, `no group "nobody"`},
		{AnchorAdd{"corp", kra.WholeName, ca}, "is taken"},
		{AnchorAdd{"other", kra.WholeName, ca}, `trusted already, as "corp"`},
		{AnchorAdd{"other", 0, ca}, "not set"},
		{AnchorAdd{"other", kra.WholeName, leaf}, "not an authority's"},
		{AnchorAdd{"other", kra.WholeName, []byte("x")}, "not a certificate"},
		{AnchorRemove{"other"}, `no authority "other"`},
		{KeyAdd{Key: one}, "exists already"},
		{KeyAdd{Key: hsm.Key{SPKI: []byte("x")}}, "do not belong together"},
		{KeyAdd{Key: hsm.Key{ID: block.KeyIDOfSPKI(nil)}}, "not set"},
		{KeyAdd{Key: testKeyNumbered(3), Access: "nobody"}, `no access identifier "nobody"`},
		{KeyAdd{Key: testKeyNumbered(3), Access: "legal-team", Chain: [][]byte{leaf}}, "not for key"},
		{KeyAdd{Key: testKeyNumbered(3), Files: map[string][]byte{"../x": {}}}, "plain relative path"},
		{KeyMark{one.ID, Compromised}, "current key of legal-team"},
		{KeyMark{two.ID, Active}, "stays so"},
		{KeyMark{two.ID, "lost"}, "unknown state"},
		{KeyMark{block.KeyID{1}, Active}, "no key"},
		{KeyRemove{ID: one.ID}, "current key of legal-team"},
		{KeyTag{id}, "already"},
		{KeyTag{one.ID}, "stock age cannot"},
		{KeyTag{block.KeyID{1}}, "no key"},
		{KeyUntag{one.ID}, "does not encrypt"},
		{CertificateSet{"legal-team", two.ID, [][]byte{leaf}}, "has no key"},
		{CertificateSet{"legal-team", one.ID, [][]byte{leaf}}, "not for key"},
		{CertificateSet{"legal-team", id, nil}, "0 certificates"},
		{CertificateSet{"nobody", id, [][]byte{leaf}}, `no access identifier "nobody"`},
		{TokenSet{map[string][]byte{"/etc/passwd": {}}}, "plain relative path"},
		{TokenSet{map[string][]byte{"x": make([]byte, maxTokenFile+1)}}, "longer than"},
		{PINSet{User: NewSecret(make([]byte, 300))}, "longer than"},
		{NetworkSet{machine.Network{Mode: "wifi"}}, "network"},
		{NetworkSet{machine.Network{Mode: machine.Static}}, "network"},
		{ClockSet{time.Now(), "sundial", 0}, "unknown source"},
		{ClockSet{time.Time{}, Manual, 0}, "year 1"},
		{ClockSet{time.Now(), Manual, 1}, "steps of 1ns"},
		{ClockSet{time.Now(), NTS, -1}, "steps of -1ns"},
		{BoxSet{label.Box{Name: "box2"}}, "the name stays"},
		{BoxSet{label.Box{}}, "want a-z"},
		{ReceiptKeyAdd{0, nil}, "0 certificates"},
		{ReceiptKeyAdd{-1, [][]byte{leaf}}, "order of the log"},
	} {
		name := fmt.Sprintf("%s %.60q", c.change.kind(), c.want)
		got, err := Apply(base, c.change)
		var i *Invalid
		if !errors.As(err, &i) || !strings.Contains(err.Error(), c.want) || got != nil {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if again := rebuild(t, base); again != base.tree.root(mark{}) {
		t.Error("refused changes left traces in the state")
	}
}

// rebuild hashes all records of a state anew.
func rebuild(t testing.TB, s *State) [32]byte {
	t.Helper()
	var all []edit
	for _, b := range s.buckets() {
		for name := range s.names(b) {
			value, there, err := b.encode(name)
			if err != nil || !there {
				t.Fatal(name, there, err)
			}
			all = append(all, edit{b.bucketName(), name, value, true})
		}
	}
	return newTree().update(all).root(mark{})
}

// names returns the keys of a bucket, through the tree.
func (s *State) names(b bucket) map[string]bool {
	out := map[string]bool{}
	for _, sh := range s.tree.shard {
		for name := range sh.leaves {
			if bucket, key, _ := strings.Cut(name, "\x00"); bucket == b.bucketName() {
				out[key] = true
			}
		}
	}
	return out
}

// randomChanges makes valid and invalid changes over few names, so that they meet.
func randomChanges(r *mrand.Rand, n int) []Change {
	name := func() string { return []string{"a", "b", "c", "d"}[r.IntN(4)] }
	access := func() kra.AccessID { return kra.AccessID(name()) }
	key := func() hsm.Key { return testKeyNumbered(r.IntN(6)) }
	var out []Change
	for range n {
		out = append(out, []Change{
			OfficerAdd{Name: name(), Hash: "$argon2id$x", Duty: Chief}, OfficerRemove{name()}, OfficerFailures{Name: name(), Failures: r.IntN(9)},
			RuleAdd{name(), "true"}, RuleSet{name(), "false"}, RuleRemove{name()},
			AccessAdd{access(), "title " + name()}, AccessTitle{access(), name()}, AccessRemove{access()},
			AccessLists{access(), []string{name() + " && " + name()}}, AccessKeys{access(), []block.KeyID{key().ID, key().ID}},
			GroupAdd{name(), "corp:CN=" + name()}, GroupRemove{name(), "corp:CN=" + name()}, GroupRemove{name(), ""},
			KeyAdd{Key: key(), Access: access(), Files: map[string][]byte{name(): []byte(name()), name() + "x": nil}},
			KeyAdd{Key: key()}, KeyRemove{ID: key().ID}, KeyMark{key().ID, Deactivated}, KeyMark{key().ID, Active},
			KeyMark{key().ID, Suspended}, KeyDoom{key().ID, time.Unix(1800000000, 0)}, KeyDoom{ID: key().ID}, KeyExpire{key().ID, time.Unix(1800000000, 0)},
			AccessRotate{ID: "legal-team", Rotation: Rotation{Every: 86400, Next: time.Unix(1800000000, 0)}},
			TokenSet{map[string][]byte{name(): nil}}, PINSet{User: NewSecret([]byte(name()))},
			NetworkSet{machine.Network{Mode: machine.Static, Address: netip.MustParsePrefix("10.0.2.15/24")}},
			ClockSet{time.Unix(int64(1_800_000_000+r.IntN(9)), 0), NTS, time.Duration(r.IntN(9))},
			OfficerAdd{Name: name(), Hash: "$argon2id$x", Group: name(), Duty: Maintainer}, GroupAdd{name(), ""},
			GroupNest{name(), name()}, GroupUnnest{name(), name()}, MaintainerAdd{name(), "corp:CN=" + name()},
			MaintainerRemove{name(), "corp:CN=" + name()},
			GroupEdit{name(), []string{"corp:CN=" + name()}, nil, uint64(r.IntN(9)), "corp:CN=" + name()},
			RoleSet{name(), []Need{{Kind: GroupInformation, Name: name()}}}, RoleRemove{name()},
			AccessLogic{access(), Cedar, []string{"permit(principal, action, resource);"}}, AccessDelivery{access(), ToAnyone}, AccessPortion{access(), AnyPortion},
			LevelsSet{[]string{name()}}, SourceSet{Source{Alias: kra.Anchor(name()), May: []InformationKind{GroupInformation},
				Issuer: &TokenIssuer{Issuer: name(), Audience: "kra", Keys: []byte(`{"keys":[{"kty":"OKP"}]}`)}}},
			SourceRemove{kra.Anchor(name())},
			OfficerDuty{Name: name(), Duty: Maintainer, Group: name()}, OfficerDuty{Name: name(), Duty: Chief}, OfficerDuty{Name: name(), Duty: TeamOfficer, Team: "x"}, ControlSet{r.IntN(2) == 0, r.IntN(2) == 0},
			RequestAdd{Request{By: name(), Line: "trust remove " + name(), Pasted: []Secret{NewSecret([]byte(name()))}, Secrets: []Secret{NewSecret([]byte(name()))}, Told: []string{name()},
				Made: time.Unix(1_800_000_000, 0).UTC(), Until: time.Unix(1_800_000_009, 0).UTC()}}, RequestEnd{uint64(r.IntN(9))}, ConsoleFailures{r.IntN(9)},
			OfficerCodes{name(), testCodes(20, 3)}, OfficerCodesRemove{name()}, OfficerCodeUsed{Name: name(), Step: uint64(r.IntN(9))},
			OfficerCodeUsed{Name: name(), Recovery: testCodes(20, 3).Recovery[r.IntN(3)]},
			TeamGive{"x", ThingAccess, name()}, TeamGive{"x", ThingRule, name()}, TeamGive{"", ThingGroup, name()},
		}[r.IntN(57)])
	}
	return out
}

// TestApplyIsDeterministic: whichever way the same changes come, one by one, at once, or through their JSON, the root is
// the same, equals that of all records hashed anew, and the state they started from has not moved.
func TestApplyIsDeterministic(t *testing.T) {
	for seed := range uint64(40) {
		changes := randomChanges(mrand.New(mrand.NewPCG(seed, 0)), 120)
		start, err := Apply(newState(), OfficerAdd{Name: "root", Hash: "$argon2id$x", Duty: Chief})
		if err != nil {
			t.Fatal(err)
		}
		startRoot := start.tree.root(mark{})
		step := start
		var valid []Change
		for _, c := range changes {
			next, err := Apply(step, c)
			var i *Invalid
			if err != nil && !errors.As(err, &i) {
				t.Fatalf("seed %d: %T: %v", seed, c, err)
			}
			coded, err2 := EncodeChange(c)
			if err2 != nil {
				t.Fatal(err2)
			}
			again, err2 := ParseChange(coded)
			if err2 != nil {
				t.Fatalf("%s: %v", coded, err2)
			}
			other, err2 := Apply(step, again)
			if fmt.Sprint(err) != fmt.Sprint(err2) {
				t.Fatalf("seed %d: %T: %v, through JSON %v", seed, c, err, err2)
			}
			if err != nil {
				continue
			}
			if other.tree.root(mark{}) != next.tree.root(mark{}) {
				t.Fatalf("seed %d: %T comes out otherwise through JSON", seed, c)
			}
			valid, step = append(valid, c), next
		}
		if len(valid) < 10 {
			t.Fatalf("seed %d: %d of %d changes are valid", seed, len(valid), len(changes))
		}
		atOnce, err := Apply(start, valid...)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := step.tree.root(mark{}), atOnce.tree.root(mark{}); a != b {
			t.Fatalf("seed %d: one by one %x, at once %x", seed, a, b)
		}
		if start.tree.root(mark{}) != startRoot || start.officers.size() != 1 {
			t.Fatalf("seed %d: the first state has moved", seed)
		}
	}
}

// TestRandomLife drives a store through random commits and restarts; each restart finds what was acknowledged.
func TestRandomLife(t *testing.T) {
	r := mrand.New(mrand.NewPCG(7, 7))
	b := newBench(t)
	var want [32]byte
	for range 10 {
		s := b.boot(t)
		if want != [32]byte{} && s.State().tree.root(mark{}) != want {
			t.Fatal("a restart found other records")
		}
		for range 15 {
			_, err := s.Commit(t.Context(), randomChanges(r, 1+r.IntN(3))...)
			var i *Invalid
			if err != nil && !errors.As(err, &i) {
				t.Fatal(err)
			}
		}
		want = s.State().tree.root(mark{})
		closeStore(t, s)
	}
}

func FuzzParseChange(f *testing.F) {
	seeds, err := os.ReadDir("testdata/fuzz/FuzzParseChange")
	if err != nil || len(seeds) == 0 {
		f.Fatal("no seeds: ", err)
	}
	start, err := Apply(newState(), OfficerAdd{Name: "root", Hash: "$argon2id$x", Duty: Chief}, AccessAdd{"a", ""})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseChange(data)
		if err != nil {
			return
		}
		again, err := EncodeChange(c)
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%q is encoded again as %q, %v", data, again, err)
		}
		next, err := Apply(start, c)
		var i *Invalid
		if err != nil && !errors.As(err, &i) || err == nil && next == nil {
			t.Errorf("Apply: %v", err)
		}
	})
}

// BenchmarkBulk measures a box with 10,000 keys and 10,000 access identifiers: all made in one commit, one more change,
// and the start.
func BenchmarkBulk(b *testing.B) {
	const n = 10_000
	bench := newBench(b)
	s := bench.boot(b)
	changes := make([]Change, 0, 2*n)
	for i := range n {
		id := kra.AccessID(fmt.Sprintf("access-%d", i))
		h := sha256.Sum256([]byte(id))
		changes = append(changes, AccessAdd{id, "Title"}, KeyAdd{Key: testKeyNumbered(i), Access: id,
			Files: map[string][]byte{fmt.Sprintf("%x.object", h): bytes.Repeat(h[:], 40)}})
	}
	start := time.Now()
	commit(b, s, changes...)
	b.Logf("%d changes in one commit: %v", len(changes), time.Since(start))
	b.Run("commit", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			commit(b, s, AccessTitle{"access-77", fmt.Sprint("title ", i)})
		}
	})
	closeStore(b, s)
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			a, err := Open(bench.path, testKey, bench.nv.record)
			if err != nil {
				b.Fatal(err)
			}
			a.Close()
		}
	})
}
