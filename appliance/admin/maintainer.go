package admin

import (
	"fmt"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
)

// maintains refuses what an officer may not do who maintains a group: everything but to look at that group, to change who
// is in it, and to look after the session itself.
func maintains(o store.Officer, c console.Command, r console.Rights) error {
	if !r.Has(console.DutyMaintainer) {
		return maintainsOnly(o)
	}
	switch c := c.(type) {
	case console.Nothing, console.Help, console.Logout, console.OfficerPassphrase, console.OfficerCodes, console.OfficerCodesOff:
		return nil
	case console.GroupShow:
		if string(c.Group) == o.Group {
			return nil
		}
	case console.GroupAdd:
		if string(c.Group) == o.Group && c.Member.Valid() {
			return nil
		}
	case console.GroupRemove:
		if string(c.Group) == o.Group && c.Member.Valid() {
			return nil
		}
	}
	return maintainsOnly(o)
}

func maintainsOnly(o store.Officer) error {
	return fmt.Errorf("%s maintains the group %s: only group show %[2]s, group add %[2]s DECRYPTOR, group remove %[2]s DECRYPTOR, "+
		"officer passphrase, officer totp and logout work", o.Name, o.Group)
}
