package tpm

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"
	"github.com/google/go-eventlog/testdata"
	pb "github.com/google/go-tpm-tools/proto/attest"
	tpmpb "github.com/google/go-tpm-tools/proto/tpm"
	tpmserver "github.com/google/go-tpm-tools/server"
	"github.com/google/go-tpm/tpm2"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/tpm/wire"
)

// Logs of real machines.
var realLogs = map[string][]byte{
	"rhel 8":                   testdata.Rhel8EventLog,
	"ubuntu 18.04":             testdata.Ubuntu1804AmdSevEventLog,
	"ubuntu 21.04, no dbx":     testdata.Ubuntu2104NoDbxEventLog,
	"ubuntu 21.04, no sb":      testdata.Ubuntu2104NoSecureBootEventLog,
	"ubuntu 24.04":             testdata.Ubuntu2404AmdSevSnpEventLog,
	"arch linux workstation":   testdata.ArchLinuxWorkstationEventLog,
	"container-optimised, 121": testdata.Cos121AmdSevEventLog,
	"bare metal host":          testdata.GdcHost,
}

func registers(v label.PCRs) (mrs []register.MR) {
	for i, d := range v {
		mrs = append(mrs, register.PCR{Index: i, Digest: d[:], DigestAlg: crypto.SHA256})
	}
	return mrs
}

// What our replay makes of real logs is what go-eventlog makes of them.
func TestReplayAgreesWithSecondOpinion(t *testing.T) {
	agreed := 0
	for name, log := range realLogs {
		v, err := Replay(log)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := tcg.ParseAndReplay(log, registers(v), tcg.ParseOpts{AllowPadding: true}); err != nil {
			t.Errorf("%s: second opinion: %v", name, err)
			continue
		}
		agreed++
		for i, d := range v {
			d[0] ^= 1
			if _, err := tcg.ParseAndReplay(log, registers(with(v, i, d)), tcg.ParseOpts{AllowPadding: true}); err == nil {
				t.Errorf("%s: control: PCR %d changed, and the second opinion agrees", name, i)
			}
			break
		}
	}
	if agreed != len(realLogs) {
		t.Errorf("only %d logs were compared", agreed)
	}
}

func TestReplayRefuses(t *testing.T) {
	log := testdata.Ubuntu2104NoSecureBootEventLog
	for name, bad := range map[string][]byte{
		"empty":        {},
		"cut head":     log[:30],
		"cut event":    log[:len(log)-1],
		"no spec id":   append([]byte{1}, log[1:]...),
		"too long":     make([]byte, maxEventLog+1),
		"old form":     testdata.Debian10EventLog,
		"rubbish tail": append(slices.Clone(log), 1, 2, 3),
		"huge count":   append(slices.Clone(log), 0, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff),
		"huge size":    append(slices.Clone(log), 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff),
	} {
		if _, err := Replay(bad); err == nil {
			t.Errorf("%s: replayed", name)
		}
	}
}

// machine extends a TPM as the machine did that wrote a log.
func (b *bench) machine(log []byte) {
	b.t.Helper()
	l, err := tcg.ParseEventLog(log, tcg.ParseOpts{AllowPadding: true})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range l.Events(register.HashSHA256) {
		if e.UntrustedType() != tcg.NoAction {
			b.tpm.Extend(b.t, int(e.MRIndex()), [32]byte(e.ReplayedDigest()))
		}
	}
}

// measuredRequest is the request of a factory box on a machine whose firmware wrote a real log.
func measuredRequest(t *testing.T) (*bench, label.EnrolRequest) {
	t.Helper()
	log := testdata.Ubuntu1804AmdSevEventLog // no shim, which would extend the stage's register
	b := newBench(t, newAuthority(t, "example"))
	b.machine(log)
	cfg := b.config()
	cfg.EventLog = func() ([]byte, error) { return log, nil }
	a, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.Agent = a
	b.stage(label.Running)
	return b, b.request()
}

func TestVerifyRequest(t *testing.T) {
	b, r := measuredRequest(t)
	v, err := VerifyRequest(r, b.of.domain)
	if err != nil {
		t.Fatal(err)
	}
	if v.Replayed == nil || v.Replayed[4] != r.PCRs[4] || string(v.SRK[:]) != string(b.srk.name.Buffer) {
		t.Errorf("verified %+v", v)
	}
	if r.PCRs[label.StagePCR] != label.At(label.Open, label.Running) {
		t.Errorf("stage of a factory box is %s", r.PCRs[label.StagePCR])
	}
}

