package admin

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyrelease/krabox/appliance/backup"
	"github.com/keyrelease/krabox/console"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	tpm "github.com/keyrelease/krabox/tpm/wire"
)

// A secretKind is what all secrets of one kind have in common. Their number is never here: it is found in the box.
type secretKind struct{ name, where, guard, taker, ends string }

// escrowed is added where the domain has a copy.
const escrowed = "; the domain, by the copy that was encrypted to it at enrolment"

var (
	kindOfficer = secretKind{"passphrase of an officer", "in the officer's head; the state has its Argon2id hash", "the state's encryption; wrong guesses cost time",
		"whoever hears or guesses it", "officer passphrase, officer remove"}
	kindCodes = secretKind{"secret of a second factor", "a record of the state; the officer's authenticator", "the state's encryption; wrong codes cost time",
		"whoever has the authenticator, or saw it being set up", "officer totp off, officer totp remove"}
	kindRecovery = secretKind{"recovery code of a second factor", "on the officer's paper; the state has its HMAC", "60 random bits; wrong guesses cost time",
		"whoever reads the paper", "when it was used; with the second factor"}
	kindOffer = secretKind{"secret of a second factor that is being set up", "krad's memory; shown at the console", "compartments",
		"whoever saw it being set up", "with its first code, or after ten minutes"}
	kindPIN = secretKind{"PIN of the token", "a record of the state; hsmd's memory", "the state's encryption; compartments",
		"krad or hsmd in the wrong hands", "with the state"}
	kindToken = secretKind{"key-encryption key", "in the token", "the HSM: sensitive, not extractable",
		"nobody, short of breaking the HSM", "with the token"}
	kindVault = secretKind{"vault key", "in the token", "the HSM: sensitive, not extractable; what it unwraps cannot leave",
		"nobody, short of breaking the HSM", "with the token"}
	kindImport = secretKind{"import key", "in the token", "the HSM: sensitive, not extractable; opens wrapped keys into the HSM, by hsmd",
		"hsmd in the wrong hands uses it; nobody takes it", "key import-key new; with the token"}
	kindTransfer = secretKind{"transfer key for another box", "in the token", "the HSM; that box can open the sealed copy",
		"that box", "replica dismiss"}
	kindBackup = secretKind{"transfer key for backups", "in the token", "the HSM; who opens the backup key opens the sealed copy",
		"so many holders of shares together as it takes", "with the next backup key"}
	kindSeed = secretKind{"seed or share of a backup key", "krad's memory, while shares are written down or typed", "compartments",
		"krad in the wrong hands; the holders of the shares", "with the last share, or after an hour"}
	kindReleaseKey = secretKind{"key-release key", "in the token, whose files are records of the state", "the HSM: sensitive; rules say who gets what it opens",
		"bound: nobody; replicable: a box that was admitted", "key delete; key mark: it opens nothing any more"}
	kindKept = secretKind{"key-release key in the vault", "a record of the state, wrapped by a key of the token; in the token while it is used, for a while",
		"the HSM: whoever has the record needs this token; rules say who gets what it opens", "bound: nobody; replicable: a box that was admitted",
		"key delete; key mark: it opens nothing any more"}
	kindLabelled = secretKind{"key-release key bound to a label", "a record of the state; in the token only while the box has the label",
		"a secret of the TPM, under the label's policy", "nobody but this box, in a state that the domain approved for the label", "key delete; when the TPM is cleared"}
	kindSource = secretKind{"secret of a source", "a record of the state; krad's memory", "the state's encryption; compartments",
		"krad in the wrong hands; the source knows it", "source remove; at the source"}
	kindAsked = secretKind{"secret of a source that waits for a second officer", "a record of the state; krad's memory", "the state's encryption; compartments",
		"krad in the wrong hands; the source knows it", "approve, reject, or a day later"}
	kindDerived = secretKind{"key derived from the opened state", "memory of process 1, krad, hsmd", "compartments; locked memory; never on a disk",
		"who owns the process", "with the boot; it comes back with the state"}
	kindUnlock = secretKind{"unlock secret", "on paper, as shares; while the box is open, memory of process 1", "so many of its holders together",
		"who brings so many shares, and has the box", "boot attended, which makes another; boot unattended"}
	kindShares = secretKind{"share of an unlock secret", "krad's memory", "compartments; never on a disk",
		"krad in the wrong hands", "when it was used, or after an hour"}
	kindReceipt = secretKind{"key that signs log and receipts", "krad's memory", "the label key certified it for this boot",
		"krad in the wrong hands", "with krad; the next one is new"}
	kindTLS = secretKind{"key of the TLS certificate", "krad's memory", "the label key certified it, for a day at most",
		"krad in the wrong hands", "with krad, or at its renewal"}
)

