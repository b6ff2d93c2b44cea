package label

import (
	"bytes"
	"encoding/hex"
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
	for _, c := range []string{"kra/seal/v1", "kra/sign/v1", "kra/epoch/v1", stageContext, requestContext, bundleContext, sealedContext, journalContext, replicaRequestContext, replicaContext, valueContext, confirmationContext} {
		has("context", "| `"+c+"` |")
	}
	has("value of open", "| open | `"+At(Open).String()+"` |")
	has("value of running", "| open, running | `"+At(Open, Running).String()+"` |")
	has("armour", "`"+requestBlock+"`")
	has("armour", "`"+bundleBlock+"`")
	has("armour", "`"+replicaRequestBlock+"`")
	has("armour", "`"+replicaBlock+"`")
	digest := digestOf(replicaRequestContext, vector)
	has("digest of a request for copies", "SHA-256 `"+hex.EncodeToString(digest[:])+"`")
	has("armour", "`"+sealedBlock+"`")
	has("fields of a sealed bundle", fields(encode(SealedBundle{})))
	var groups []string
	for _, n := range []int{2, 2, 4, 2, 2, 2, 2, 2, 2} {
		at := len(strings.Join(groups, "")) / 2
		groups = append(groups, hex.EncodeToString([]byte(keyPrefix[at:at+n])))
	}
	has("template", strings.Join(groups, " ")+" 0020 X 0020 Y")
	d := Domain{Name: "DOMAIN"}
	for _, u := range []string{d.AuthorityURI(), d.PlatformURI("BOX"), d.LabelURI("LABEL", "BOX"), d.ReceiptURI("BOX"), strings.ReplaceAll(d.ReplicaURI("BOX", Digest{}), Digest{}.String(), "DIGEST"), d.KeyReleaseURI("ACCESS-ID")} {
		has("URI", "`"+u+"`")
	}
	dom, k := newDomain(t)
	has("fields of an approval", fields(newApproval(t, Epoch, k.label).Bytes()))
	page = bytes.ReplaceAll(page, []byte("\n     "), nil)
	text = string(page)
	has("fields of a request", `{"label","domain","software","model","serial","ek":{"public","certificate","chain":[…]},"srk","ak","labelKey","creation":{"data","attest":{"attest","signature"}},`+
		`"escrow":{"owner","lockout","presence"},"pcrs","eventLog","quote":{"attest","signature"}}`)
	words := regexp.MustCompile(`"([a-zA-Z]+)":`)
	for _, doc := range [][]byte{encode(signed[ReplicaRequest]{}), encode(signed[Replica]{Statement: newPen(t).replica()}), encode(newRequest(t)), encode(signedBundle{newBundle(t, dom, k), nil}), encode(signedEntry{}), Confirmations{[]Confirmation{newRack(t).confirm()}}.Bytes()} {
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
