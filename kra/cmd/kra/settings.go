package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/label"
)

// A setting can be given by flag or, with the same meaning, by environment variable.
type setting struct{ flag, env, help string }

var (
	setURL           = setting{"url", "KRA_URL", "address of the agent, a `URL` such as https://kra.example:8443"}
	setRoot          = setting{"root", "KRA_ROOT", "PEM `FILE` of the domain root, by which everything is believed"}
	setCert          = setting{"cert", "KRA_CERT", "PEM `FILE` of your client certificate"}
	setKey           = setting{"key", "KRA_KEY", "PEM `FILE` of its private key, if not in the same file"}
	setIdentity      = setting{"i", "KRA_IDENTITY", "`FILE` of age identities of your own"}
	setDirectory     = setting{"directory", "KRA_DIRECTORY", "directory kept in a `FILE` by 'kra directory -json', instead of asking"}
	setRepository    = setting{"repository", "KRA_REPOSITORY", "key repository, a `FOLDER` or a URL, instead of the directory"}
	setRepositoryKey = setting{"repository-key", "KRA_REPOSITORY_KEY", "PEM `FILE` of the public key that signs the repository"}
)

func settingTable() []setting {
	plain := func(s setting) setting {
		out := []byte{}
		for _, c := range []byte(s.help) {
			if c != '`' {
				out = append(out, c)
			}
		}
		return setting{s.flag, s.env, string(out)}
	}
	var all []setting
	for _, s := range []setting{setURL, setRoot, setCert, setKey, setPlatform, setCertificate, setCertificateKey, setIdentity, setDirectory, setRepository, setRepositoryKey, setBoard, setPermissions} {
		all = append(all, plain(s))
	}
	return all
}

// settings are the values of a command's settings.
type settings struct {
	t      *tool
	values map[string]*string
	mutual *bool // nil: the command does not have it
}

// settings declares the flags of some settings.
func (t *tool) settings(fs *flag.FlagSet, use ...setting) settings {
	s := settings{t: t, values: map[string]*string{}}
	for _, u := range use {
		s.values[u.flag] = fs.String(u.flag, "", u.help+" ("+u.env+")")
	}
	return s
}

func (s settings) get(of setting) string {
	if v, ok := s.values[of.flag]; ok && *v != "" {
		return *v
	}
	return s.t.env(of.env)
}

func (s settings) need(of setting, what string) (string, error) {
	if v := s.get(of); v != "" {
		return v, nil
	}
	return "", usagef("%s: give -%s or set %s", what, of.flag, of.env)
}

func (s settings) trust() (client.Trust, error) {
	path, err := s.need(setRoot, "the domain root is needed to believe an agent")
	if err != nil {
		return client.Trust{}, err
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return client.Trust{}, err
	}
	tr, err := client.ParseTrust(pem)
	if err != nil {
		return client.Trust{}, fmt.Errorf("%s: %w", path, err)
	}
	return tr, nil
}

// agent connects to url, with the person's certificate where the command has one.
func (s settings) agent(url string) (*client.Agent, error) {
	return s.agentFor(context.Background(), url, client.Delivery{})
}

// agentFor is agent for keys that travel as d says. Where the command asks what the domain permits, the box has to show first which release it runs.
func (s settings) agentFor(ctx context.Context, url string, d client.Delivery) (*client.Agent, error) {
	p, _, err := s.permitted(ctx)
	if err != nil {
		return nil, err
	}
	a, err := s.agentWith(url, d, p)
	if err != nil || p == nil {
		return a, err
	}
	if _, err := a.Verify(ctx); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (s settings) agentWith(url string, d client.Delivery, p *label.Permissions) (*client.Agent, error) {
	return s.agentOf(client.Config{URL: url, Delivery: d, Permissions: p})
}

// agentOf adds trust and certificate to what is wanted of an agent.
func (s settings) agentOf(conf client.Config) (_ *client.Agent, err error) {
	if conf.Trust, err = s.trust(); err != nil {
		return nil, err
	}
	if s.get(setCert) != "" {
		cert, err := s.clientPair()
		if err != nil {
			return nil, err
		}
		conf.Certificate = &cert
	}
	if _, can := s.values[setPlatform.flag]; can {
		if err := s.asPlatform(&conf); err != nil {
			return nil, err
		}
	}
	a, err := client.NewAgent(conf)
	if err != nil {
		return nil, usagef("%v", err)
	}
	return a, nil
}

// clientPair reads the person's certificate and key.
func (s settings) clientPair() (tls.Certificate, error) {
	path, key := s.get(setCert), s.get(setKey)
	if key == "" {
		key = path
	}
	cert, err := tls.LoadX509KeyPair(path, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read client certificate %s: %w", path, err)
	}
	return cert, nil
}

// identities reads files of age identities; where none is named, that of the environment.
func (s settings) identities(files []string) ([]age.Identity, error) {
	if len(files) == 0 && s.t.env(setIdentity.env) != "" {
		files = []string{s.t.env(setIdentity.env)}
	}
	var all []age.Identity
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		ids, err := age.ParseIdentities(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("read identities %s: %w", path, err)
		}
		all = append(all, ids...)
	}
	return all, nil
}

// directory reads the directory from the file that was named, or from the agent.
func (s settings) directory(ctx context.Context) (client.Directory, error) {
	if path := s.get(setDirectory); path != "" {
		return s.directoryFile(path)
	}
	a, err := s.reach(ctx, client.Delivery{})
	if err == nil && a == nil {
		_, err = s.need(setURL, "the agent's directory is needed")
	}
	if err != nil {
		return client.Directory{}, err
	}
	defer a.Close()
	return a.Directory(ctx)
}

// reach connects to the agent that was named, or to one on the board; nil if neither was.
func (s settings) reach(ctx context.Context, d client.Delivery) (*client.Agent, error) {
	switch {
	case s.get(setURL) != "":
		return s.agentFor(ctx, s.get(setURL), d)
	case s.get(setBoard) != "":
		return s.find(ctx, d)
	}
	return nil, nil
}

func (s settings) directoryFile(path string) (client.Directory, error) {
	tr, err := s.trust()
	if err != nil {
		return client.Directory{}, err
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return client.Directory{}, err
	}
	d, err := client.ParseDirectory(raw, tr, time.Now())
	if err != nil {
		return client.Directory{}, hint(fmt.Errorf("%s: %w", path, err), "fetch it anew: kra directory -json >%s", path)
	}
	return d, nil
}

// many is a flag that may be given several times.
type many []string

func (m *many) String() string     { return "" }
func (m *many) Set(v string) error { *m = append(*m, v); return nil }
