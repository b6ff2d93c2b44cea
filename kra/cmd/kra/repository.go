package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"filippo.io/age"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/client"
	"github.com/keyrelease/krabox/kra/repository"
)

// repository opens the repository that is set, if one is.
func (s settings) repository() (*client.Repository, error) {
	where := s.get(setRepository)
	if where == "" {
		return nil, nil
	}
	path, err := s.need(setRepositoryKey, "the repository's key is needed to believe it")
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := repository.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	tr, err := s.trust()
	if err != nil {
		return nil, err
	}
	r, err := client.NewRepository(where, key, tr)
	if err != nil {
		return nil, usagef("%v", err)
	}
	return r, nil
}

// A finder turns access identifiers into recipients: by the repository if one is set, else by the directory, which is
// read when first needed.
type finder struct {
	set     settings
	repo    *client.Repository
	dir     client.Directory
	started bool
	fetched bool
}

func (f *finder) find(ctx context.Context, id kra.AccessID) (out []age.Recipient, err error) {
	keys, err := f.keys(ctx, id)
	for _, k := range keys {
		r, err := k.Recipient()
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, err
}

func (f *finder) keys(ctx context.Context, id kra.AccessID) (keys []client.Key, err error) {
	if !f.started {
		if f.repo, err = f.set.repository(); err != nil {
			return nil, err
		}
		f.started = true
	}
	if f.repo == nil {
		return f.inDirectory(ctx, id)
	}
	keys, err = f.repo.Lookup(ctx, id)
	if errors.Is(err, client.ErrNoEntry) {
		return nil, hint(usagef("the repository has no access identifier %s", id), "'kra directory' lists what there is")
	}
	return keys, err
}

func (f *finder) inDirectory(ctx context.Context, id kra.AccessID) (keys []client.Key, err error) {
	if !f.fetched {
		if f.dir, err = f.set.directory(ctx); err != nil {
			return nil, err
		}
		f.fetched = true
	}
	k, err := lookup(f.dir, id)
	if err != nil {
		return nil, err
	}
	return []client.Key{k}, nil
}
