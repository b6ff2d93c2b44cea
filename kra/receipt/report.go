package receipt

import "time"

// A Report is what an export was found to be. Only VerifyExport makes one.
type Report struct {
	Name        Name // domain and box
	From        int64
	Head        Checkpoint // the last one
	Checkpoints int
	Records     map[Kind]int64
	Redacted    int64       // records without their private part
	Keys        []KeyPeriod // receipt keys, oldest first
	Lives       []LifeReport
	Seen        int // pieces of evidence from elsewhere that the log agrees with
}

// A KeyPeriod is a receipt key and the record that introduced it.
type KeyPeriod struct {
	Index     int64
	NotBefore time.Time
	NotAfter  time.Time
}

// A LifeReport says which unwraps of one instance of hsmd are accounted for. Beyond is not zero where items are
// missing before them: in flight at the end of a running log, or lost when hsmd died.
type LifeReport struct {
	Instance Instance
	N        uint64 // items 1 to N are recorded, each once
	Proven   uint64 // and up to here signed for, with hsmd's own MAC
	Beyond   int
}
