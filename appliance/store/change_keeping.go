package store

import hsm "github.com/keyrelease/krabox/hsm/wire"

// A Keeping says where new keys are kept, whether they are made, imported or copies. It is this box's own: no backup has it.
type Keeping struct {
	Mode hsm.Mode `json:"mode"`
}

// KeyModeSet sets where new keys are kept. Those that are there stay where they are.
type KeyModeSet struct {
	Mode hsm.Mode `json:"mode"`
}

func (KeyModeSet) kind() string { return "key-mode-set" }

func (c KeyModeSet) apply(d *State) error {
	switch {
	case c.Mode != hsm.Resident && c.Mode != hsm.Vault:
		return invalid("where new keys are kept is not set")
	case c.Mode == d.KeyMode():
		return invalid("new keys are kept so already: %s", c.Mode)
	}
	d.keeping.put(only, Keeping(c))
	return nil
}

// KeyMode says where new keys are kept: as objects of the token, unless somebody said otherwise.
func (s *State) KeyMode() hsm.Mode {
	if m := s.keeping.single().Mode; m != 0 {
		return m
	}
	return hsm.Resident
}
