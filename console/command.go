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
	Suite   string // p256, p384, rsa2048, rsa3072, rsa4096 or mlkem768p256
	Custody string // bound or replicable

	KeyState string // active, suspended, deactivated or compromised
)

// The suites and custodies that a command can name.
const (
	P256    Suite = "p256"
	RSA2048 Suite = "rsa2048"
	P384    Suite = "p384"
	RSA3072 Suite = "rsa3072"
	RSA4096 Suite = "rsa4096"
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

	SystemMaintenance  struct{ confirmed }
	SystemSecrets      struct{ quiet }
	SystemIdentity     struct{ quiet }
	SystemEvents       struct{ quiet }
	SystemSupport      struct{ quiet }
	Zeroize            struct{ confirmed }
	SystemTest         struct{ quiet }
	ServiceOnChallenge struct {
		confirmed
		Minutes int // of idleness after which it ends
	}
	ServiceAlways struct{ quiet }
	ServiceShow   struct{ quiet }

	EnrolRequest struct{ quiet }
	EnrolInstall struct{ pasted }
	EnrolListen  struct { // for the desk, on the port
		quiet
		Address netip.Prefix // zero: by DHCP
		Gateway netip.Addr   // may be zero
	}

	KeyGenerate struct {
		quiet
		Suite   Suite
		Custody Custody
		Access  kra.AccessID
		Label   Label // that it is bound to, or empty
	}
	KeyImport struct {
		pasted
		Custody Custody
		Access  kra.AccessID
	}
	// KeyImportKey shows to what a key is wrapped for import, and makes it if need be; KeyImportKeyNew puts another in its place.
	KeyImportKey    struct{ quiet }
	KeyImportKeyNew struct{ confirmed }
	KeyList         struct{ quiet }
	KeyMode         struct{ quiet }
	// KeyModeVault has new keys kept wrapped by the token, beside it; KeyModeResident, as its objects.
	KeyModeVault    struct{ confirmed }
	KeyModeResident struct{ confirmed }
	KeyShow         struct {
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
	// KeyRotate gives an access identifier a new current key of the same kind.
	KeyRotate struct {
		quiet
		Access kra.AccessID
	}
	KeyExpire struct {
		quiet
		Key KeyRef
		At  time.Time // zero: never
	}
	// KeyDelete has a key destroyed after a while.
	KeyDelete struct {
		confirmed
		Key   KeyRef
		After time.Duration // zero: the usual
	}
	KeyKeep struct {
		quiet
		Key KeyRef
	}
	KeyRequest struct {
		quiet
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
	// AccessRotate has an access identifier get a new current key every so often; zero: no longer.
	AccessRotate struct {
		quiet
		Access kra.AccessID
		Every  time.Duration
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
	// LogExport prints the log from record From on; -1 is the first that is there.
	LogExport struct {
		quiet
		From int64
	}
	// LogExported is an auditor's word that he has the first Size records, whose root is Root.
	LogExported struct {
		confirmed
		Size int64
		Root [32]byte
	}
	// LogPrune removes records before record Before, in whole files.
	LogPrune struct {
		confirmed
		Before int64
	}
	LogVerify struct{ quiet }
	LogHealth struct{ quiet }

	// TimeSourceAdd names a server that is asked for the time; the certificate of its authority is pasted.
	TimeSourceAdd struct {
		pasted
		Address string // HOST:PORT
	}
	TimeSourceRemove struct {
		confirmed
		Address string // HOST:PORT
	}

	NetworkShow   struct{ quiet }
	NetworkStatic struct {
		confirmed
		Address netip.Prefix
		Gateway netip.Addr
		DNS     []netip.Addr
	}
	NetworkDHCP struct{ confirmed }
	// NetworkSix gives the box a fixed IPv6 address besides.
	NetworkSix struct {
		confirmed
		Address netip.Prefix
		Gateway netip.Addr
	}
	NetworkSixAuto struct{ confirmed }
	NetworkSixOff  struct{ confirmed }
	// NetworkRouteAdd has a network elsewhere be reached by another gateway than the address's.
	NetworkRouteAdd struct {
		confirmed
		To  netip.Prefix
		Via netip.Addr
	}
	NetworkRouteRemove struct {
		confirmed
		To netip.Prefix
	}
	// NetworkHostName names the box for others on its network; without a name it has its own.
	NetworkHostName struct {
		confirmed
		Name string
	}
	NetworkConfirm struct{ quiet }

	OfficerList struct{ quiet }

	OfficerPassphrase struct{ secret }

	// OfficerCodes gives who says it a second factor, OfficerCodesOff takes it away again.
	OfficerCodes    struct{ secret }
	OfficerCodesOff struct{ secret }
)
