package image

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// compile builds all programs and returns host file by path in the image.
func (s Spec) compile(to string) (map[string]string, error) {
	built := map[string]string{}
	for _, c := range s.Commands {
		s.say("build %s", c.Path)
		out := filepath.Join(to, filepath.Base(c.Path))
		if err := s.goBuild(c, out); err != nil {
			return nil, err
		}
		built[c.Path] = out
	}
	return built, nil
}

// goBuild builds one program so that its bytes depend on source, toolchain and
// nothing else: no paths, no version control stamp, no build id, no user's flags.
func (s Spec) goBuild(c Command, out string) error {
	flags, cgo := "-s -w -buildid=", "0"
	switch c.Link {
	case Static:
	case Dynamic:
		flags += ` -linkmode=external -extldflags "-Wl,--build-id=none"`
		cgo = "1"
	default:
		return fmt.Errorf("build %s: no link mode", c.Path)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", flags, "-o", out, c.Package)
	cmd.Dir = s.Source
	cmd.Env = append(keptEnvironment(), "CGO_ENABLED="+cgo,
		"GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOENV=off", "GOFIPS140="+cmp.Or(s.FIPS140, "off"),
		"CC=gcc", "CGO_CFLAGS=-O2 -g0", "CGO_LDFLAGS=-O2", "CGO_CPPFLAGS=", "CGO_CXXFLAGS=", "CGO_FFLAGS=",
		"LC_ALL=C", "SOURCE_DATE_EPOCH="+stateTime)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", c.Package, err, bytes.TrimSpace(text))
	}
	return nil
}

// keptEnvironment is what finds the toolchain and its caches, and nothing that shapes code.
func keptEnvironment() []string {
	var kept []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOROOT", "GOPATH", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOTOOLCHAIN", "XDG_CACHE_HOME"} {
		if v, ok := os.LookupEnv(name); ok && !strings.ContainsRune(v, 0) {
			kept = append(kept, name+"="+v)
		}
	}
	return kept
}