// Google's verifier, which shares no code with ours, believes quote and event log.
func TestQuoteSecondOpinion(t *testing.T) {
	b, r := measuredRequest(t)
	log, err := r.UnpackLog()
	if err != nil {
		t.Fatal(err)
	}
	ak, err := tpm2.Unmarshal[tpm2.TPMTPublic](r.AK)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsaKey(*ak)
	if err != nil {
		t.Fatal(err)
	}
	opinion := func(change func(a *pb.Attestation, o *tpmserver.VerifyOpts)) (*pb.MachineState, error) {
		statement := r.Statement()
		bank := &tpmpb.PCRs{Hash: tpmpb.HashAlgo_SHA256, Pcrs: map[uint32][]byte{}}
		for i, d := range r.PCRs {
			bank.Pcrs[uint32(i)] = d[:]
		}
		a := &pb.Attestation{AkPub: r.AK, EventLog: slices.Clone(log),
			Quotes: []*tpmpb.Quote{{Quote: slices.Clone(r.Quote.Attest), RawSig: slices.Clone(r.Quote.Signature), Pcrs: bank}}}
		o := tpmserver.VerifyOpts{Nonce: statement[:], TrustedAKs: []crypto.PublicKey{key}, Loader: tpmserver.UnsupportedLoader}
		change(a, &o)
		return tpmserver.VerifyAttestation(a, o)
	}
	state, err := opinion(func(*pb.Attestation, *tpmserver.VerifyOpts) {})
	if err != nil {
		t.Fatalf("second opinion: %v", err)
	}
	if state.GetSecureBoot().GetEnabled() {
		t.Error("second opinion: Secure Boot is on")
	}
	for what, change := range map[string]func(a *pb.Attestation, o *tpmserver.VerifyOpts){
		"another register": func(a *pb.Attestation, _ *tpmserver.VerifyOpts) { a.Quotes[0].Pcrs.Pcrs[4][0] ^= 1 },
		"another nonce":    func(_ *pb.Attestation, o *tpmserver.VerifyOpts) { o.Nonce[0] ^= 1 },
		"another key": func(_ *pb.Attestation, o *tpmserver.VerifyOpts) {
			o.TrustedAKs = []crypto.PublicKey{b.of.label.Public()}
		},
		"flipped quote":     func(a *pb.Attestation, _ *tpmserver.VerifyOpts) { a.Quotes[0].Quote[40] ^= 1 },
		"flipped signature": func(a *pb.Attestation, _ *tpmserver.VerifyOpts) { a.Quotes[0].RawSig[40] ^= 1 },
		"flipped event":     func(a *pb.Attestation, _ *tpmserver.VerifyOpts) { a.EventLog[digestOf(t, log, 4)] ^= 1 },
	} {
		if _, err := opinion(change); err == nil {
			t.Errorf("%s: the second opinion agrees", what)
		}
	}
}