// ofPlatform are the kinds that the TPM tells of.
var ofPlatform = map[tpm.HoldingKind]secretKind{
	tpm.StorageSeed: {"storage seed", "in the TPM", "it never leaves the chip; all that follows from the TPM hangs below it",
		"who opens the chip, or copies a software TPM", "when the TPM is cleared"},
	tpm.EndorsementSeed: {"endorsement seed", "in the TPM", "it never leaves the chip", "who opens the chip, or copies a software TPM", "never, but with the chip"},
	tpm.AttestationKey: {"attestation key", "a blob below the storage seed", "the TPM: it signs what the TPM itself says, and nothing else",
		"nobody: no other TPM loads it", "when the TPM is cleared; domain revoke"},
	tpm.LabelKey: {"label key", "a blob below the storage seed", "the TPM: it signs in states that the domain approved for the label, and in no other",
		"nobody: no other TPM loads it", "when the TPM is cleared; domain revoke"},
	tpm.StateSecret: {"state secret", "a blob below the storage seed; memory of process 1", "the TPM gives it out at stage open of an approved state, once a boot",
		"nobody: no other TPM loads it", "when the TPM is cleared"},
	tpm.StateHalf: {"half of the state's key", "an index of the TPM", "the TPM lets it be read at stage open of an approved state", "nobody",
		"a fresh one takes its place when a key was destroyed, or at boot renew; when the TPM is cleared"},
	tpm.PresencePhrase: {"presence passphrase", "the operator's; an index of the TPM obeys it", "100 random bits", "whoever hears it", "when the TPM is cleared"},
	tpm.OwnerAuth:      {"ownerAuth", "in the TPM", "random, set at enrolment, not kept", "nobody here", "when the TPM is cleared"},
	tpm.LockoutAuth:    {"lockoutAuth", "in the TPM", "random, set at enrolment, not kept", "nobody here", "when the TPM is cleared"},
	tpm.PlatformAuth:   {"platformAuth", "in the TPM", "random, new in each boot, known to nobody", "firmware, before it starts what follows", "at the next start"},
}

// A held is secrets of one kind that were found, by name.
type held struct {
	secretKind
	names []string
	whose string // "platform", "officers", "service": for the sum
}

// An inventory is all that was found, kind by kind.
type inventory []held

// add finds room for n secrets of a kind; name may be empty.
func (v *inventory) add(whose string, k secretKind, n int, name string) {
	i := slices.IndexFunc(*v, func(h held) bool { return h.secretKind == k })
	if i < 0 {
		if n == 0 {
			return
		}
		*v, i = append(*v, held{secretKind: k, whose: whose}), len(*v)
	}
	for range n {
		(*v)[i].names = append((*v)[i].names, name)
	}
}

func (v inventory) count(whose string) (n int) {
	for _, h := range v {
		if whose == "" || h.whose == whose {
			n += len(h.names)
		}
	}
	return n
}

func (v inventory) has(name string) bool {
	return slices.ContainsFunc(v, func(h held) bool { return h.name == name })
}

// secrets lists what this box holds or depends on. What does not answer is an error: half an inventory would be a false one.
func (s *step) secrets(ctx context.Context) error {
	v, err := s.inventory(ctx)
	if err != nil {
		return err
	}
	for _, h := range v {
		h.show(s)
	}
	if s.a.c.Mode != console.Enrolled && v.has(ofPlatform[tpm.StateSecret].name) {
		field(s, "not counted", "what the state holds: it is closed in mode "+string(s.a.c.Mode))
	}
	kinds := count(len(v), "kind", "kinds")
	return field(s, "in all", fmt.Sprintf("%s of %s: %d of the platform, %d of officers, %d of the service and its sources. No value is shown, here or elsewhere.",
		count(v.count(""), "secret", "secrets"), kinds, v.count("platform"), v.count("officers"), v.count("service")))
}

