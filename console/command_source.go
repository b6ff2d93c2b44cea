package console

import (
	"github.com/keyrelease/krabox/kra"
)

// Names that only officers use, checked to be well-formed words.
type (
	Role     string // a role of the box
	Field    string // an attribute of a directory's entries or a claim of a token
	InfoKind string // group, role, attribute, clearance, alias or device
	Asking   string // reserve or verify
	Payer    string // platform or subject
	Setting  string // every, age, timeout or inflight
	Delivery string // anyone or channel
	Portion  string // whole or part
)

// An Item is something that is known about a decryptor, or has to be: KIND:NAME=VALUE@AUTHORITY.
type Item struct {
	Kind      InfoKind
	Name      string // empty for a clearance
	Value     string // empty for a group and a role
	Authority kra.Anchor
}

// A Mark says which level a bit of a class list, or which compartment a security category stands for.
type Mark struct {
	Of   string // a bit's number, an OID, or OID:HEX
	Name string
}

// The commands about who says what of decryptors.
type (
	// SourceAttribute names an attribute authority, which speaks of the decryptors of one authority.
	SourceAttribute struct {
		pasted
		Alias kra.Anchor
		May   []InfoKind
		Of    kra.Anchor
	}
	// SourceDirectory names an LDAP server. Who is to be bound as may be empty.
	SourceDirectory struct {
		pasted
		Alias kra.Anchor
		May   []InfoKind
		Of    kra.Anchor // whose decryptors it knows
		URL   string
		Base  string
		Bind  string
	}
	SourceIssuer struct {
		pasted
		Alias    kra.Anchor
		May      []InfoKind
		Issuer   string
		Audience string
	}
	// SourceRepository names a key repository; without a URL its entries are pasted.
	SourceRepository struct {
		pasted
		Alias kra.Anchor
		URL   string
	}
	SourceService struct {
		pasted
		Alias  kra.Anchor
		URL    string
		Mode   Asking
		Charge Payer
	}
	// SourceRevocation says where the list of an authority is; without a URL it is pasted.
	SourceRevocation struct {
		pasted
		Alias kra.Anchor
		Of    kra.Anchor
		URL   string
	}
	// SourceMap has what a field holds become information.
	SourceMap struct {
		quiet
		Alias kra.Anchor
		Kind  InfoKind
		Name  string
		From  Field
	}
	SourceUnmap struct {
		quiet
		Alias kra.Anchor
		From  Field
	}
	// SourceClearance says what the clearances of one policy mean; without marks nothing any more.
	SourceClearance struct {
		quiet
		Alias  kra.Anchor
		Policy string
		Marks  []Mark
	}
	SourceSet struct {
		quiet
		Alias   kra.Anchor
		Setting Setting
		Number  int
	}
	SourceFilter struct {
		quiet
		Alias  kra.Anchor
		Filter string
	}
	SourceName struct {
		quiet
		Alias kra.Anchor
		Field Field
	}
	// SourceRenew takes a newer certificate, key set, list or set of entries.
	SourceRenew struct {
		pasted
		Alias kra.Anchor
	}
	SourceSecret struct {
		secret
		Alias kra.Anchor
	}
	SourceList struct{ quiet }
	SourceShow struct {
		quiet
		Alias kra.Anchor
	}
	SourceRemove struct {
		confirmed
		Alias kra.Anchor
	}

	RoleAdd struct {
		quiet
		Role  Role
		Needs []Item
	}
	RoleSet struct {
		quiet
		Role  Role
		Needs []Item
	}
	RoleList struct{ quiet }
	RoleShow struct {
		quiet
		Role Role
	}
	RoleRemove struct {
		confirmed
		Role Role
	}

	LevelsShow struct{ quiet }
	// LevelsSet names the classification levels, lowest first; without any those of the product.
	LevelsSet struct {
		quiet
		Levels []string
	}

	GroupNest struct {
		quiet
		Group, In Group
	}
	GroupUnnest struct {
		confirmed
		Group, From Group
	}
	MaintainerAdd struct {
		quiet
		Group  Group
		Member kra.Decryptor
	}
	MaintainerRemove struct {
		confirmed
		Group  Group
		Member kra.Decryptor
	}

	AccessDeliver struct {
		quiet
		Access   kra.AccessID
		Delivery Delivery
	}
	AccessPortion struct {
		quiet
		Access  kra.AccessID
		Portion Portion
	}
	// AccessRules makes rule lists the logic of an access identifier again. It has none at first.
	AccessRules struct {
		confirmed
		Access kra.AccessID
	}
	// AccessCedar takes Cedar policies in place of rule lists.
	AccessCedar struct {
		pasted
		Access kra.AccessID
	}
)
