package admin

import (
	"context"
	"fmt"

	"github.com/keyrelease/krabox/appliance/store"
	hsm "github.com/keyrelease/krabox/hsm/wire"
)

// keptAs says what a mode is, for whom it is new.
var keptAs = map[hsm.Mode]string{
	hsm.Resident: "resident: objects of the HSM, for up to some thousands of keys",
	hsm.Vault:    "vault: wrapped by the HSM, in the box's state, and unwrapped into the HSM for use",
}

func (s *step) keyMode() error {
	st := s.state()
	n := map[hsm.Mode]int{}
	labelled := 0
	for _, k := range st.Keys() {
		if k.Bound != nil {
			labelled++
			continue
		}
		n[k.Mode]++
	}
	field(s, "new keys", keptAs[st.KeyMode()])
	return field(s, "keys", fmt.Sprintf("%d resident, %d in the vault, %d bound to labels; there can be %d in all", n[hsm.Resident], n[hsm.Vault], labelled, store.MaxTotalKeys))
}

// noVault returns why the token keeps no bound keys in vault mode, or nil.
func noVault(r hsm.Report) error {
	why := "it was not tried"
	for _, c := range r.Checks {
		if c.Name == hsm.CheckVault {
			why = c.Failure
		}
	}
	if why == "" {
		return nil
	}
	return fmt.Errorf("this box's HSM keeps no keys in the vault, and new ones go on being resident: %s", why)
}

func (s *step) keyModeVault(ctx context.Context) error {
	module, err := s.a.c.HSM.Status(ctx)
	if err != nil {
		return fmt.Errorf("ask the HSM: %w", err)
	}
	if err := noVault(module.Report); err != nil {
		return err
	}
	return s.setKeyMode(ctx, hsm.Vault, "Keep new keys wrapped by the HSM, in the box's state? There can be many more of them, and the first use of one costs more. "+
		"Wrapped, a bound key has been outside of the HSM; nothing but this HSM unwraps it.")
}

func (s *step) keyModeResident(ctx context.Context) error {
	return s.setKeyMode(ctx, hsm.Resident, "Keep new keys as objects of the HSM? It is made for some thousands.")
}

func (s *step) setKeyMode(ctx context.Context, m hsm.Mode, question string) error {
	set := store.KeyModeSet{Mode: m}
	if _, err := store.Apply(s.state(), set); err != nil {
		return err
	}
	if err := s.confirm("%s Keys that are there stay as they are.", question); err != nil {
		return err
	}
	if err := s.commit(ctx, set); err != nil {
		return err
	}
	return s.say("New keys are kept as %s.", keptAs[m])
}
