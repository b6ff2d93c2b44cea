package console

// A Mode is the state of the box, which decides what can be asked of it.
type Mode string

// The modes.
const (
	Factory  Mode = "factory"  // not in service: no officers, no keys
	Enrolled Mode = "enrolled" // in service: an officer logs in
	Locked   Mode = "locked"   // refused to open: repair only
)

// A row is one form of a command. [x] may be left out, a|b is a choice, a word in capitals is a kind.
type row struct {
	form  string
	help  string
	modes string // the modes beside enrolled in which it works: f, l
	make  func(args) Command
}

// table is the whole grammar. Parsing, help, completion and MANUAL.md come from it.
var table = []row{
	{"status", "what this box is and how it is", "fl", func(args) Command { return Status{} }},

	{"enrol request", "print what the domain needs to take this box into service", "f", func(args) Command { return EnrolRequest{} }},
	{"enrol install", "paste a bundle of the domain: enrolment, or approvals of new software", "fl", func(args) Command { return EnrolInstall{} }},

	{"key generate p256|rsa3072|mlkem768p256 [bound|replicable] for ACCESS", "make a key; it becomes the current key of ACCESS", "", func(a args) Command {
		return KeyGenerate{Suite: Suite(a.pick("p256", "rsa3072", "mlkem768p256")), Custody: a.custody(), Access: a.access()}
	}},
	{"key import [bound|replicable] for ACCESS", "paste a private key (PKCS#8: P-256, RSA-2048 or RSA-3072) for ACCESS", "", func(a args) Command {
		return KeyImport{Custody: a.custody(), Access: a.access()}
	}},
	{"key list", "access identifiers and their keys", "", func(args) Command { return KeyList{} }},
	{"key show KEY", "one key, its certificate and where it is used", "", func(a args) Command { return KeyShow{Key: KeyRef(a.get("KEY"))} }},
	{"key mark KEY active|deactivated|compromised", "change what a key may be used for; a current key stays active", "", func(a args) Command {
		return KeyMark{Key: KeyRef(a.get("KEY")), State: KeyState(a.pick("active", "deactivated", "compromised"))}
	}},
	{"key tag KEY", "let stock age encrypt to a key by its age1tag recipient; new keys are while there are few", "", func(a args) Command { return KeyTag{Key: KeyRef(a.get("KEY"))} }},
	{"key untag KEY", "release no longer what stock age encrypts to a key", "", func(a args) Command { return KeyUntag{Key: KeyRef(a.get("KEY"))} }},

	{"replica request", "print what another box needs to give this one copies of its keys", "", func(args) Command { return ReplicaRequest{} }},
	{"replica admit BOX", "paste a box's request: copies of replicable keys may then be sent to it", "", func(a args) Command { return ReplicaAdmit{Box: a.box()} }},
	{"replica send all to BOX", "print copies of all replicable keys for a box that was admitted", "", func(a args) Command { return ReplicaSend{Box: a.box()} }},
	{"replica send to BOX ACCESSES", "print copies of the keys of these access identifiers", "", func(a args) Command {
		return ReplicaSend{Box: a.box(), Access: a.accesses()}
	}},
	{"replica receive from BOX", "paste the copies that a box has sent", "", func(a args) Command { return ReplicaReceive{Box: a.box()} }},
	{"replica list", "the boxes that were admitted, and where copies came from", "", func(args) Command { return ReplicaList{} }},
	{"replica dismiss BOX", "send copies to a box no longer; what it has, it keeps", "", func(a args) Command { return ReplicaDismiss{Box: a.box()} }},

	{"access add ACCESS [TITLE]", "make an access identifier", "", func(a args) Command { return AccessAdd{Access: a.access(), Title: a.get("TITLE")} }},
	{"access list", "all access identifiers", "", func(args) Command { return AccessList{} }},
	{"access show ACCESS", "one access identifier: keys and rule lists", "", func(a args) Command { return AccessShow{Access: a.access()} }},
	{"access title ACCESS TITLE", "change the title", "", func(a args) Command { return AccessTitle{Access: a.access(), Title: a.get("TITLE")} }},
	{"access lists ACCESS is LIST", "set the rule lists, separated by ; and tried in order", "", func(a args) Command {
		return AccessLists{Access: a.access(), Lists: a.lists()}
	}},
	{"access keys ACCESS KEYS", "set the keys; the first is the current one", "", func(a args) Command { return AccessKeys{Access: a.access(), Keys: a.keys()} }},
	{"access remove ACCESS", "remove an access identifier; its keys stay in the box", "", func(a args) Command { return AccessRemove{Access: a.access()} }},
	{"access deliver ACCESS anyone|channel", "hand its keys to anyone, encrypted to the certificate that the rules let pass, or only to who proved to have it", "", func(a args) Command {
		return AccessDeliver{Access: a.access(), Delivery: Delivery(a.pick("anyone", "channel"))}
	}},
	{"access portion ACCESS whole|part", "release from whole age headers only, or also from what age shows its plugins", "", func(a args) Command {
		return AccessPortion{Access: a.access(), Portion: Portion(a.pick("whole", "part"))}
	}},
	{"access logic ACCESS cedar", "paste Cedar policies that decide in place of rule lists", "", func(a args) Command { return AccessCedar{Access: a.access()} }},
	{"access logic ACCESS rules", "have rule lists decide again; there are none at first", "", func(a args) Command { return AccessRules{Access: a.access()} }},
	{"access test ACCESS as|for DECRYPTOR [from ADDRESS] [at TIME] [with ITEMS]", "what would be decided, and why; for: whoever asks proves nothing", "", func(a args) Command {
		return AccessTest{Access: a.access(), As: a.decryptor(), Unproven: a.pick("for") != "", From: a.addr("ADDRESS"), At: a.time(), With: a.items("ITEMS")}
	}},
	{"who-am-i DECRYPTOR [from ADDRESS] [at TIME] [with ITEMS]", "the access identifiers that somebody belongs to", "", func(a args) Command {
		return WhoAmI{As: a.decryptor(), From: a.addr("ADDRESS"), At: a.time(), With: a.items("ITEMS")}
	}},

	{"rule add RULE is EXPRESSION", "make a rule from a condition", "", func(a args) Command { return RuleAdd{Rule: a.rule(), Expr: a.get("EXPRESSION")} }},
	{"rule add RULE role|clearance|ask CONDITION", "make a rule for roles, clearances or what a service allows, in any combination", "", func(a args) Command { return RuleAdd{Rule: a.rule(), Expr: a.short()} }},
	{"rule add RULE when|from|group|id|under|until|after CONDITION", "make a rule for times, networks, groups or persons, in any combination", "", func(a args) Command { return RuleAdd{Rule: a.rule(), Expr: a.short()} }},
	{"rule set RULE is EXPRESSION", "change a rule, wherever it is used", "", func(a args) Command { return RuleSet{Rule: a.rule(), Expr: a.get("EXPRESSION")} }},
	{"rule set RULE role|clearance|ask CONDITION", "change a rule to roles, clearances or what a service allows, in any combination", "", func(a args) Command { return RuleSet{Rule: a.rule(), Expr: a.short()} }},
	{"rule set RULE when|from|group|id|under|until|after CONDITION", "change a rule to times, networks, groups or persons", "", func(a args) Command { return RuleSet{Rule: a.rule(), Expr: a.short()} }},
	{"rule list", "all rules and where they are used", "", func(args) Command { return RuleList{} }},
	{"rule show RULE", "one rule", "", func(a args) Command { return RuleShow{Rule: a.rule()} }},
	{"rule remove RULE", "remove a rule that is not used", "", func(a args) Command { return RuleRemove{Rule: a.rule()} }},

	{"group add GROUP DECRYPTOR", "put a decryptor into a group; a new group is made", "", func(a args) Command { return GroupAdd{Group: a.group(), Member: a.decryptor()} }},
	{"group remove GROUP [DECRYPTOR]", "take a decryptor out of a group, or remove the group", "", func(a args) Command { return GroupRemove{Group: a.group(), Member: a.decryptor()} }},
	{"group nest GROUP in GROUP", "make the members of the first group members of the second", "", func(a args) Command {
		return GroupNest{Group: a.group(), In: Group(a.nth("GROUP", 1))}
	}},
	{"group unnest GROUP from GROUP", "take the first group out of the second", "", func(a args) Command {
		return GroupUnnest{Group: a.group(), From: Group(a.nth("GROUP", 1))}
	}},
	{"group maintainer GROUP add DECRYPTOR", "let a decryptor change the members of the group, by signed statements (kra group)", "", func(a args) Command {
		return MaintainerAdd{Group: a.group(), Member: a.decryptor()}
	}},
	{"group maintainer GROUP remove DECRYPTOR", "let a decryptor change the members of the group no longer", "", func(a args) Command {
		return MaintainerRemove{Group: a.group(), Member: a.decryptor()}
	}},
	{"group list", "all groups", "", func(args) Command { return GroupList{} }},
	{"group show GROUP", "the members of a group", "", func(a args) Command { return GroupShow{Group: a.group()} }},

	{"trust add ALIAS [whole|common]", "paste a certification authority of decryptors; their name is the whole subject or the common name", "", func(a args) Command {
		return TrustAdd{Alias: a.alias(), Name: a.naming()}
	}},
	{"role add ROLE needs NEEDS", "make a role: all that one must be known to have", "", func(a args) Command { return RoleAdd{Role: Role(a.get("ROLE")), Needs: a.items("NEEDS")} }},
	{"role set ROLE needs NEEDS", "change a role, wherever it is used", "", func(a args) Command { return RoleSet{Role: Role(a.get("ROLE")), Needs: a.items("NEEDS")} }},
	{"role list", "all roles", "", func(args) Command { return RoleList{} }},
	{"role show ROLE", "what a role needs", "", func(a args) Command { return RoleShow{Role: Role(a.get("ROLE"))} }},
	{"role remove ROLE", "remove a role that is not used", "", func(a args) Command { return RoleRemove{Role: Role(a.get("ROLE"))} }},

	{"levels show", "the classification levels, lowest first", "", func(args) Command { return LevelsShow{} }},
	{"levels set [LEVELS]", "name the classification levels, lowest first; none: the usual five", "", func(a args) Command { return LevelsSet{Levels: a.words["LEVELS"]} }},

	{"trust list", "all certification authorities of decryptors", "", func(args) Command { return TrustList{} }},
	{"trust remove ALIAS", "trust a certification authority no longer", "", func(a args) Command { return TrustRemove{Alias: a.alias()} }},

	{"source add attribute ALIAS may KINDS of ANCHOR", "paste the certificate of an authority that says what the decryptors of ANCHOR are", "", func(a args) Command {
		return SourceAttribute{Alias: a.alias(), May: a.infoKinds(), Of: a.anchor()}
	}},
	{"source add directory ALIAS may KINDS of ANCHOR at LDAPS base DN [bind USER]", "read a directory server; paste the certification authority of the server", "", func(a args) Command {
		return SourceDirectory{Alias: a.alias(), May: a.infoKinds(), Of: a.anchor(), URL: a.get("LDAPS"), Base: a.get("DN"), Bind: a.get("USER")}
	}},
	{"source add issuer ALIAS may KINDS at ISSUER for AUDIENCE", "accept tokens; paste the issuer's public keys (JSON Web Key Set)", "", func(a args) Command {
		return SourceIssuer{Alias: a.alias(), May: a.infoKinds(), Issuer: a.get("ISSUER"), Audience: a.get("AUDIENCE")}
	}},
	{"source add repository ALIAS [at HTTPS]", "use a key repository; paste its public key, and its entries or the server's authority", "", func(a args) Command {
		return SourceRepository{Alias: a.alias(), URL: a.get("HTTPS")}
	}},
	{"source add service ALIAS at HTTPS reserve|verify charge platform|subject", "ask a service in rules; paste the certification authority of the server", "", func(a args) Command {
		return SourceService{Alias: a.alias(), URL: a.get("HTTPS"), Mode: Asking(a.pick("reserve", "verify")), Charge: Payer(a.pick("platform", "subject"))}
	}},
	{"source add crl ALIAS of ANCHOR [at URL]", "hold the certificates of an authority against a list that is fetched or pasted", "", func(a args) Command {
		return SourceRevocation{Alias: a.alias(), Of: a.anchor(), URL: a.get("URL")}
	}},
	{"source map ALIAS group|role|clearance from FIELD", "what a directory or token says there are groups, roles or clearances", "", func(a args) Command {
		return SourceMap{Alias: a.alias(), Kind: InfoKind(a.pick("group", "role", "clearance")), From: Field(a.get("FIELD"))}
	}},
	{"source map ALIAS attribute|device|alias NAME from FIELD", "what a directory or token says there is a named attribute, or a mail, dns, uri or upn alias", "", func(a args) Command {
		return SourceMap{Alias: a.alias(), Kind: InfoKind(a.pick("attribute", "device", "alias")), Name: a.get("NAME"), From: Field(a.get("FIELD"))}
	}},
	{"source unmap ALIAS FIELD", "do not use a field any longer", "", func(a args) Command { return SourceUnmap{Alias: a.alias(), From: Field(a.get("FIELD"))} }},
	{"source clearance ALIAS POLICY [MARKS]", "what the clearances of a policy mean in an attribute authority's certificates", "", func(a args) Command {
		return SourceClearance{Alias: a.alias(), Policy: a.get("POLICY"), Marks: a.marks()}
	}},
	{"source set ALIAS every|age|timeout|inflight NUMBER", "seconds between two looks, and that what was seen lasts; a service's milliseconds, and questions at once", "", func(a args) Command {
		return SourceSet{Alias: a.alias(), Setting: Setting(a.pick("every", "age", "timeout", "inflight")), Number: int(a.number("NUMBER", 0))}
	}},
	{"source filter ALIAS FILTER", "read only those entries of a directory", "", func(a args) Command { return SourceFilter{Alias: a.alias(), Filter: a.get("FILTER")} }},
	{"source name ALIAS FIELD", "the field of a directory's entries that holds the decryptor's name", "", func(a args) Command { return SourceName{Alias: a.alias(), Field: Field(a.get("FIELD"))} }},
	{"source renew ALIAS", "paste a further certificate, or a new key set, list or set of entries", "", func(a args) Command { return SourceRenew{Alias: a.alias()} }},
	{"source secret ALIAS", "change the password of a directory or the value that a service gets", "", func(a args) Command { return SourceSecret{Alias: a.alias()} }},
	{"source list", "who says what of decryptors", "", func(args) Command { return SourceList{} }},
	{"source show ALIAS", "one source; its secrets are not shown", "", func(a args) Command { return SourceShow{Alias: a.alias()} }},
	{"source remove ALIAS", "use a source no longer", "", func(a args) Command { return SourceRemove{Alias: a.alias()} }},

	{"time show", "the clock, and who vouches for it", "", func(args) Command { return TimeShow{} }},
	{"time set TIME", "set the clock; it is then manual: your word is what rules rely on", "", func(a args) Command { return TimeSet{At: a.time()} }},

	{"log show [COUNT]", "the newest records of the log", "", func(a args) Command { return LogShow{Count: int(a.number("COUNT", 20))} }},
	{"log size", "size and root of the log", "", func(args) Command { return LogSize{} }},
	{"log export [from INDEX]", "print the log for an auditor (kra log verify reads it)", "", func(a args) Command { return LogExport{From: a.number("INDEX", 0)} }},
	{"log verify", "check the log: tree, signatures, one record for each unwrap", "", func(args) Command { return LogVerify{} }},
	{"log health", "whether the log can be written; if not, nothing is released", "", func(args) Command { return LogHealth{} }},
	{"usage export [from INDEX]", "who was given how many keys of what, as CSV, from a record of the log on", "", func(a args) Command { return UsageExport{From: a.number("INDEX", 0)} }},

	{"network show", "the network configuration", "", func(args) Command { return NetworkShow{} }},
	{"network static PREFIX [gateway GATEWAY] [dns DNS]", "use a fixed address", "", func(a args) Command {
		return NetworkStatic{Address: a.prefix(), Gateway: a.addr("GATEWAY"), DNS: a.addr("DNS")}
	}},
	{"network dhcp", "take the address from a DHCP server", "", func(args) Command { return NetworkDHCP{} }},

	{"officer list", "who may administer this box", "", func(args) Command { return OfficerList{} }},
	{"officer add OFFICER [maintainer GROUP]", "let somebody else administer this box, or only one group", "", func(a args) Command {
		return OfficerAdd{Officer: a.officer(), Group: a.group()}
	}},
	{"officer remove OFFICER", "let an officer administer this box no longer", "", func(a args) Command { return OfficerRemove{Officer: a.officer()} }},
	{"officer passphrase", "change your passphrase", "", func(args) Command { return OfficerPassphrase{} }},

	{"reboot", "restart the box", "fl", func(args) Command { return Reboot{} }},
	{"poweroff", "switch the box off", "fl", func(args) Command { return PowerOff{} }},
	{"help [COMMAND]", "this list, or one part of it; ? and Tab help everywhere", "fl", func(a args) Command { return Help{Topic: a.get("COMMAND")} }},
	{"logout", "end the session", "", func(args) Command { return Logout{} }},
}
