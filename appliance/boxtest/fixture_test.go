package boxtest_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyrelease/krabox/appliance/boxtest"
	"github.com/keyrelease/krabox/kra/client"
)

var keep = flag.String("keep-backup", "", "make a fixture of this version's backup in testdata/backups/NAME")

// backups is where a fixture of each released version's backup is: the folder of a throwaway domain, backup.txt, shares.txt, and a file
// that was encrypted to a key in it, file.age.
const backups = "testdata/backups"

// TestBackupsOfAllVersionsRestore: every fixture, made by this version or an older one, restores, and what was encrypted then is released.
func TestBackupsOfAllVersionsRestore(t *testing.T) {
	if *keep != "" {
		keepBackup(t, filepath.Join(backups, *keep))
	}
	all, err := os.ReadDir(backups)
	if err != nil || len(all) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, f := range all {
		t.Run(f.Name(), func(t *testing.T) {
			read := func(name string) string {
				b, err := os.ReadFile(filepath.Join(backups, f.Name(), name))
				if err != nil {
					t.Fatal(err)
				}
				return string(b)
			}
			b := boxtest.StartIn(t, filepath.Join(backups, f.Name(), "domain"), "box2")
			b.Do("backup restore box1", read("backup.txt"), "yes")
			for _, s := range strings.Split(strings.TrimSpace(read("shares.txt")), "\n\n") {
				b.Do("backup share", s, "yes")
			}
			if list := b.Do("access show legal-team"); !strings.Contains(list, "counsel") || !strings.Contains(list, "Legal team") {
				t.Errorf("rules and titles are:\n%s", list)
			}
			h, rest, err := client.ReadHeader(strings.NewReader(read("file.age")))
			if err != nil {
				t.Fatal(err)
			}
			bob := b.Person("bob")
			if got, err := opened(t, b.Agent(&bob), h, rest); err != nil || got != "privileged" {
				t.Errorf("the restored box opened %q, %v", got, err)
			}
		})
	}
}

// keepBackup makes a fixture. Its secrets are good for nothing else.
func keepBackup(t *testing.T, dir string) {
	b := boxtest.Start(t)
	legalTeam(b)
	b.Do("key generate mlkem768p256 for legal-team")
	b.Do("access add secrets")
	b.Do("key generate p256 bound for secrets")
	shares := backupKey(t, b, "backup key shares 2 of 3", 3)
	bob := b.Person("bob")
	file := encrypted(t, b.Agent(&bob), "privileged")
	if err := os.CopyFS(filepath.Join(dir, "domain"), os.DirFS(b.Domain)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"backup.txt": backupOf(t, b.Do("backup make", "yes")), "shares.txt": shares[0] + "\n\n" + shares[2] + "\n", "file.age": file.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
