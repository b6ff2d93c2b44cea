package hsm_test

import (
	"crypto/elliptic"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyrelease/krabox/hsm"
	"github.com/keyrelease/krabox/hsm/hsmtest"
	"github.com/keyrelease/krabox/hsm/wire"
)

// window is how many bytes in a row of a token file would be no coincidence outside.
const window = 8

// TestTokenFilesLeaveSealed: nothing that leaves, by any way out, is what lies in the token folder, and with the PIN
// SoftHSM makes nothing of it.
func TestTokenFilesLeaveSealed(t *testing.T) {
	config := hsmtest.Config(t)
	c := must(hsm.New(config, [32]byte{1}))
	defer c.Close()
	token := hsmtest.Token()
	inside, left := map[string]bool{}, map[string]bool{}
	var folder wire.Files
	token.Files = wire.Files{}
	leave := func(way string, files wire.Files, err error) {
		t.Helper()
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files left, %v", way, len(files), err)
		}
		folder = tokenFiles(t, filepath.Join(config.Dir, "tokens"))
		for name, data := range folder {
			if len(data) < window {
				t.Fatalf("%s has %d bytes: too few to be found outside", name, len(data))
			}
			addWindows(inside, data)
		}
		for _, data := range files {
			addWindows(left, data)
		}
		apply(token.Files, files)
	}
	i, err := c.Open(hsmtest.Again(token, nil))
	leave("Open of a new token", i.Files, err)
	k, files, err := c.Generate(wire.P256, wire.Bound, wire.Resident)
	leave("Generate", files, err)
	_, files, err = c.Generate(wire.RSA3072, wire.Replicable, wire.Resident)
	leave("Generate", files, err)
	_, files, err = c.Import(pkcs8(t, newEC(t, elliptic.P256())), wire.Bound, wire.Resident)
	leave("Import", files, err)
	files, err = c.Destroy(k.ID)
	leave("Destroy", files, err)

	if got, want := slices.Sorted(maps.Keys(token.Files)), slices.Sorted(maps.Keys(folder)); !slices.Equal(got, want) {
		t.Errorf("files %q left; the folder has %q", got, want)
	}
	shared := 0
	for w := range left {
		if inside[w] {
			shared++
		}
	}
	if shared > 0 {
		t.Errorf("%d of %d pieces that left are of a file of the token", shared, len(left))
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if n := elsewhere(t, folder, token.PIN); n < 3 {
		t.Fatalf("SoftHSM finds %d objects in a copy of the folder, want two keys and the key-encryption key", n)
	}
	if n := elsewhere(t, token.Files, token.PIN); n != 0 {
		t.Errorf("SoftHSM finds %d objects in what left", n)
	}
}

// tokenFiles reads what SoftHSM has in dir, without its empty lock files.
func tokenFiles(t *testing.T, dir string) wire.Files {
	t.Helper()
	files := wire.Files{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(name, ".lock") {
			return err
		}
		files[name], err = os.ReadFile(filepath.Join(dir, name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func addWindows(set map[string]bool, data []byte) {
	for i := range max(0, len(data)-window+1) {
		set[string(data[i:i+window])] = true
	}
}

// elsewhere counts the objects that SoftHSM, given files and the PIN, shows to anybody.
func elsewhere(t *testing.T, files wire.Files, pin []byte) (objects int) {
	t.Helper()
	dir := hsmtest.Dir(t)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range files {
		path := filepath.Join(dir, "tokens", name)
		check(os.MkdirAll(filepath.Dir(path), 0o700))
		check(os.WriteFile(path, data, 0o600))
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	check(os.WriteFile(conf, []byte("directories.tokendir = "+filepath.Join(dir, "tokens")+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600))
	t.Setenv("SOFTHSM2_CONF", conf)
	lib := p11.New(hsmtest.Module)
	check(lib.Initialize())
	defer lib.Destroy()
	defer lib.Finalize()
	for _, slot := range must(lib.GetSlotList(true)) {
		if must(lib.GetTokenInfo(slot)).Flags&p11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		sh := must(lib.OpenSession(slot, p11.CKF_SERIAL_SESSION))
		check(lib.Login(sh, p11.CKU_USER, string(pin)))
		check(lib.FindObjectsInit(sh, nil))
		found, _, err := lib.FindObjects(sh, 100)
		check(err)
		objects += len(found)
	}
	return objects
}

// TestTokenFilesReturnAsTheyLeft: a file that is not, byte for byte and by its name, what this box sealed is refused,
// and what was open stays open.
func TestTokenFilesReturnAsTheyLeft(t *testing.T) {
	c, token := hsmtest.New(t)
	k, changed, err := c.Generate(wire.P256, wire.Bound, wire.Resident)
	if err != nil {
		t.Fatal(err)
	}
	apply(token.Files, changed)
	names := slices.Sorted(maps.Keys(token.Files))
	refuse := func(c *hsm.Custodian, what, name string, files wire.Files) {
		t.Helper()
		_, err := c.Open(hsmtest.Again(token, files))
		if refused := (wire.Refused{}); !errors.As(err, &refused) || !strings.Contains(refused.Reason, name) {
			t.Errorf("Open with %s = %v, want a refusal that names %q", what, err, name)
		}
	}
	with := func(name string, data []byte) wire.Files {
		files := maps.Clone(token.Files)
		files[name] = data
		return files
	}
	for i, name := range names {
		data := token.Files[name]
		for _, at := range []int{0, 12, len(data) / 2, len(data) - 1} {
			flipped := slices.Clone(data)
			flipped[at] ^= 1
			refuse(c, "a flipped byte", name, with(name, flipped))
		}
		refuse(c, "another file's content", name, with(name, token.Files[names[(i+1)%len(names)]]))
		refuse(c, "a copy under a new name", "copy/", with("copy/"+filepath.Base(name), data))
		refuse(c, "a file that is cut", name, with(name, data[:len(data)-1]))
		refuse(c, "a file that is longer", name, with(name, append(slices.Clone(data), 0)))
		refuse(c, "an empty file", name, with(name, []byte{}))
		refuse(c, "a removed file", name, with(name, nil))
	}
	refuse(must(hsm.New(hsmtest.Config(t), [32]byte{2})), "another chain key", "", token.Files)

	checkKeys(t, c, []wire.Key{k})
	reopen(t, c, token)
	checkKeys(t, c, []wire.Key{k})
}
