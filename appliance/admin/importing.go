package admin

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	hsm "github.com/keyrelease/krabox/hsm/wire"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/wrapped"
)

// keyImportKey shows the import key's certificate, which is made anew each time: the key is made once.
func (s *step) keyImportKey(ctx context.Context) error {
	if err := s.act(ctx); err != nil {
		return err
	}
	return s.showImportKey(ctx, s.a.c.HSM.ImportKey)
}

func (s *step) keyImportKeyNew(ctx context.Context) error {
	if err := s.confirm("Make another import key, and destroy the present one? What was wrapped to it and is not imported yet cannot be imported any more."); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	return s.showImportKey(ctx, s.a.c.HSM.NewImportKey)
}

// showImportKey shows nothing that could be lost: the key is in the store first. What cannot be certified or stored is gone again.
func (s *step) showImportKey(ctx context.Context, get func(context.Context) ([]byte, hsm.Files, error)) error {
	before, err := s.a.c.HSM.Status(ctx)
	if err != nil {
		return err
	}
	spki, files, err := get(ctx)
	if err != nil {
		return err
	}
	chain, err := s.a.c.TPM.LeafImport(ctx, spki)
	if err == nil && len(files) > 0 {
		err = s.commit(ctx, store.TokenSet{Files: files})
	}
	if err != nil {
		return errors.Join(err, s.asStored(ctx, files))
	}
	if err := s.refresh(ctx, before); err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	field(s, "import key", block.KeyIDOfSPKI(spki).String())
	field(s, "type", "rsa-3072, bound to this box")
	field(s, "name", leaf.URIs[0].String())
	if err := s.certificate(chain); err != nil {
		return err
	}
	return s.say("Where the private key is: kra wrap-key -to box.pem KEY, with these certificates in box.pem. What that writes is pasted here: key import for ACCESS")
}

// asStored has the token be what the store has, after changes of it that did not get there.
func (s *step) asStored(ctx context.Context, files hsm.Files) error {
	if len(files) == 0 {
		return nil
	}
	defer s.follow(ctx)
	return s.a.c.HSM.Refresh(ctx)
}

// keyImportWrapped takes in what only the HSM opens.
func (s *step) keyImportWrapped(ctx context.Context, c console.KeyImport, text string) error {
	w, err := wrapped.Parse(text)
	if err != nil {
		return fmt.Errorf("%w; nothing was imported", err)
	}
	s.tell(fmt.Sprintf("Make a key that was made elsewhere, and comes wrapped for this box's HSM, the current key of %s%s? %s", c.Access, s.instead(c.Access), elsewhere))
	return s.newKey(ctx, c.Access, "imported, wrapped for this box's HSM", func() (hsm.Key, hsm.Files, error) {
		k, files, err := s.a.c.HSM.ImportWrapped(ctx, w.To(), w.Bytes(), custody(c.Custody), s.state().KeyMode())
		if err != nil {
			return k, files, fmt.Errorf("%w; nothing was imported", err)
		}
		return k, files, nil
	})
}
