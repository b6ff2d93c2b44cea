package store

import (
	"encoding/json"
	"errors"
	"fmt"
)

// MaxChange bounds the JSON form of a change, in bytes.
const MaxChange = 16 << 20

// A Change is one typed step from a state to the next. What it does depends on the state and on itself only, so that
// every node of a cluster comes to the same state.
type Change interface {
	kind() string
	apply(d *State) error // d is a draft; an error leaves it in no defined state
}

// An Invalid says why a change cannot be made. Nothing was changed.
type Invalid struct{ Reason string }

func (e *Invalid) Error() string { return e.Reason }

func invalid(format string, a ...any) error { return &Invalid{fmt.Sprintf(format, a...)} }

// Apply returns the state after all the changes, in order, or an *Invalid. It leaves s alone. The result's root is that
// of s until a Store has stamped it.
func Apply(s *State, changes ...Change) (*State, error) {
	d := s.draft()
	for _, c := range changes {
		if err := c.apply(d); err != nil {
			return nil, err
		}
	}
	edits, err := d.collect()
	if err != nil {
		return nil, err
	}
	d.edits, d.tree = edits, d.tree.update(edits)
	d.settle()
	return d, nil
}

// envelope is the JSON form of a change.
type envelope struct {
	Kind   string          `json:"kind"`
	Change json.RawMessage `json:"change"`
}

// EncodeChange returns the change's one JSON form.
func EncodeChange(c Change) ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode change: %w", err)
	}
	return json.Marshal(envelope{c.kind(), b})
}

// ParseChange reads what EncodeChange wrote, and nothing else.
func ParseChange(data []byte) (Change, error) {
	if len(data) > MaxChange {
		return nil, fmt.Errorf("parse change: longer than %d bytes", MaxChange)
	}
	var e envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("parse change: %w", err)
	}
	parse, ok := parsers[e.Kind]
	if !ok {
		return nil, fmt.Errorf("parse change: unknown kind %.40q", e.Kind)
	}
	c, err := parse(e.Change)
	if err != nil {
		return nil, fmt.Errorf("parse change: %w", err)
	}
	again, err := EncodeChange(c)
	if err != nil {
		return nil, err
	}
	if string(again) != string(data) {
		return nil, errors.New("parse change: not in canonical form")
	}
	return c, nil
}

func parseAs[C Change](b []byte) (Change, error) {
	var c C
	err := json.Unmarshal(b, &c)
	return c, err
}

