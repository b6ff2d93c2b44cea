package console

import "github.com/keyrelease/krabox/kra"

// A Mode is the state of the box, which decides what can be asked of it.
type Mode string

// The modes.
const (
	Factory  Mode = "factory"  // not in service: no officers, no keys
	Enrolled Mode = "enrolled" // in service: an officer logs in
	Locked   Mode = "locked"   // refused to open: repair only

	Attended    Mode = "attended"    // measured, and waits for shares of its unlock secret
	Maintenance Mode = "maintenance" // opened nothing, until the domain approves what was measured
)

// A row is one form of a command. [x] may be left out, a|b is a choice, a word in capitals is a kind.
type row struct {
	form  string
	help  string
	modes string // the modes beside enrolled in which it works: f, l, m, a
	by    Rights // who may run it once the box is enrolled, and whether that takes a second officer
	make  func(args) Command
}

// idleMinutes is after how long an idle service ends if nothing is said.
const idleMinutes = 10

// table is the whole grammar. Parsing, help, completion and MANUAL.md come from it.
var table = []row{
	{"status", "what this box is and how it is", "flma", inService &^ byTeam, func(args) Command { return Status{} }},

	{"enrol request", "print what the domain needs to take this box into service, or to approve its new firmware", "fm", byOfficer | byOperator, func(args) Command { return EnrolRequest{} }},
	{"enrol install", "paste a bundle of the domain: enrolment, or approvals of new software", "flm", byOfficer | byOperator, func(args) Command { return EnrolInstall{} }},
	{"enrol listen", "let the desk take this box into service over the network: shows a one-time code for it, good for ten minutes", "f", byOfficer, func(args) Command { return EnrolListen{} }},
	{"enrol listen at PREFIX [gateway GATEWAY]", "the same at a fixed address", "f", byOfficer, func(a args) Command {
		return EnrolListen{Address: a.prefix(), Gateway: a.addr("GATEWAY")}
	}},

	{"epoch advance", "let this box refuse all older releases, if the domain approved that for what runs", "", byOfficer, func(args) Command { return EpochAdvance{} }},

	{"operator present LABEL [for SECONDS]", "give the presence passphrase: a label that wants an operator may sign, for ten minutes at most", "", byOfficer | byOperator, func(a args) Command {
		return OperatorPresent{Label: a.label(), For: a.seconds()}
	}},
	{"operator challenge LABEL [for SECONDS]", "print what an operator's token is to sign (kra operator answer)", "", byOfficer | byOperator, func(a args) Command {
		return OperatorChallenge{Label: a.label(), For: a.seconds()}
	}},
	{"operator answer", "paste the token's answer: the label may sign", "", byOfficer | byOperator, func(args) Command { return OperatorAnswer{} }},
	{"operator leave LABEL", "no operator is present any longer", "", byOfficer | byOperator, func(a args) Command { return OperatorLeave{Label: a.label()} }},

	{"service on-challenge [idle NUMBER]", "start key release when a challenge asks for it, and end it after NUMBER minutes without a request (10)", "", byOfficer | byOperator, func(a args) Command {
		return ServiceOnChallenge{Minutes: int(a.number("NUMBER", idleMinutes))}
	}},
	{"service always", "have key release be there always", "", byOfficer | byOperator, func(args) Command { return ServiceAlways{} }},
	{"service show", "whether key release is there, and when it is", "", byOfficer | byOperator | byAuditor, func(args) Command { return ServiceShow{} }},

	{"key generate p256|p384|mlkem768p256 [bound|replicable] for ACCESS", "make a key; it becomes the current key of ACCESS", "", byOfficer | byTeam, func(a args) Command {
		return KeyGenerate{Suite: a.suite(), Custody: a.custody(), Access: a.access()}
	}},
	{"key generate rsa3072|rsa4096 [bound|replicable] for ACCESS", "the same with RSA", "", byOfficer | byTeam, func(a args) Command {
		return KeyGenerate{Suite: a.suite(), Custody: a.custody(), Access: a.access()}
	}},
	{"key generate p256|p384|rsa3072|rsa4096|mlkem768p256 for ACCESS label LABEL", "make a key that can be used only while the box has this label, and dies with the box", "", byOfficer | byTeam, func(a args) Command {
		return KeyGenerate{Suite: a.suite(), Custody: Bound, Access: a.access(), Label: a.label()}
	}},
	{"key import [bound|replicable] for ACCESS", "paste a private key (P-256, P-384, RSA-2048, -3072 or -4096), wrapped or as PKCS#8, for ACCESS", "", byOfficer | byTeam | secondForRules, func(a args) Command {
		return KeyImport{Custody: a.custody(), Access: a.access()}
	}},
	{"key import-key", "print the certificate of the key to which a private key is wrapped for import here", "", byOfficer | byTeam, func(args) Command { return KeyImportKey{} }},
	{"key import-key new", "make another; what was wrapped to the last one is taken no more", "", byOfficer, func(args) Command { return KeyImportKeyNew{} }},
	{"key list", "access identifiers and their keys", "", byOfficer | byTeam | byAuditor, func(args) Command { return KeyList{} }},
	{"key mode", "where new keys are kept, and how many keys are where", "", byOfficer | byTeam | byAuditor, func(args) Command { return KeyMode{} }},
	{"key mode vault", "keep new keys wrapped by the HSM, in the box's state: for more than some thousands", "", byOfficer | second, func(args) Command { return KeyModeVault{} }},
	{"key mode resident", "keep new keys as objects of the HSM again", "", byOfficer, func(args) Command { return KeyModeResident{} }},
	{"key show KEY", "one key, its certificate and where it is used", "", byOfficer | byTeam | byAuditor, func(a args) Command { return KeyShow{Key: KeyRef(a.get("KEY"))} }},
	{"key mark KEY active|suspended|deactivated|compromised", "change what a key may be used for; a current key stays active", "", byOfficer | byTeam | second, func(a args) Command {
		return KeyMark{Key: KeyRef(a.get("KEY")), State: KeyState(a.pick("active", "suspended", "deactivated", "compromised"))}
	}},
	{"key rotate ACCESS", "make a new current key like the present one, which stays for what was encrypted to it", "", byOfficer | byTeam, func(a args) Command {
		return KeyRotate{Access: a.access()}
	}},
	{"key expire KEY at TIME", "deactivate a key then; where it is current, rotate", "", byOfficer | byTeam, func(a args) Command {
		return KeyExpire{Key: KeyRef(a.get("KEY")), At: a.time()}
	}},
	{"key expire KEY never", "take that back", "", byOfficer | byTeam, func(a args) Command { return KeyExpire{Key: KeyRef(a.get("KEY"))} }},
	{"key delete KEY [after EVERY]", "destroy a key after a while (7d); until then it opens nothing, and can be kept", "", byOfficer | byTeam | second, func(a args) Command {
		return KeyDelete{Key: KeyRef(a.get("KEY")), After: a.span("EVERY")}
	}},
	{"key keep KEY", "take back that a key is to be destroyed", "", byOfficer | byTeam, func(a args) Command { return KeyKeep{Key: KeyRef(a.get("KEY"))} }},
	{"key request KEY", "a certification request for a key, or what there is in its place", "", byOfficer | byTeam | byAuditor, func(a args) Command { return KeyRequest{Key: KeyRef(a.get("KEY"))} }},
	{"key tag KEY", "let stock age encrypt to a key by its age1tag recipient; new keys are while there are few", "", byOfficer | byTeam, func(a args) Command { return KeyTag{Key: KeyRef(a.get("KEY"))} }},
	{"key untag KEY", "release no longer what stock age encrypts to a key", "", byOfficer | byTeam, func(a args) Command { return KeyUntag{Key: KeyRef(a.get("KEY"))} }},

	{"replica request", "print what another box needs to give this one copies of its keys", "", byOfficer | byBackup, func(args) Command { return ReplicaRequest{} }},
	{"replica admit BOX", "paste a box's request: copies of replicable keys may then be sent to it", "", byOfficer | second, func(a args) Command { return ReplicaAdmit{Box: a.box()} }},
	{"replica send all to BOX", "print copies of all replicable keys for a box that was admitted", "", byOfficer | byBackup | second, func(a args) Command { return ReplicaSend{Box: a.box()} }},
	{"replica send to BOX ACCESSES", "print copies of the keys of these access identifiers", "", byOfficer | byBackup | second, func(a args) Command {
		return ReplicaSend{Box: a.box(), Access: a.accesses()}
	}},
	{"replica receive from BOX", "paste the copies that a box has sent", "", byOfficer, func(a args) Command { return ReplicaReceive{Box: a.box()} }},
	{"replica list", "the boxes that were admitted, and where copies came from", "", byOfficer | byAuditor | byBackup, func(args) Command { return ReplicaList{} }},
	{"replica dismiss BOX", "send copies to a box no longer; what it has, it keeps", "", byOfficer, func(a args) Command { return ReplicaDismiss{Box: a.box()} }},

	{"backup key shares NUMBER of NUMBER", "make a new backup key: so many of so many shares open a backup; backup key next shows them", "", byOfficer | second, func(a args) Command {
		return BackupKeyShares{Threshold: a.numbered("NUMBER", 0), Shares: a.numbered("NUMBER", 1)}
	}},
	{"backup key age RECIPIENTS", "make a new backup key, encrypted to recipients of age instead of split", "", byOfficer | second, func(a args) Command {
		return BackupKeyAge{Recipients: a.words["RECIPIENTS"]}
	}},
	{"backup key next", "show the next share of the backup key that is being made, to be written down", "", byOfficer, func(args) Command { return BackupKeyNext{} }},
	{"backup key request", "print what the domain needs to approve the backup key whose shares were written down", "", byOfficer | byBackup, func(args) Command { return BackupKeyRequest{} }},
	{"backup key accept", "paste the domain's approval: the backup key is this box's from then on", "", byOfficer, func(args) Command { return BackupKeyAccept{} }},
	{"backup share", "type one share: says whether it is right, and gives it to what waits for it", "", byOfficer | byBackup, func(args) Command { return BackupShare{} }},
	{"backup make", "print a backup of this box: its state and its replicable keys", "", byOfficer | byBackup, func(args) Command { return BackupMake{} }},
	{"backup disks", "the disks that are plugged in, without the box's own: what each is and holds", "", byOfficer | byAuditor | byBackup, func(args) Command { return BackupDisks{} }},
	{"backup make to disk DISK", "write a backup on a whole disk, in place of all that is there, and read it back", "", byOfficer | byBackup, func(a args) Command {
		return BackupMakeDisk{Disk: a.disk()}
	}},
	{"backup verify", "paste a backup: says what it is, and with shares whether it opens; restores nothing", "", byOfficer | byBackup | byAuditor, func(args) Command { return BackupVerify{} }},
	{"backup verify from disk DISK", "the same with the backup on a disk", "", byOfficer | byBackup | byAuditor, func(a args) Command { return BackupVerifyDisk{Disk: a.disk()} }},
	{"backup restore BOX", "paste a backup of BOX, to make this new box what that one was", "", byOfficer | second, func(a args) Command { return BackupRestore{Box: a.box()} }},
	{"backup restore BOX from disk DISK", "the same with the backup on a disk", "", byOfficer | second, func(a args) Command {
		return BackupRestoreDisk{Box: a.box(), Disk: a.disk()}
	}},
	{"backup show", "the backup key, the last backup, and what no backup has", "", byOfficer | byAuditor | byBackup, func(args) Command { return BackupShow{} }},

	{"access add ACCESS [TITLE]", "make an access identifier", "", byOfficer | byTeam, func(a args) Command { return AccessAdd{Access: a.access(), Title: a.get("TITLE")} }},
	{"access list", "all access identifiers", "", byOfficer | byTeam | byAuditor, func(args) Command { return AccessList{} }},
	{"access show ACCESS", "one access identifier: keys and rule lists", "", byOfficer | byTeam | byAuditor, func(a args) Command { return AccessShow{Access: a.access()} }},
	{"access title ACCESS TITLE", "change the title", "", byOfficer | byTeam, func(a args) Command { return AccessTitle{Access: a.access(), Title: a.get("TITLE")} }},
	{"access lists ACCESS is LIST", "set the rule lists, separated by ; and tried in order", "", byOfficer | byTeam | secondForRules, func(a args) Command {
		return AccessLists{Access: a.access(), Lists: a.lists()}
	}},
	{"access rotate ACCESS every EVERY", "make a new current key that often, by a trusted clock", "", byOfficer | byTeam, func(a args) Command {
		return AccessRotate{Access: a.access(), Every: a.span("EVERY")}
	}},
	{"access rotate ACCESS never", "rotate by hand only", "", byOfficer | byTeam, func(a args) Command { return AccessRotate{Access: a.access()} }},
	{"access keys ACCESS KEYS", "set the keys; the first is the current one", "", byOfficer | byTeam | secondForRules, func(a args) Command { return AccessKeys{Access: a.access(), Keys: a.keys()} }},
	{"access remove ACCESS", "remove an access identifier; its keys stay in the box", "", byOfficer | byTeam | secondForRules, func(a args) Command { return AccessRemove{Access: a.access()} }},
	{"access deliver ACCESS anyone|channel", "hand its keys to anyone, encrypted to the certificate that the rules let pass, or only to who proved to have it", "", byOfficer | byTeam | secondForRules, func(a args) Command {
		return AccessDeliver{Access: a.access(), Delivery: Delivery(a.pick("anyone", "channel"))}
	}},
	{"access portion ACCESS whole|part", "release from whole age headers only, or also from what age shows its plugins", "", byOfficer | byTeam | secondForRules, func(a args) Command {
		return AccessPortion{Access: a.access(), Portion: Portion(a.pick("whole", "part"))}
	}},
	{"access logic ACCESS cedar", "paste Cedar policies that decide in place of rule lists", "", byOfficer | byTeam | secondForRules, func(a args) Command { return AccessCedar{Access: a.access()} }},
	{"access logic ACCESS rules", "have rule lists decide again; there are none at first", "", byOfficer | byTeam | secondForRules, func(a args) Command { return AccessRules{Access: a.access()} }},
	{"access test ACCESS as|for DECRYPTOR [from ADDRESS] [at TIME] [with ITEMS]", "what would be decided, and why; for: whoever asks proves nothing", "", byOfficer | byTeam | byAuditor, func(a args) Command {
		return AccessTest{Access: a.access(), As: a.decryptor(), Unproven: a.pick("for") != "", From: a.addr("ADDRESS"), At: a.time(), With: a.items("ITEMS")}
	}},
	{"who-am-i DECRYPTOR [from ADDRESS] [at TIME] [with ITEMS]", "the access identifiers that somebody belongs to", "", byOfficer | byTeam | byAuditor, func(a args) Command {
		return WhoAmI{As: a.decryptor(), From: a.addr("ADDRESS"), At: a.time(), With: a.items("ITEMS")}
	}},

	{"rule add RULE is EXPRESSION", "make a rule from a condition", "", byOfficer | byTeam | secondForRules, func(a args) Command { return RuleAdd{Rule: a.rule(), Expr: a.get("EXPRESSION")} }},
	{"rule add RULE role|clearance|ask CONDITION", "make a rule for roles, clearances or what a service allows, in any combination", "", byOfficer | byTeam | secondForRules, func(a args) Command { return RuleAdd{Rule: a.rule(), Expr: a.short()} }},
	{"rule add RULE when|from|group|platform|id|under|until|after CONDITION", "make a rule for times, networks, groups or persons, in any combination", "", byOfficer | byTeam | secondForRules, func(a args) Command { return RuleAdd{Rule: a.rule(), Expr: a.short()} }},
	{"rule set RULE is EXPRESSION", "change a rule, wherever it is used", "", byOfficer | byTeam | secondForRules, func(a args) Command { return RuleSet{Rule: a.rule(), Expr: a.get("EXPRESSION")} }},
	{"rule set RULE role|clearance|ask CONDITION", "change a rule to roles, clearances or what a service allows, in any combination", "", byOfficer | byTeam | secondForRules, func(a args) Command { return RuleSet{Rule: a.rule(), Expr: a.short()} }},
	{"rule set RULE when|from|group|platform|id|under|until|after CONDITION", "change a rule to times, networks, groups or persons", "", byOfficer | byTeam | secondForRules, func(a args) Command { return RuleSet{Rule: a.rule(), Expr: a.short()} }},
	{"rule list", "all rules and where they are used", "", byOfficer | byTeam | byAuditor, func(args) Command { return RuleList{} }},
	{"rule show RULE", "one rule", "", byOfficer | byTeam | byAuditor, func(a args) Command { return RuleShow{Rule: a.rule()} }},
	{"rule remove RULE", "remove a rule that is not used", "", byOfficer | byTeam | secondForRules, func(a args) Command { return RuleRemove{Rule: a.rule()} }},

	{"group add GROUP DECRYPTOR", "put a decryptor into a group; a new group is made", "", byOfficer | byTeam | byMaintainer, func(a args) Command { return GroupAdd{Group: a.group(), Member: a.decryptor()} }},
	{"group remove GROUP [DECRYPTOR]", "take a decryptor out of a group, or remove the group", "", byOfficer | byTeam | byMaintainer, func(a args) Command { return GroupRemove{Group: a.group(), Member: a.decryptor()} }},
	{"group nest GROUP in GROUP", "make the members of the first group members of the second", "", byOfficer | byTeam | secondForRules, func(a args) Command {
		return GroupNest{Group: a.group(), In: Group(a.nth("GROUP", 1))}
	}},
	{"group unnest GROUP from GROUP", "take the first group out of the second", "", byOfficer | byTeam | secondForRules, func(a args) Command {
		return GroupUnnest{Group: a.group(), From: Group(a.nth("GROUP", 1))}
	}},
	{"group maintainer GROUP add DECRYPTOR", "let a decryptor change the members of the group, by signed statements (kra group)", "", byOfficer | byTeam | secondForRules, func(a args) Command {
		return MaintainerAdd{Group: a.group(), Member: a.decryptor()}
	}},
	{"group maintainer GROUP remove DECRYPTOR", "let a decryptor change the members of the group no longer", "", byOfficer | byTeam | secondForRules, func(a args) Command {
		return MaintainerRemove{Group: a.group(), Member: a.decryptor()}
	}},
	{"group list", "all groups", "", byOfficer | byTeam | byAuditor, func(args) Command { return GroupList{} }},
	{"group show GROUP", "the members of a group", "", byOfficer | byTeam | byAuditor | byMaintainer, func(a args) Command { return GroupShow{Group: a.group()} }},

	{"trust add ALIAS [whole|common]", "paste a certification authority of decryptors; their name is the whole subject or the common name", "", byOfficer | secondForRules, func(a args) Command {
		return TrustAdd{Alias: a.alias(), Name: a.naming()}
	}},
	{"role add ROLE needs NEEDS", "make a role: all that one must be known to have", "", byOfficer | secondForRules, func(a args) Command { return RoleAdd{Role: Role(a.get("ROLE")), Needs: a.items("NEEDS")} }},
	{"role set ROLE needs NEEDS", "change a role, wherever it is used", "", byOfficer | secondForRules, func(a args) Command { return RoleSet{Role: Role(a.get("ROLE")), Needs: a.items("NEEDS")} }},
	{"role list", "all roles", "", byOfficer | byAuditor, func(args) Command { return RoleList{} }},
	{"role show ROLE", "what a role needs", "", byOfficer | byAuditor, func(a args) Command { return RoleShow{Role: Role(a.get("ROLE"))} }},
	{"role remove ROLE", "remove a role that is not used", "", byOfficer | secondForRules, func(a args) Command { return RoleRemove{Role: Role(a.get("ROLE"))} }},

	{"levels show", "the classification levels, lowest first", "", byOfficer | byAuditor, func(args) Command { return LevelsShow{} }},
	{"levels set [LEVELS]", "name the classification levels, lowest first; none: the usual five", "", byOfficer | secondForRules, func(a args) Command { return LevelsSet{Levels: a.words["LEVELS"]} }},

	{"trust list", "all certification authorities of decryptors", "", byOfficer | byAuditor, func(args) Command { return TrustList{} }},
	{"trust remove ALIAS", "trust a certification authority no longer", "", byOfficer | second, func(a args) Command { return TrustRemove{Alias: a.alias()} }},

	{"platform trust ALIAS own", "let platforms of this box's own domain be decryptors", "", byOfficer | secondForRules, func(a args) Command { return PlatformOwn{Alias: a.alias()} }},
	{"platform trust ALIAS domain DOMAIN", "let platforms of another domain be decryptors; paste its root", "", byOfficer | secondForRules, func(a args) Command {
		return PlatformTrust{Alias: a.alias(), Domain: a.get("DOMAIN")}
	}},
	{"platform label PLATFORMS LABEL [as WORD] [means DIGEST]", "have a label count; of another domain where platforms state that it means this", "", byOfficer | secondForRules, func(a args) Command {
		return PlatformLabel{Alias: kra.Anchor(a.get("PLATFORMS")), Label: a.get("LABEL"), As: a.get("WORD"), Means: a.get("DIGEST")}
	}},
	{"platform unlabel PLATFORMS LABEL", "have a label of a domain count no longer", "", byOfficer | secondForRules, func(a args) Command {
		return PlatformUnlabel{Alias: kra.Anchor(a.get("PLATFORMS")), Label: a.get("LABEL")}
	}},
	{"platform list", "the domains whose platforms may be decryptors, and what their labels count as", "", byOfficer | byAuditor, func(args) Command { return PlatformList{} }},
	{"platform distrust PLATFORMS", "let platforms of a domain be decryptors no longer", "", byOfficer | second, func(a args) Command {
		return PlatformDistrust{Alias: kra.Anchor(a.get("PLATFORMS"))}
	}},

	{"source add attribute ALIAS may KINDS of ANCHOR", "paste the certificate of an authority that says what the decryptors of ANCHOR are", "", byOfficer | secondForRules, func(a args) Command {
		return SourceAttribute{Alias: a.alias(), May: a.infoKinds(), Of: a.anchor()}
	}},
	{"source add directory ALIAS may KINDS of ANCHOR at LDAPS base DN [bind USER]", "read a directory server; paste the certification authority of the server", "", byOfficer | secondForRules, func(a args) Command {
		return SourceDirectory{Alias: a.alias(), May: a.infoKinds(), Of: a.anchor(), URL: a.get("LDAPS"), Base: a.get("DN"), Bind: a.get("USER")}
	}},
	{"source add issuer ALIAS may KINDS at ISSUER for AUDIENCE", "accept tokens; paste the issuer's public keys (JSON Web Key Set)", "", byOfficer | secondForRules, func(a args) Command {
		return SourceIssuer{Alias: a.alias(), May: a.infoKinds(), Issuer: a.get("ISSUER"), Audience: a.get("AUDIENCE")}
	}},
	{"source add repository ALIAS [at HTTPS]", "use a key repository; paste its public key, and its entries or the server's authority", "", byOfficer | secondForRules, func(a args) Command {
		return SourceRepository{Alias: a.alias(), URL: a.get("HTTPS")}
	}},
	{"source add service ALIAS at HTTPS reserve|verify charge platform|subject", "ask a service in rules; paste the certification authority of the server", "", byOfficer | secondForRules, func(a args) Command {
		return SourceService{Alias: a.alias(), URL: a.get("HTTPS"), Mode: Asking(a.pick("reserve", "verify")), Charge: Payer(a.pick("platform", "subject"))}
	}},
	{"source add crl ALIAS of ANCHOR [at URL]", "hold the certificates of an authority against a list that is fetched or pasted", "", byOfficer | secondForRules, func(a args) Command {
		return SourceRevocation{Alias: a.alias(), Of: a.anchor(), URL: a.get("URL")}
	}},
	{"source map ALIAS group|role|clearance from FIELD", "what a directory or token says there are groups, roles or clearances", "", byOfficer | secondForRules, func(a args) Command {
		return SourceMap{Alias: a.alias(), Kind: InfoKind(a.pick("group", "role", "clearance")), From: Field(a.get("FIELD"))}
	}},
	{"source map ALIAS attribute|device|alias NAME from FIELD", "what a directory or token says there is a named attribute, or a mail, dns, uri or upn alias", "", byOfficer | secondForRules, func(a args) Command {
		return SourceMap{Alias: a.alias(), Kind: InfoKind(a.pick("attribute", "device", "alias")), Name: a.get("NAME"), From: Field(a.get("FIELD"))}
	}},
	{"source unmap ALIAS FIELD", "do not use a field any longer", "", byOfficer | secondForRules, func(a args) Command { return SourceUnmap{Alias: a.alias(), From: Field(a.get("FIELD"))} }},
	{"source clearance ALIAS POLICY [MARKS]", "what the clearances of a policy mean in an attribute authority's certificates", "", byOfficer | secondForRules, func(a args) Command {
		return SourceClearance{Alias: a.alias(), Policy: a.get("POLICY"), Marks: a.marks()}
	}},
	{"source set ALIAS every|age|timeout|inflight NUMBER", "seconds between two looks, and that what was seen lasts; a service's milliseconds, and questions at once", "", byOfficer | secondForRules, func(a args) Command {
		return SourceSet{Alias: a.alias(), Setting: Setting(a.pick("every", "age", "timeout", "inflight")), Number: int(a.number("NUMBER", 0))}
	}},
	{"source filter ALIAS FILTER", "read only those entries of a directory", "", byOfficer | secondForRules, func(a args) Command { return SourceFilter{Alias: a.alias(), Filter: a.get("FILTER")} }},
	{"source name ALIAS FIELD", "the field of a directory's entries that holds the decryptor's name", "", byOfficer | secondForRules, func(a args) Command { return SourceName{Alias: a.alias(), Field: Field(a.get("FIELD"))} }},
	{"source renew ALIAS", "paste a further certificate, or a new key set, list or set of entries", "", byOfficer | secondForRules, func(a args) Command { return SourceRenew{Alias: a.alias()} }},
	{"source secret ALIAS", "change the password of a directory or the value that a service gets", "", byOfficer, func(a args) Command { return SourceSecret{Alias: a.alias()} }},
	{"source list", "who says what of decryptors", "", byOfficer | byAuditor, func(args) Command { return SourceList{} }},
	{"source show ALIAS", "one source; its secrets are not shown", "", byOfficer | byAuditor, func(a args) Command { return SourceShow{Alias: a.alias()} }},
	{"source remove ALIAS", "use a source no longer", "", byOfficer | second, func(a args) Command { return SourceRemove{Alias: a.alias()} }},

	{"board add URL [every EVERY] [limit LIMIT]", "advertise on the domain's board, and look there what the box may be; without a look for that long it releases nothing", "", byOfficer | second, func(a args) Command {
		return BoardAdd{URL: a.get("URL"), Every: a.span("EVERY"), Limit: a.span("LIMIT")}
	}},
	{"board install", "paste permissions of the domain (KRA PERMISSIONS)", "", byOfficer | byOperator, func(args) Command { return BoardInstall{} }},
	{"board show", "what the box advertises, what the domain permits, and when it last looked", "", byOfficer | byOperator | byAuditor, func(args) Command { return BoardShow{} }},
	{"board remove", "ask no board any longer; what the domain has permitted stays in force", "", byOfficer | second, func(args) Command { return BoardRemove{} }},

	{"time show", "the clock, and who vouches for it", "", byOfficer | byOperator | byAuditor | byBackup, func(args) Command { return TimeShow{} }},
	{"time set TIME", "set the clock; it is then manual: your word is what rules rely on", "", byOfficer | byOperator | second, func(a args) Command { return TimeSet{At: a.time()} }},

	{"time source add SERVER", "ask a server for the time over NTS; paste the certificate of its authority", "", byOfficer | byOperator | second, func(a args) Command {
		return TimeSourceAdd{Address: a.server()}
	}},
	{"time source remove SERVER", "ask a server for the time no longer", "", byOfficer | byOperator | second, func(a args) Command {
		return TimeSourceRemove{Address: a.server()}
	}},

	{"log show [COUNT]", "the newest records of the log", "", byOfficer | byAuditor, func(a args) Command { return LogShow{Count: int(a.number("COUNT", 20))} }},
	{"log size", "size and root of the log", "", byOfficer | byOperator | byAuditor | byBackup, func(args) Command { return LogSize{} }},
	{"log export [from INDEX]", "print the log for an auditor (kra log verify reads it)", "", byOfficer | byAuditor | byBackup, func(a args) Command { return LogExport{From: a.number("INDEX", -1)} }},
	{"log exported SIZE ROOT", "acknowledge that you keep an export of the first SIZE records, verified: they may then be removed here (log prune)", "", byAuditor, func(a args) Command {
		return LogExported{Size: a.number("SIZE", 0), Root: a.root()}
	}},
	{"log prune before INDEX", "remove old records, in whole files, that an auditor acknowledged as exported; receipts go on verifying", "", byOfficer | second, func(a args) Command {
		return LogPrune{Before: a.number("INDEX", 0)}
	}},
	{"log verify", "check the log: tree, signatures, one record for each unwrap", "", byOfficer | byAuditor, func(args) Command { return LogVerify{} }},
	{"log health", "whether the log can be written; if not, nothing is released", "", byOfficer | byOperator | byAuditor | byBackup, func(args) Command { return LogHealth{} }},
	{"usage export [from INDEX]", "who was given how many keys of what, as CSV, from a record of the log on", "", byOfficer | byAuditor, func(a args) Command { return UsageExport{From: a.number("INDEX", 0)} }},

	{"syslog add COLLECTOR [from INDEX]", "forward the log, from a record on, to a syslog server over TLS (RFC 5424, 5425); paste its authority", "", byOfficer | second, func(a args) Command { return a.syslog() }},
	{"syslog show", "where the log is forwarded to, how far that is behind, and the last error", "", byOfficer | byOperator | byAuditor, func(args) Command { return SyslogShow{} }},
	{"syslog remove", "forward the log no longer", "", byOfficer | second, func(args) Command { return SyslogRemove{} }},

	{"network show", "the network configuration", "", byOfficer | byOperator | byAuditor, func(args) Command { return NetworkShow{} }},
	{"network static PREFIX [gateway GATEWAY] [dns DNS]", "use a fixed address, on trial for two minutes", "", byOfficer | byOperator, func(a args) Command {
		return NetworkStatic{Address: a.prefix(), Gateway: a.addr("GATEWAY"), DNS: a.addrs("DNS")}
	}},
	{"network ipv6 static PREFIX [gateway GATEWAY]", "use a fixed IPv6 address besides, on trial", "", byOfficer | byOperator, func(a args) Command {
		return NetworkSix{Address: a.prefix(), Gateway: a.addr("GATEWAY")}
	}},
	{"network ipv6 auto", "take an IPv6 address from router advertisements besides, on trial", "", byOfficer | byOperator, func(args) Command { return NetworkSixAuto{} }},
	{"network ipv6 off", "use no IPv6 address besides, on trial", "", byOfficer | byOperator, func(args) Command { return NetworkSixOff{} }},
	{"network route add DESTINATION via GATEWAY", "reach another network by a gateway of its own, on trial; eight at most", "", byOfficer | byOperator, func(a args) Command {
		return NetworkRouteAdd{To: a.destination(), Via: a.addr("GATEWAY")}
	}},
	{"network route remove DESTINATION", "take that back, on trial", "", byOfficer | byOperator, func(a args) Command { return NetworkRouteRemove{To: a.destination()} }},
	{"network hostname HOSTNAME", "what DHCP and syslog servers are told that the box is called, on trial; its certificate's names are the domain's", "", byOfficer | byOperator, func(a args) Command {
		return NetworkHostName{Name: a.get("HOSTNAME")}
	}},
	{"network hostname default", "the box's own name again, on trial", "", byOfficer | byOperator, func(args) Command { return NetworkHostName{} }},
	{"network confirm", "keep the network configuration that is on trial", "", byOfficer | byOperator, func(args) Command { return NetworkConfirm{} }},
	{"network dhcp", "take the address from a DHCP server, on trial for two minutes", "", byOfficer | byOperator, func(args) Command { return NetworkDHCP{} }},

	{"officer list", "who may administer this box", "", byOfficer | byAuditor, func(args) Command { return OfficerList{} }},
	{"officer add OFFICER [as operator|auditor|backup]", "let somebody else administer this box, or only operate it, audit it or make copies of it", "", byOfficer | second, func(a args) Command {
		return OfficerAdd{Officer: a.officer(), Duty: a.duty()}
	}},
	{"officer add OFFICER maintainer GROUP", "let somebody maintain one group", "", byOfficer | second, func(a args) Command {
		return OfficerAdd{Officer: a.officer(), Duty: DutyMaintainer, Group: a.group()}
	}},
	{"officer duty OFFICER box|operator|auditor|backup", "give somebody another duty; box: an officer of the whole box", "", byOfficer | second, func(a args) Command {
		return OfficerDuty{Officer: a.officer(), Duty: a.duty()}
	}},
	{"officer duty OFFICER maintainer GROUP", "let somebody maintain one group and nothing else", "", byOfficer | second, func(a args) Command {
		return OfficerDuty{Officer: a.officer(), Duty: DutyMaintainer, Group: a.group()}
	}},
	{"officer add OFFICER team TEAM", "let somebody administer what a team has: its access identifiers, rules, groups and keys", "", byOfficer | second, func(a args) Command {
		return OfficerAdd{Officer: a.officer(), Duty: DutyTeam, Team: a.team()}
	}},
	{"officer duty OFFICER team TEAM", "let somebody administer what a team has, and nothing else", "", byOfficer | second, func(a args) Command {
		return OfficerDuty{Officer: a.officer(), Duty: DutyTeam, Team: a.team()}
	}},
	{"officer remove OFFICER", "let an officer administer this box no longer", "", byOfficer | second, func(a args) Command { return OfficerRemove{Officer: a.officer()} }},
	{"officer passphrase", "change your passphrase", "", everybody, func(args) Command { return OfficerPassphrase{} }},
	{"officer totp", "take a second factor: each log-in of yours asks for a code of an authenticator besides the passphrase; shows its secret, once", "", everybody, func(args) Command { return OfficerCodes{} }},
	{"officer totp off", "give your second factor up; asks for a code of it", "", everybody, func(args) Command { return OfficerCodesOff{} }},
	{"officer totp remove OFFICER", "take the second factor away from somebody who has lost it", "", byOfficer | second, func(a args) Command {
		return OfficerCodesRemove{Officer: a.officer()}
	}},

	{"dual-control show", "what waits for a second officer", "", inService, func(args) Command { return DualShow{} }},
	{"dual-control on", "have what weakens or destroys wait for a second officer again", "", byOfficer, func(args) Command { return DualOn{} }},
	{"dual-control off", "let one officer do everything alone", "", byOfficer | second, func(args) Command { return DualOff{} }},
	{"dual-control rules on", "have what changes who gets keys wait too", "", byOfficer, func(args) Command { return DualRulesOn{} }},
	{"dual-control rules off", "let one officer change who gets keys", "", byOfficer | second, func(args) Command { return DualRulesOff{} }},
	{"pending", "what waits for a second officer", "", inService, func(args) Command { return PendingList{} }},
	{"pending show REQUEST", "one request: what it would do, and what was pasted with it", "", inService, func(a args) Command { return PendingShow{Request: a.request()} }},
	{"approve REQUEST", "have done what another officer asked for", "", byOfficer | byTeam, func(a args) Command { return Approve{Request: a.request()} }},
	{"reject REQUEST", "refuse what another officer asked for, or withdraw what you did", "", byOfficer | byTeam | byOperator | byBackup, func(a args) Command { return Reject{Request: a.request()} }},

	{"team list", "the teams, and what each has", "", byOfficer | byAuditor, func(args) Command { return TeamList{} }},
	{"team give TEAM access ACCESS", "give a team an access identifier; its keys go with it", "", byOfficer | second, func(a args) Command { return a.thing() }},
	{"team give TEAM rule RULE", "give a team a rule", "", byOfficer | second, func(a args) Command { return a.thing() }},
	{"team give TEAM group GROUP", "give a team a group", "", byOfficer | second, func(a args) Command { return a.thing() }},
	{"team free access ACCESS", "give an access identifier to no team", "", byOfficer | second, func(a args) Command { return a.thing() }},
	{"team free rule RULE", "give a rule to no team", "", byOfficer | second, func(a args) Command { return a.thing() }},
	{"team free group GROUP", "give a group to no team", "", byOfficer | second, func(a args) Command { return a.thing() }},

	{"system maintenance", "restart the box for maintenance, once: nothing is opened or released", "", byOfficer | byOperator, func(args) Command { return SystemMaintenance{} }},
	{"system identity", "which box this is: its domain, and the fingerprint of its attestation key, which the desk has seen; for a telephone: | qr", "", byOfficer | byOperator | byAuditor, func(args) Command { return SystemIdentity{} }},
	{"system events", "what firmware and boot loader measured, one line for each event, and whether the TPM's registers bear it out", "flma", byOfficer | byOperator | byAuditor, func(args) Command { return SystemEvents{} }},
	{"system secrets", "every secret that this box holds or depends on: how many, where, what guards it, how it ends; no value is shown", "flma", byOfficer | byAuditor, func(args) Command { return SystemSecrets{} }},
	{"system support", "one text for who helps with this box: versions, registers, health, sources, counts; with a digest, without secrets and names", "flma", byOfficer | byOperator | byAuditor, func(args) Command { return SystemSupport{} }},
	{"boot show", "how this box opens after a restart: by itself, or with shares of an unlock secret", "", byOfficer | byOperator | byAuditor, func(args) Command { return BootShow{} }},
	{"boot attended NUMBER of NUMBER", "have the box wait after each restart, until so many of so many shares are typed at its console; boot next shows them", "", byOfficer | second, func(a args) Command {
		return BootAttended{Threshold: a.numbered("NUMBER", 0), Shares: a.numbered("NUMBER", 1)}
	}},
	{"boot next", "show the next share of the unlock secret that is being made, to be written down", "", byOfficer, func(args) Command { return BootNext{} }},
	{"boot share", "type one share of the unlock secret: says whether it is right; with the last of a new one the box is attended", "", byOfficer | byOperator, func(args) Command { return BootShare{} }},
	{"boot unattended", "have the box open by itself after a restart, with its TPM alone", "", byOfficer | second, func(args) Command { return BootUnattended{} }},
	{"boot renew", "renew the key of the box's state: no copy of the disk from before opens any more", "", byOfficer, func(args) Command { return BootRenew{} }},
	{"unlock", "type one share of the unlock secret of a box that waits; with enough of them it opens", "a", byOfficer | byOperator, func(args) Command { return Unlock{} }},
	{"zeroize", "destroy all that this box holds: nothing on it, nor on any copy of its disk, opens again; locked, with its TPM cleared: empty the disk", "l", byOfficer | second, func(args) Command { return Zeroize{} }},
	{"system test", "hold algorithms to known answers, and programs to the image's list; what fails ends key release until a restart", "", byOfficer | byOperator | byAuditor, func(args) Command { return SystemTest{} }},
	{"reboot", "restart the box", "flma", byOfficer | byOperator, func(args) Command { return Reboot{} }},
	{"poweroff", "switch the box off", "flma", byOfficer | byOperator, func(args) Command { return PowerOff{} }},
	{"help [COMMAND]", "this list, or one part of it; ? and Tab help everywhere", "flma", everybody, func(a args) Command { return Help{Topic: a.get("COMMAND")} }},
	{"logout", "end the session", "", everybody, func(args) Command { return Logout{} }},
}
