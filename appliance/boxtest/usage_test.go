package boxtest_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra/block"
)

// A whole box counts: for charging at the console, from its log, and for monitoring on the health listener only.
func TestUsageOfABox(t *testing.T) {
	b := boxtest.Start(t)
	legalTeam(b)
	bob, carol := b.Person("bob"), b.Person("carol")
	agent, other := b.Agent(&bob), b.Agent(&carol)
	h, _ := header(t, agent, "x")
	if _, err := agent.Release(context.Background(), []block.Header{h, h, h}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Release(context.Background(), []block.Header{h}); err != nil {
		t.Fatal(err)
	}
	shown := b.Do("usage export")
	for _, line := range []string{"decryptor,access,released,withdrawn,refused,first,last\n", "\"corp:CN=bob,O=Example\",legal-team,3,0,0,2", "\"corp:CN=carol,O=Example\",,0,0,1,2"} {
		if !strings.Contains(shown, line) {
			t.Errorf("usage lacks %q:\n%s", line, shown)
		}
	}
	resp, err := http.Get("http://" + b.Up().Health.String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	var parser expfmt.TextParser
	got, err := parser.TextToMetricFamilies(strings.NewReader(string(text)))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if m := got["kra_releases_total"].GetMetric(); len(m) != 1 || m[0].GetCounter().GetValue() != 3 || m[0].GetLabel()[0].GetValue() != "legal-team" {
		t.Errorf("releases: %v", m)
	}
	for name, want := range map[string]float64{"kra_healthy": 1, "kra_refusals_total": 1} {
		if m := got[name].GetMetric(); len(m) != 1 || m[0].GetGauge().GetValue()+m[0].GetCounter().GetValue() != want {
			t.Errorf("%s: %v", name, m)
		}
	}
	if strings.Contains(string(text), "bob") {
		t.Error("metrics tell who asks")
	}
}
