package console

import (
	"net/netip"
	"time"

	"github.com/keyrelease/krabox/kra"
)

// Names that only officers use, checked to be well-formed words. What they name, the agent finds out.
type (
	Rule    string // a named rule
	Group   string // a group of decryptors
	Officer string // an administrator
	KeyRef  string // a key id in hexadecimal, or the first 8 or more digits of one
	Suite   string // p256, rsa2048, rsa3072 or mlkem768p256
	Custody string // bound or replicable

	KeyState string // active, deactivated or compromised
)

// The suites and custodies that a command can name.
const (
	P256    Suite = "p256"
	RSA2048 Suite = "rsa2048"
	RSA3072 Suite = "rsa3072"
	Hybrid  Suite = "mlkem768p256"

	Bound      Custody = "bound"
	Replicable Custody = "replicable"
)

// Embedded, these say what a command asks for.
type (
	quiet     struct{}
	confirmed struct{}
	pasted    struct{}
	secret    struct{}
)

func (quiet) command()     {}
func (confirmed) command() {}
func (pasted) command()    {}
func (secret) command()    {}

// Ask returns AskNothing.
func (quiet) Ask() Ask { return AskNothing }

// Ask returns AskConfirm.
func (confirmed) Ask() Ask { return AskConfirm }

// Ask returns AskPaste.
func (pasted) Ask() Ask { return AskPaste }

// Ask returns AskSecret.
func (secret) Ask() Ask { return AskSecret }

// The commands.
type (
	Nothing struct{ quiet } // an empty line
	Help    struct {
		quiet
		Topic string // the beginning of a command, or empty
	}
	Logout   struct{ quiet }
	Status   struct{ quiet }
	Reboot   struct{ confirmed }
	PowerOff struct{ confirmed }

	EnrolRequest struct{ quiet }
	EnrolInstall struct{ pasted }

	KeyGenerate struct {
		quiet
		Suite   Suite
		Custody Custody
		Access  kra.AccessID
	}
	KeyImport struct {
		pasted
		Custody Custody
		Access  kra.AccessID
	}
	KeyList struct{ quiet }
	KeyShow struct {
		quiet
		Key KeyRef
	}
	KeyTag struct {
		quiet
		Key KeyRef
	}
	KeyUntag struct {
		confirmed
		Key KeyRef
	}
	KeyMark struct {
		confirmed
		Key   KeyRef
		State KeyState
	}

	AccessAdd struct {
		quiet
		Access kra.AccessID
		Title  string
	}
	AccessList struct{ quiet }
	AccessShow struct {
		quiet
		Access kra.AccessID
	}
	AccessTitle struct {
		quiet
		Access kra.AccessID
		Title  string
	}
	// AccessLists sets the rule lists of an access identifier, tried in order.
	AccessLists struct {
		quiet
		Access kra.AccessID
		Lists  []string
	}
	// AccessKeys sets the keys of an access identifier; the first is the current one.
	AccessKeys struct {
		quiet
		Access kra.AccessID
		Keys   []KeyRef
	}
	AccessRemove struct {
		confirmed
		Access kra.AccessID
	}
	// AccessTest asks what would be decided. A zero From is no known address, a zero At is now. Unproven is somebody who proves nothing
	// and wants the key encrypted to the certificate of As.
	AccessTest struct {
		quiet
		Access kra.AccessID
		As     kra.Decryptor
		From   netip.Addr
		At     time.Time
		With   []Item

		Unproven bool
	}
	// WhoAmI asks to which access identifiers somebody belongs.
	WhoAmI struct {
		quiet
		As   kra.Decryptor
		From netip.Addr
		At   time.Time
		With []Item
	}

	// RuleAdd makes a rule; Expr is CEL or the short form of package policy.
	RuleAdd struct {
		quiet
		Rule Rule
		Expr string
	}
	RuleSet struct {
		quiet
		Rule Rule
		Expr string
	}
	RuleList struct{ quiet }
	RuleShow struct {
		quiet
		Rule Rule
	}
	RuleRemove struct {
		confirmed
		Rule Rule
	}

	GroupAdd struct {
		quiet
		Group  Group
		Member kra.Decryptor
	}
	// GroupRemove removes a member, or the whole group if Member is nobody.
	GroupRemove struct {
		confirmed
		Group  Group
		Member kra.Decryptor
	}
	GroupList struct{ quiet }
	GroupShow struct {
		quiet
		Group Group
	}

	TrustAdd struct {
		pasted
		Alias kra.Anchor
		Name  kra.Naming
	}
	TrustList   struct{ quiet }
	TrustRemove struct {
		confirmed
		Alias kra.Anchor
	}

	TimeShow struct{ quiet }
	TimeSet  struct {
		confirmed
		At time.Time
	}

	LogShow struct {
		quiet
		Count int // records, newest last
	}
	LogSize struct{ quiet }
	// UsageExport prints how many keys each decryptor had of each access identifier, from record From of the log on.
	UsageExport struct {
		quiet
		From int64
	}
	// LogExport prints the log from record From on.
	LogExport struct {
		quiet
		From int64
	}
	LogVerify struct{ quiet }
	LogHealth struct{ quiet }

	NetworkShow   struct{ quiet }
	NetworkStatic struct {
		confirmed
		Address netip.Prefix
		Gateway netip.Addr
		DNS     netip.Addr
	}
	NetworkDHCP struct{ confirmed }

	OfficerList struct{ quiet }

	// OfficerAdd makes an administrator, or with a Group somebody who may maintain that group only.
	OfficerAdd struct {
		secret
		Officer Officer
		Group   Group
	}
	OfficerRemove struct {
		confirmed
		Officer Officer
	}
	OfficerPassphrase struct{ secret }
)