// parsers reads each kind of change.
var parsers = map[string]func([]byte) (Change, error){
	OfficerAdd{}.kind():         parseAs[OfficerAdd],
	OfficerPassphrase{}.kind():  parseAs[OfficerPassphrase],
	OfficerFailures{}.kind():    parseAs[OfficerFailures],
	OfficerRemove{}.kind():      parseAs[OfficerRemove],
	OfficerDuty{}.kind():        parseAs[OfficerDuty],
	OfficerCodes{}.kind():       parseAs[OfficerCodes],
	OfficerCodeUsed{}.kind():    parseAs[OfficerCodeUsed],
	OfficerCodesRemove{}.kind(): parseAs[OfficerCodesRemove],
	ControlSet{}.kind():         parseAs[ControlSet],
	TeamGive{}.kind():           parseAs[TeamGive],
	ConsoleFailures{}.kind():    parseAs[ConsoleFailures],
	RequestAdd{}.kind():         parseAs[RequestAdd],
	RequestEnd{}.kind():         parseAs[RequestEnd],
	RuleAdd{}.kind():            parseAs[RuleAdd],
	RuleSet{}.kind():            parseAs[RuleSet],
	RuleRemove{}.kind():         parseAs[RuleRemove],
	AccessAdd{}.kind():          parseAs[AccessAdd],
	AccessTitle{}.kind():        parseAs[AccessTitle],
	AccessLists{}.kind():        parseAs[AccessLists],
	AccessLogic{}.kind():        parseAs[AccessLogic],
	AccessDelivery{}.kind():     parseAs[AccessDelivery],
	AccessPortion{}.kind():      parseAs[AccessPortion],
	AccessKeys{}.kind():         parseAs[AccessKeys],
	AccessRemove{}.kind():       parseAs[AccessRemove],
	GroupAdd{}.kind():           parseAs[GroupAdd],
	GroupRemove{}.kind():        parseAs[GroupRemove],
	GroupNest{}.kind():          parseAs[GroupNest],
	GroupUnnest{}.kind():        parseAs[GroupUnnest],
	MaintainerAdd{}.kind():      parseAs[MaintainerAdd],
	MaintainerRemove{}.kind():   parseAs[MaintainerRemove],
	GroupEdit{}.kind():          parseAs[GroupEdit],
	RoleSet{}.kind():            parseAs[RoleSet],
	RoleRemove{}.kind():         parseAs[RoleRemove],
	LevelsSet{}.kind():          parseAs[LevelsSet],
	SourceSet{}.kind():          parseAs[SourceSet],
	SourceRemove{}.kind():       parseAs[SourceRemove],
	AnchorAdd{}.kind():          parseAs[AnchorAdd],
	AnchorRemove{}.kind():       parseAs[AnchorRemove],
	KeyAdd{}.kind():             parseAs[KeyAdd],
	KeyMark{}.kind():            parseAs[KeyMark],
	KeyModeSet{}.kind():         parseAs[KeyModeSet],
	KeyTag{}.kind():             parseAs[KeyTag],
	KeyUntag{}.kind():           parseAs[KeyUntag],
	KeyRemove{}.kind():          parseAs[KeyRemove],
	KeyExpire{}.kind():          parseAs[KeyExpire],
	KeyDoom{}.kind():            parseAs[KeyDoom],
	AccessRotate{}.kind():       parseAs[AccessRotate],
	CertificateSet{}.kind():     parseAs[CertificateSet],
	TokenSet{}.kind():           parseAs[TokenSet],
	PINSet{}.kind():             parseAs[PINSet],
	NetworkSet{}.kind():         parseAs[NetworkSet],
	ClockSet{}.kind():           parseAs[ClockSet],
	TimeSourceAdd{}.kind():      parseAs[TimeSourceAdd],
	TimeSourceRemove{}.kind():   parseAs[TimeSourceRemove],
	BoxSet{}.kind():             parseAs[BoxSet],
	ReceiptKeyAdd{}.kind():      parseAs[ReceiptKeyAdd],
	PeerSet{}.kind():            parseAs[PeerSet],
	PeerRemove{}.kind():         parseAs[PeerRemove],
	CopyAdd{}.kind():            parseAs[CopyAdd],
	ReplicaAsk{}.kind():         parseAs[ReplicaAsk],
	BackupKeyAsk{}.kind():       parseAs[BackupKeyAsk],
	BackupKeySet{}.kind():       parseAs[BackupKeySet],
	BackupMade{}.kind():         parseAs[BackupMade],
	Restore{}.kind():            parseAs[Restore],
	BoardSet{}.kind():           parseAs[BoardSet],
	BoardRemove{}.kind():        parseAs[BoardRemove],
	PermissionsSet{}.kind():     parseAs[PermissionsSet],
	SyslogSet{}.kind():          parseAs[SyslogSet],
	SyslogRemove{}.kind():       parseAs[SyslogRemove],
	ExportedSet{}.kind():        parseAs[ExportedSet],

	PlatformTrust{}.kind():       parseAs[PlatformTrust],
	PlatformLabelSet{}.kind():    parseAs[PlatformLabelSet],
	PlatformLabelRemove{}.kind(): parseAs[PlatformLabelRemove],
	PlatformDistrust{}.kind():    parseAs[PlatformDistrust],
}