func (s *step) inventory(ctx context.Context) (v inventory, err error) {
	all, err := s.a.c.TPM.Holdings(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the TPM: %w", err)
	}
	for _, x := range all {
		k, ok := ofPlatform[x.Kind]
		if !ok {
			return nil, fmt.Errorf("the TPM holds a %q, which is not known here", x.Kind)
		}
		if x.Escrowed {
			k.taker += escrowed
		}
		v.add("platform", k, 1, string(x.Label))
	}
	if n := len(s.a.gathering.shares); n > 0 {
		v.add("service", kindShares, n, "")
	}
	if s.a.c.Mode != console.Enrolled {
		return v, nil
	}
	if l := s.a.lock(); l != nil {
		v.add("platform", kindUnlock, 1, l.Name)
	}
	if m := s.a.minting; m != nil {
		v.add("service", kindShares, len(m.shares), m.name.String())
	}
	module, err := s.a.c.HSM.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the HSM: %w", err)
	}
	s.ofState(&v)
	return v, s.ofToken(&v, module)
}

// ofState is what the state holds, and what krad holds because of it.
func (s *step) ofState(v *inventory) {
	st := s.state()
	v.add("platform", kindDerived, 1, "the store's")
	v.add("platform", kindDerived, 1, "of hsmd's chain, and what is derived from it")
	for _, o := range st.Officers() {
		v.add("officers", kindOfficer, 1, o.Name)
		if o.Codes != nil {
			v.add("officers", kindCodes, 1, o.Name)
			v.add("officers", kindRecovery, len(o.Codes.Recovery), "")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.a.offers)) {
		if s.a.offers[name].waits() {
			v.add("officers", kindOffer, 1, name)
		}
	}
	for _, o := range st.Sources() {
		v.add("service", kindSource, o.Secrets(), string(o.Alias))
	}
	for _, r := range st.Requests() {
		v.add("service", kindAsked, len(r.Secrets), fmt.Sprintf("request %d", r.Number))
	}
	if len(st.ReceiptKeys()) > 0 {
		v.add("service", kindReceipt, 1, "")
	}
	if s.a.c.TLS != nil && s.a.c.TLS() {
		v.add("service", kindTLS, 1, "")
	}
}

// ofToken is what the token holds, by the state's account and the token's own: they must agree.
func (s *step) ofToken(v *inventory, i hsm.Instance) error {
	st := s.state()
	v.add("service", kindPIN, st.PINs().Set(), "")
	v.add("service", kindToken, 1, "")
	if noVault(i.Report) == nil {
		v.add("service", kindVault, 1, "")
	}
	v.add("service", kindImport, int(i.Report.ImportKeys), "")
	for _, p := range st.Peers() {
		v.add("service", kindTransfer, 1, p.Box)
	}
	if k, ok := st.BackupKey(); ok {
		v.add("service", kindBackup, 1, backup.NameOf(k.ID()).String())
	}
	if s.a.making != nil {
		v.add("service", kindSeed, 1, s.a.making.name().String())
	}
	if o := s.a.opening; o != nil {
		v.add("service", kindSeed, len(o.shares), backup.NameOf(hsm.Peer(o.backup.Key)).String())
	}
	inside, loaded := 0, 0
	for _, k := range st.Keys() {
		name := short(k.ID) + " of " + orElse(strings.Join(s.users(k.ID), " and "), "nobody")
		if k.Bound != nil {
			loaded++
			v.add("service", kindLabelled, 1, name+" ("+string(k.Bound.Label)+")")
			continue
		}
		inside++
		kind := kindReleaseKey
		if k.Mode == hsm.Vault {
			kind = kindKept
		}
		v.add("service", kind, 1, fmt.Sprintf("%s (%s)", name, k.Custody))
	}
	if n := int(i.Report.Keys); n < inside || n > inside+loaded {
		return fmt.Errorf("the token has %s, the state knows of %d and %d bound to labels: look at key list and log, and restart the box", count(n, "key", "keys"), inside, loaded)
	}
	return nil
}

// show writes one kind.
func (h held) show(s *step) {
	title := fmt.Sprintf("%d: %s", len(h.names), h.name)
	if named := slices.DeleteFunc(slices.Clone(h.names), func(n string) bool { return n == "" }); len(named) > 0 {
		title += " — " + strings.Join(named, ", ")
	}
	field(s, "secret", printable(title))
	field(s, "  where", h.where)
	field(s, "  guarded by", h.guard)
	field(s, "  taken by", h.taker)
	field(s, "  ends", h.ends)
}
