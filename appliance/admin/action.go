package admin

import (
	"context"
	"io"

	"github.com/keyrelease/krabox/appliance/store"
	"github.com/keyrelease/krabox/console"
	"github.com/keyrelease/krabox/kra/receipt"
)

// An action is how one kind of command is executed.
type action struct {
	fits func(console.Command) bool
	run  func(*step, context.Context) error
	long bool         // it may take long, changes nothing, and stops when nobody listens any more
	mend bool         // it changes no state, and without it a box whose log is broken could not be looked after
	room bool         // it makes room: it is done on a full disk too, though never without a record
	kind receipt.Kind // of the record that says what came of it; zero: Command
}

// does executes a command that may change something.
func does[C console.Command](f func(*step, context.Context, C) error) action {
	return action{fits: is[C], run: func(s *step, ctx context.Context) error { return f(s, ctx, s.command.(C)) }}
}

// tells executes a command that only looks.
func tells[C console.Command](f func(*step, C) error) action {
	return action{fits: is[C], run: func(s *step, _ context.Context) error { return f(s, s.command.(C)) }}
}

// just executes a command that has nothing but its name.
func just[C console.Command](f func(*step, context.Context) error) action {
	return action{fits: is[C], run: f}
}

// shows executes a command that only looks and has nothing but its name.
func shows[C console.Command](f func(*step) error) action {
	return action{fits: is[C], run: func(s *step, _ context.Context) error { return f(s) }}
}

func is[C console.Command](c console.Command) bool {
	_, ok := c.(C)
	return ok
}

func (a action) reading() action             { a.long = true; return a }
func (a action) mending() action             { a.mend = true; return a }
func (a action) freeing() action             { a.room = true; return a }
func (a action) noted(k receipt.Kind) action { a.kind = k; return a }
func nothing(*step) error                    { return nil }
func (s *step) help(c console.Help) error {
	_, err := io.WriteString(s, console.HelpText(c.Topic, s.a.c.Mode, dutyOf(s.officer)))
	return err
}

