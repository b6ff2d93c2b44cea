package store

import "time"

// An Exported is an auditor's word that he has the first records of this box's log. It is this box's own: no backup has it.
type Exported struct {
	Size int64     `json:"size"` // how many
	Root [32]byte  `json:"root"` // of them, as the export has it
	By   string    `json:"by"`
	At   time.Time `json:"at"` // whole seconds
}

// ExportedSet takes an auditor's word. It never takes one back: what may have been removed upon it is gone.
type ExportedSet struct {
	Exported Exported `json:"exported"`
}

func (ExportedSet) kind() string { return "exported-set" }

func (c ExportedSet) apply(d *State) error {
	e, old := c.Exported, d.Exported()
	switch {
	case e.Size < 1:
		return invalid("an export has at least one record")
	case e.Size <= old.Size:
		return invalid("%s has acknowledged the export of the first %d records already", old.By, old.Size)
	case e.Root == [32]byte{}:
		return invalid("an export has a root")
	case e.By == "" || e.At.IsZero():
		return invalid("somebody has exported the log, at some time")
	}
	e.At = e.At.UTC().Truncate(time.Second)
	d.exported.put(only, e)
	return nil
}

// Exported returns what an auditor has acknowledged last; its zero Size means that nobody has.
func (s *State) Exported() Exported { return s.exported.single() }
