package appliance_test

import (
	"cmp"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/keyrelease/krabox/"

// house lists, for each package, the packages of this module that it may import. A package that is not here may not
// exist. A row may name only rows above it: the import graph has no cycles and no way back up.
var house = []struct {
	pkg   string
	below string
}{
	// The words: no machine, no I/O of their own.
	{"kra/block", ""},
	{"kra/block/blocktest", "kra/block"},
	{"kra/wrapped", "kra/block"},
	{"kra/block/cms", "kra/block"},
	{"kra/block/jwe", "kra/block"},
	{"kra/label", ""},
	{"kra/board", "kra/label"},
	{"kra/board/boardtest", "kra/label"},
	{"kra/enrol", ""},
	{"kra/immutable", ""},
	{"kra/side", ""},
	{"kra/hidden", ""},
	{"kra/noise", ""},
	{"kra", "kra/block"},
	{"kra/attrcert", "kra"},
	{"kra/repository", "kra kra/attrcert"},
	{"kra/receipt", "kra/block"},
	{"kra/receipt/receipttest", "kra/receipt"},
	{"kra/policy", "kra kra/block kra/immutable kra/side"},
	{"kra/replay", "kra/block kra/policy kra/receipt"},
	{"kra/client", "kra kra/block kra/block/cms kra/board kra/label kra/receipt kra/repository"},
	{"kra/client/clienttest", "kra kra/block kra/block/cms kra/block/jwe kra/receipt"},
	// The devices, each behind a protocol that needs no device.
	{"hsm/wire", "kra/block kra/label kra/receipt"},
	{"hsm", "hsm/wire kra/block kra/label kra/noise kra/receipt"},
	{"hsm/hsmtest", "hsm hsm/wire kra/label"},
	{"hsm/cmd/hsmd", "hsm"},
	{"tpm/wire", "kra/label"},
	{"tpm", "tpm/wire kra/block kra/label kra/noise"},
	{"kra/cmd/kra", "kra kra/attrcert kra/block kra/block/cms kra/block/jwe kra/board kra/client kra/hidden kra/label kra/receipt kra/replay kra/repository kra/wrapped tpm"},
	{"tpm/tpmtest", "tpm tpm/wire kra/label"},
	{"tpm/cmd/tpmd", "tpm"},
	{"boot/machine", ""},
	{"boot/compartment", ""},
	{"boot/outbound", ""},
	{"boot/disks", "boot/machine"},
	{"boot/disks/diskstest", "boot/disks"},
	// The rooms of the agent.
	{"appliance/account", ""},
	{"appliance/selftest", "appliance/account kra/noise"},
	{"appliance/audit", "kra/block kra/receipt"},
	{"image/desk/shares", ""},
	{"appliance/backup", "hsm/wire image/desk/shares"},
	{"appliance/store", "boot/machine hsm/wire kra kra/block kra/immutable kra/label kra/side"},
	{"appliance/book", "appliance/store kra kra/block kra/policy kra/side"},
	{"appliance/board", "kra/board kra/label"},
	{"appliance/release", "appliance/audit kra kra/block kra/block/cms kra/block/jwe kra/board kra/label kra/policy kra/receipt"},
	{"appliance/inform/crl", ""},
	{"appliance/inform", "appliance/inform/crl kra kra/attrcert kra/policy kra/repository"},
	{"appliance/inform/ldap", "appliance/inform kra kra/policy"},
	{"appliance/peertest", ""},
	{"appliance/inform/ldap/ldaptest", "appliance/peertest"},
	{"appliance/inform/token", "kra/policy"},
	{"appliance/external", "appliance/release kra/policy"},
	{"appliance/usage", "appliance/audit kra/receipt"},
	{"appliance/nts/siv", ""},
	{"appliance/nts", "appliance/nts/siv"},
	{"appliance/nts/ntstest", "appliance/nts/siv appliance/peertest"},
	{"appliance/syslog", "appliance/audit kra/receipt"},
	{"appliance/syslog/syslogtest", "appliance/peertest"},
	{"console/wire", ""},
	{"console/transcript", ""},
	{"console/ptytest", ""},
	{"console", "console/wire kra"},
	{"console/cmd/console", "console"},
	{"appliance/admin", "appliance/account appliance/backup appliance/store appliance/audit appliance/selftest appliance/usage boot/machine console console/wire hsm/wire kra kra/block kra/enrol kra/label kra/policy kra/receipt kra/wrapped tpm/wire"},
	// The assemblies: the only rooms where everything meets.
	{"appliance", "appliance/account appliance/admin appliance/audit appliance/board appliance/book appliance/external appliance/inform appliance/inform/ldap appliance/inform/token appliance/nts appliance/release appliance/selftest appliance/store appliance/syslog appliance/usage boot/machine boot/outbound console console/wire hsm/wire kra kra/block kra/board kra/label kra/policy kra/receipt kra/replay kra/repository tpm/wire"},
	{"appliance/cmd/krad", "appliance"},
	{"image/fat", ""},
	{"boot", "boot/compartment boot/disks boot/machine boot/outbound image/fat kra/label tpm/wire"},
	{"boot/cmd/init", "boot"},
	{"boot/cmd/stage1", "boot/compartment"},
	{"boot/cmd/outboundd", "boot/outbound"},
	// The desk, the builder, the rack.
	{"image/manifest", ""},
	{"image", "image/fat image/manifest kra/label"},
	{"image/cmd/mkimage", "image image/manifest kra/label"},
	{"image/desk", "appliance/account image image/desk/shares kra/enrol kra/hidden kra/label tpm"},
	{"image/cmd/domain", "image/desk"},
	{"qemu", "image image/fat"},
	{"qemu/cmd/kra-vm", "image qemu"},
	{"qemu/operator", "qemu"},
	{"qemu/eval", "image image/desk image/manifest kra kra/client kra/label qemu qemu/operator"},
	{"qemu/cmd/eval", "qemu/eval"},
	{"appliance/boxtest", "boot boot/compartment boot/disks/diskstest boot/machine console/wire hsm/hsmtest image/desk kra/client kra/label tpm/tpmtest"},
}

// only lists imports that have owners. A key that ends in "/" is a prefix.
var only = map[string]string{
	"C":                               "hsm",
	"github.com/miekg/pkcs11":         "hsm hsm/hsmtest",
	"github.com/google/go-tpm/":       "tpm tpm/tpmtest",
	"github.com/google/go-tpm-tools/": "tpm",
	"github.com/google/go-eventlog/":  "tpm",
	"github.com/tarm/serial":          "console qemu",
	"rsc.io/qr":                       "console",
	"github.com/u-root/u-root/":       "boot image",
	"github.com/u-root/mkuimage/":     "image",
	"github.com/coreos/go-systemd/":   "appliance boot boot/outbound hsm tpm",
	"github.com/landlock-lsm/":        "boot/compartment",
	"cel.dev/cel-go/":                 "kra/policy",
	"github.com/cedar-policy/":        "kra/policy",
	"go.etcd.io/bbolt":                "appliance/store",
	"github.com/beevik/ntp":           "appliance/nts",
	"github.com/go-ldap/ldap/v3":      "appliance/inform/ldap appliance/inform/ldap/ldaptest",
	"github.com/go-jose/go-jose/v4":   "appliance/inform/token kra/block/jwe",
	"filippo.io/age":                  "appliance/backup kra/block kra/client kra/cmd/kra kra/label tpm image/desk",
	"golang.org/x/term":               "console kra/cmd/kra kra/hidden image/desk qemu qemu/cmd/kra-vm",
	"os/exec":                         "kra/cmd/kra appliance/boxtest appliance/inform/ldap/ldaptest appliance/nts/ntstest appliance/syslog/syslogtest boot image image/desk qemu qemu/eval hsm/hsmtest tpm/tpmtest",
	"testing":                         "appliance/boxtest appliance/inform/ldap/ldaptest appliance/peertest appliance/nts/ntstest appliance/syslog/syslogtest qemu boot/disks/diskstest console/ptytest hsm/hsmtest kra/block/blocktest kra/board/boardtest kra/client/clienttest kra/receipt/receipttest tpm/tpmtest",
	"log":                             "",
	"reflect":                         "kra/policy",
	"expvar":                          "",
	"net/http/pprof":                  "",
}

func TestHouse(t *testing.T) {
	below := tableOf(t)
	docs := map[string]int{}
	// Parsed in this process: the go command then sees which files were read and never serves a stale verdict.
	err := fs.WalkDir(os.DirFS(".."), ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && file != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "dist" || d.Name() == "testdata") {
			return cmp.Or(err, fs.SkipDir)
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", file), nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		pkg := path.Dir(file)
		docs[pkg] += 0
		if f.Doc != nil {
			docs[pkg]++
		}
		for _, spec := range f.Imports {
			checkImport(t, file, pkg, spec.Path.Value, below[pkg])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg, n := range docs {
		if _, ok := below[pkg]; !ok {
			t.Errorf("%s is not in the house", pkg)
		}
		if n != 1 {
			t.Errorf("%s: %d package docs, want 1", pkg, n)
		}
	}
	for pkg := range below {
		if _, ok := docs[pkg]; !ok {
			t.Errorf("house: %s has no files", pkg)
		}
	}
}

func tableOf(t *testing.T) map[string][]string {
	t.Helper()
	below := map[string][]string{}
	for _, h := range house {
		for _, b := range strings.Fields(h.below) {
			if _, ok := below[b]; !ok {
				t.Errorf("house: %s looks down the page to %s", h.pkg, b)
			}
		}
		below[h.pkg] = strings.Fields(h.below)
	}
	return below
}

func checkImport(t *testing.T, file, pkg, quoted string, below []string) {
	t.Helper()
	imp, err := strconv.Unquote(quoted)
	if err != nil {
		t.Fatal(err)
	}
	if in, ours := strings.CutPrefix(imp, module); ours && !slices.Contains(below, in) {
		t.Errorf("%s: %s may not import %s", file, pkg, in)
	}
	for prefix, owners := range only {
		match := imp == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(imp, prefix)
		if match && !slices.Contains(strings.Fields(owners), pkg) {
			t.Errorf("%s: %s belongs to %q", file, imp, owners)
		}
	}
}
