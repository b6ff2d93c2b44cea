package label

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// STATEMENTS.md says what the code does: contexts, values, fields and names.
func TestStatements(t *testing.T) {
	page, err := os.ReadFile("STATEMENTS.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	has := func(what, want string) {
		t.Helper()
		if !strings.Contains(text, want) {
			t.Errorf("STATEMENTS.md lacks %s: %s", what, want)
		}
	}
	for _, c := range []string{"kra/seal/v1", "kra/sign/v1", "kra/epoch/v1", operatorContext, definitionContext, stageContext, requestContext, bundleContext, sealedContext, journalContext, replicaRequestContext, replicaContext, backupKeyContext, backupApprovalContext, backupContext, valueContext, confirmationContext, permissionsContext, advertContext, retractionContext, interpretationContext, shownContext, platformRequestContext, platformBundleContext} {
		has("context", "| `"+c+"` |")
	}
	has("value of open", "| open | `"+At(Open).String()+"` |")
	has("value of maintenance", "| maintenance | `"+At(Maintenance).String()+"` |")
	has("value of running", "| open, running | `"+At(Open, Running).String()+"` |")
	has("armour", "`"+requestBlock+"`")
	has("armour", "`"+platformRequestBlock+"`")
	has("armour", "`"+platformBundleBlock+"`")
	has("armour", "`"+bundleBlock+"`")
	has("armour", "`"+replicaRequestBlock+"`")
	has("armour", "`"+replicaBlock+"`")
	has("armour", "`"+backupKeyBlock+"`")
	has("armour", "`"+backupApprovalBlock+"`")
	digest := digestOf(replicaRequestContext, vector)
	has("digest of a request for copies", "SHA-256 `"+hex.EncodeToString(digest[:])+"`")
	has("armour", "`"+sealedBlock+"`")
	has("armour", "`"+permissionsBlock+"`")
	has("armour", "`"+operatorChallengeBlock+"`")
	has("armour", "`"+operatorAnswerBlock+"`")
	has("fields of a challenge to an operator", fields(encode(OperatorChallenge{})))
	has("fields of an operator's answer", fields(encode(OperatorAnswer{})))
	asked := OperatorChallenge{Label: OperatorPresent, Nonce: make([]byte, 16), Seconds: 600}.signed()
	has("what an operator's token signs", "SHA-256 `"+hex.EncodeToString(asked[:])+"`")
	defined := Definition{Domain: "example.org", Label: "link", Part: Peer, Stages: []Stage{}, Description: "speaks to its like"}
	has("definition", string(encode(defined)))
	hash := defined.signed()
	has("digest of a definition", "SHA-256 `"+hex.EncodeToString(hash[:])+"`")
	for _, l := range Builtin() {
		operator := "no"
		if l.Operator {
			operator = "yes"
		}
		has("built-in label", fmt.Sprintf("| `%s` | %s | %s | %s |", l.Label, l.Part, strings.Trim(strings.ReplaceAll(fmt.Sprint(l.Stages), " ", ", "), "[]"), operator))
	}
	has("fields of a sealed bundle", fields(encode(SealedBundle{})))
	var groups []string
	for _, n := range []int{2, 2, 4, 2, 2, 2, 2, 2, 2} {
		at := len(strings.Join(groups, "")) / 2
		groups = append(groups, hex.EncodeToString([]byte(keyPrefix[at:at+n])))
	}
	has("template", strings.Join(groups, " ")+" 0020 X 0020 Y")
	d := Domain{Name: "DOMAIN"}
	for _, u := range []string{d.AuthorityURI(), d.PlatformURI("BOX"), d.LabelURI("LABEL", "BOX"), d.LabelURI("LABEL", "NAME"), d.UnmeasuredURI("LABEL", "NAME"), d.ReceiptURI("BOX"), d.ImportURI("BOX"), strings.ReplaceAll(d.ReplicaURI("BOX", Digest{}), Digest{}.String(), "DIGEST"), d.KeyReleaseURI("ACCESS-ID")} {
		has("URI", "`"+u+"`")
	}
	dom, k := newDomain(t)
	has("fields of an approval", fields(newApproval(t, Epoch, k.label).Bytes()))
	page = bytes.ReplaceAll(page, []byte("\n     "), nil)
	text = string(page)
	has("fields of a request", `{"domain","software","model","serial","ek":{"public","certificate","chain":[…]},"srk","ak","keys":[{"label","public","creation":{"data","attest":{"attest","signature"}}}],`+
		`"escrow":{"owner","lockout","presence"},"pcrs","eventLog","quote":{"attest","signature"}}`)
	words := regexp.MustCompile(`"([a-zA-Z]+)":`)
	for _, doc := range [][]byte{encode(signed[ReplicaRequest]{}), encode(signed[BackupKey]{}), encode(signedBackupApproval{}), encode(signed[Backup]{Statement: Backup{Lost: []LostKey{{}}}}), encode(signed[Replica]{Statement: newPen(t).replica()}), encode(newRequest(t)), encode(signedBundle{newBundle(t, dom, k), nil}), encode(signedEntry{}), encode(signedPlatformBundle{Bundle: PlatformBundle{Name: "x", SRK: &Name{}, AK: &Name{}, Labels: []OfLabel{{Client: [][]byte{{1}}}}, Epoch: &Approval{Kind: Epoch, By: ByLabel}, Authority: []byte{1}, Platform: []byte{1}}}), Showing{Interpretation: &Interpretation{}}.Bytes(), Shown{Nonce: []byte{1}, Seconds: 1, Shown: &Digest{}}.Bytes(), encode(SignedAdvert{Advert: Advert{Part: Server}}), encode(SignedRetraction{}), encode(SignedPermissions{newPermissions(Attest, Permission{Name: "box1"}), nil, nil}), Confirmations{[]Confirmation{newRack(t).confirm()}}.Bytes()} {
		for _, m := range words.FindAllStringSubmatch(string(doc), -1) {
			has("field", `"`+m[1]+`"`)
		}
	}
}

// fields strips a flat document down to its field names.
func fields(doc []byte) string {
	names := regexp.MustCompile(`"([a-z]+)":`).FindAllStringSubmatch(string(doc), -1)
	var out []string
	for _, n := range names {
		out = append(out, `"`+n[1]+`"`)
	}
	return "{" + strings.Join(out, ",") + "}"
}