// digestOf is where the first SHA-256 digest of a register's events is in a log.
func digestOf(t *testing.T, log []byte, pcr int) int {
	t.Helper()
	l, err := tcg.ParseEventLog(log, tcg.ParseOpts{AllowPadding: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range l.Events(register.HashSHA256) {
		if int(e.MRIndex()) == pcr && e.UntrustedType() != tcg.NoAction {
			return bytes.Index(log, e.ReplayedDigest())
		}
	}
	t.Fatalf("no event of PCR %d", pcr)
	return 0
}

// A request changed anywhere is refused, with what is wrong.
func TestVerifyRequestRefuses(t *testing.T) {
	b, whole := measuredRequest(t)
	other := newBench(t, b.of)
	other.measure(v1)
	other.open()
	other.stage(label.Running)
	foreign := other.request()
	for name, c := range map[string]struct {
		change func(*label.EnrolRequest)
		word   string
	}{
		"domain":       {func(r *label.EnrolRequest) { r.Domain[0] ^= 1 }, "the image was built for domain"},
		"software":     {func(r *label.EnrolRequest) { r.Software = "something better" }, "quote: it is not over this request"},
		"label":        {func(r *label.EnrolRequest) { r.Keys[0].Label = "other" }, `key of label "other": its attributes, policy`},
		"SRK":          {func(r *label.EnrolRequest) { r.SRK = foreign.SRK }, "its parent is not the storage root key"},
		"AK":           {func(r *label.EnrolRequest) { r.AK = foreign.AK }, "not signed by the attestation key"},
		"label key":    {func(r *label.EnrolRequest) { r.Keys[0].Public = foreign.Keys[0].Public }, "the attestation is about another key"},
		"second key":   {func(r *label.EnrolRequest) { r.Keys[1].Public = foreign.Keys[1].Public }, `creation of the key of label "root": the attestation is about another key`},
		"key twice":    {func(r *label.EnrolRequest) { r.Keys[1].Public = r.Keys[0].Public }, `key of label "root": its attributes, policy`},
		"label gone":   {func(r *label.EnrolRequest) { r.Keys = r.Keys[:1] }, "quote: it is not over this request"},
		"AK as label":  {func(r *label.EnrolRequest) { r.Keys[0].Public = r.AK }, `key of label "key-release": its attributes, policy`},
		"creation":     {func(r *label.EnrolRequest) { r.Keys[0].Creation.Data = foreign.Keys[0].Creation.Data }, "the attestation is about another key"},
		"escrow":       {func(r *label.EnrolRequest) { r.Escrow.Owner = foreign.Escrow.Owner }, "quote: it is not over this request"},
		"register 4":   {func(r *label.EnrolRequest) { r.PCRs = with(r.PCRs, 4, label.Digest{}) }, "quote"},
		"quote":        {func(r *label.EnrolRequest) { r.Quote = foreign.Quote }, "not signed by the attestation key"},
		"quote's kind": {func(r *label.EnrolRequest) { r.Quote = r.Keys[0].Creation.Attest }, "not an attestation of the kind wanted"},
		"no log":       {func(r *label.EnrolRequest) { r.EventLog = []byte{} }, "quote: it is not over this request"},
	} {
		r := whole
		r.Keys = slices.Clone(whole.Keys)
		c.change(&r)
		_, err := VerifyRequest(r, b.of.domain)
		if err == nil {
			t.Errorf("%s changed: verified", name)
			continue
		}
		wantText(t, err, c.word)
	}
}

// A log that does not explain the registers is refused although the quote is genuine.
func TestLogMustExplainRegisters(t *testing.T) {
	log := testdata.Ubuntu1804AmdSevEventLog // no shim, which would extend the stage's register
	b := newBench(t, newAuthority(t, "example"))
	b.machine(log)
	b.tpm.Extend(t, 4, [32]byte{1}) // and told nobody
	cfg := b.config()
	cfg.EventLog = func() ([]byte, error) { return log, nil }
	a, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.Agent = a
	b.stage(label.Running)
	_, err = VerifyRequest(b.request(), b.of.domain)
	wantText(t, err, "event log: PCR 4 adds up to")
}

func FuzzReplay(f *testing.F) {
	seeds, err := os.ReadDir("testdata/fuzz/FuzzReplay")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		v, err := Replay(log)
		if err != nil {
			return
		}
		for i := range v {
			if i < 0 || i > 23 {
				t.Errorf("register %d", i)
			}
		}
		shown, err := events(log, v)
		if err != nil || len(shown.Events) != min(shown.Count, wire.MaxEvents) || len(shown.Differs) != 0 {
			t.Errorf("%d of %d events, %v, %v", len(shown.Events), shown.Count, shown.Differs, err)
		}
		for _, e := range shown.Events {
			if len(e.Text) > wire.MaxEventText || strings.IndexFunc(e.Text, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
				t.Errorf("text %q", e.Text)
			}
		}
		padded, err := Replay(append(slices.Clone(log), 0, 0, 0))
		if err == nil && hex.EncodeToString([]byte(pcrText(v))) != hex.EncodeToString([]byte(pcrText(padded))) {
			t.Error("padding changes the registers")
		}
	})
}

func pcrText(v label.PCRs) (s string) {
	for i := range 24 {
		d := v[i]
		s += string(d[:])
	}
	return s
}