// actions are all of them, one for each kind of command.
var actions = []action{
	shows[console.Nothing](nothing),
	tells((*step).help).mending(),
	just[console.Logout]((*step).logout).mending(),
	just[console.Status]((*step).status).mending(),
	just[console.Reboot]((*step).reboot).mending(),
	just[console.PowerOff]((*step).powerOff).mending(),
	just[console.SystemMaintenance]((*step).maintenance).mending(),
	just[console.SystemSecrets]((*step).secrets),
	just[console.SystemIdentity]((*step).identity),
	just[console.SystemEvents]((*step).events),
	just[console.SystemSupport]((*step).support).mending(),
	shows[console.BootShow]((*step).bootShow),
	does((*step).bootAttended),
	just[console.BootNext]((*step).bootNext),
	just[console.BootShare]((*step).bootShare),
	just[console.BootUnattended]((*step).bootUnattended),
	just[console.BootRenew]((*step).bootRenew),
	just[console.Unlock]((*step).unlock),
	just[console.Zeroize]((*step).zeroize).mending(),
	just[console.SystemTest]((*step).systemTest),
	just[console.EnrolRequest]((*step).enrolRequest),
	just[console.EnrolInstall]((*step).enrolInstall).noted(receipt.Enrol),
	does((*step).enrolListen).reading(),

	just[console.EpochAdvance]((*step).epochAdvance).noted(receipt.Enrol),
	does((*step).operatorPresent),
	does((*step).operatorChallenge),
	just[console.OperatorAnswer]((*step).operatorAnswer),
	does((*step).operatorLeave),
	does((*step).serviceOnChallenge),
	just[console.ServiceAlways]((*step).serviceAlways),
	shows[console.ServiceShow]((*step).serviceShow),

	does((*step).keyGenerate),
	does((*step).keyImport),
	just[console.KeyImportKey]((*step).keyImportKey),
	just[console.KeyImportKeyNew]((*step).keyImportKeyNew),
	shows[console.KeyList]((*step).keyList),
	shows[console.KeyMode]((*step).keyMode),
	just[console.KeyModeVault]((*step).keyModeVault),
	just[console.KeyModeResident]((*step).keyModeResident),
	tells((*step).keyShow),
	does((*step).keyMark),
	does((*step).keyRotate),
	does((*step).keyExpire),
	does((*step).keyDelete),
	does((*step).keyKeep),
	tells((*step).keyRequest),
	does((*step).keyTag),
	does((*step).keyUntag),

	just[console.ReplicaRequest]((*step).replicaRequest),
	does((*step).replicaAdmit),
	does((*step).replicaSend),
	does((*step).replicaReceive),
	shows[console.ReplicaList]((*step).replicaList),
	does((*step).replicaDismiss),

	does((*step).backupKeyShares),
	does((*step).backupKeyAge),
	just[console.BackupKeyNext]((*step).backupKeyNext),
	just[console.BackupKeyRequest]((*step).backupKeyRequest),
	just[console.BackupKeyAccept]((*step).backupKeyAccept),
	just[console.BackupShare]((*step).backupShare),
	just[console.BackupMake]((*step).backupMake),
	just[console.BackupDisks]((*step).backupDisks).reading(),
	does((*step).backupMakeDisk),
	just[console.BackupVerify]((*step).backupVerify),
	does((*step).backupVerifyDisk),
	does((*step).backupRestoreDisk),
	does((*step).backupRestore),
	shows[console.BackupShow]((*step).backupShow),

	does((*step).accessAdd),
	shows[console.AccessList]((*step).accessList),
	tells((*step).accessShow),
	does((*step).accessTitle),
	does((*step).accessLists),
	does((*step).accessKeys),
	does((*step).accessRotate),
	does((*step).accessRemove),
	does((*step).accessDeliver),
	does((*step).accessPortion),
	does((*step).accessRules),
	does((*step).accessCedar),
	tells((*step).accessTest),
	tells((*step).whoAmI),

	does((*step).ruleAdd),
	does((*step).ruleSet),
	shows[console.RuleList]((*step).ruleList),
	tells((*step).ruleShow),
	does((*step).ruleRemove),

	does((*step).groupAdd),
	does((*step).groupRemove),
	does((*step).groupNest),
	does((*step).groupUnnest),
	does((*step).maintainerAdd),
	does((*step).maintainerRemove),
	shows[console.GroupList]((*step).groupList),
	tells((*step).groupShow),

	does((*step).roleAdd),
	does((*step).roleSet),
	shows[console.RoleList]((*step).roleList),
	tells((*step).roleShow),
	does((*step).roleRemove),
	shows[console.LevelsShow]((*step).levelsShow),
	does((*step).levelsSet),

	does((*step).trustAdd),
	shows[console.TrustList]((*step).trustList),
	does((*step).trustRemove),

	does((*step).platformOwn),
	does((*step).platformTrust),
	does((*step).platformLabel),
	does((*step).platformUnlabel),
	shows[console.PlatformList]((*step).platformList),
	does((*step).platformDistrust),

	does((*step).sourceAttribute),
	does((*step).sourceDirectory),
	does((*step).sourceIssuer),
	does((*step).sourceRepository),
	does((*step).sourceService),
	does((*step).sourceRevocation),
	does((*step).sourceMap),
	does((*step).sourceUnmap),
	does((*step).sourceClearance),
	does((*step).sourceSet),
	does((*step).sourceFilter),
	does((*step).sourceName),
	does((*step).sourceRenew),
	does((*step).sourceSecret),
	shows[console.SourceList]((*step).sourceList),
	tells((*step).sourceShow),
	does((*step).sourceRemove),

	does((*step).boardAdd),
	just[console.BoardInstall]((*step).boardInstall),
	shows[console.BoardShow]((*step).boardShow).mending(),
	just[console.BoardRemove]((*step).boardRemove),

	shows[console.TimeShow]((*step).timeShow).mending(),
	does((*step).timeSet).noted(receipt.Time),
	does((*step).timeSourceAdd).noted(receipt.Time),
	does((*step).timeSourceRemove).noted(receipt.Time),

	tells((*step).logShow).reading(),
	shows[console.LogSize]((*step).logSize).mending(),
	tells((*step).logExport).reading(),
	does((*step).logExported).freeing(),
	does((*step).logPrune).freeing(),
	just[console.LogVerify]((*step).logVerify).reading(),
	shows[console.LogHealth]((*step).logHealth).mending(),
	tells((*step).usageExport).reading(),

	does((*step).syslogAdd),
	shows[console.SyslogShow]((*step).syslogShow).mending(),
	just[console.SyslogRemove]((*step).syslogRemove),

	just[console.NetworkShow]((*step).networkShow).mending(),
	does((*step).networkStatic),
	just[console.NetworkDHCP]((*step).networkDHCP),
	does((*step).networkSix),
	just[console.NetworkSixAuto]((*step).networkSixAuto),
	just[console.NetworkSixOff]((*step).networkSixOff),
	does((*step).networkRouteAdd),
	does((*step).networkRouteRemove),
	does((*step).networkHostName),
	just[console.NetworkConfirm]((*step).networkConfirm),

	shows[console.OfficerList]((*step).officerList),
	does((*step).officerAdd),
	does((*step).officerRemove),
	does((*step).officerDuty),
	just[console.OfficerPassphrase]((*step).officerPassphrase).freeing(), // an auditor whom somebody gave hers makes no room
	just[console.OfficerCodes]((*step).officerCodes),
	just[console.OfficerCodesOff]((*step).officerCodesOff),
	does((*step).officerCodesRemove),

	shows[console.TeamList]((*step).teamList),
	does((*step).teamGive),

	shows[console.DualShow]((*step).dualShow),
	just[console.DualOn](dualSet(func(c *store.Control) { c.Off = false })),
	just[console.DualOff](dualSet(func(c *store.Control) { c.Off = true })),
	just[console.DualRulesOn](dualSet(func(c *store.Control) { c.Rules = true })),
	just[console.DualRulesOff](dualSet(func(c *store.Control) { c.Rules = false })),
	shows[console.PendingList]((*step).pendingList),
	does((*step).pendingShow),
	does((*step).approve),
	does((*step).reject),
}

// actionOf returns how a command is executed.
func actionOf(c console.Command) (action, bool) {
	for _, a := range actions {
		if a.fits(c) {
			return a, true
		}
	}
	return action{}, false
}
