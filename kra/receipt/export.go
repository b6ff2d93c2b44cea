package receipt

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"
)

// ExportFormat is named in the first line of an export:
//
//	{"format":"kra log export v1","box":…,"from":…,"start":…}         start only if from is not 0
//	{"record":{"public":{…},"salt":…,"private":{…}}}                  or "commitment" instead of salt and private
//	{"checkpoint":"…"}                                                after the last record of each batch
//
// Each line is canonical JSON. The last line is a checkpoint. Receipt keys are in the log itself, as records.
const ExportFormat = "kra log export v1"

// Limits of an export's lines, in bytes.
const (
	maxHeaderLine = 64 << 20
	maxExportLine = 2*(MaxPublic+MaxPrivate) + 4096
)

// ExportHeader is the first line.
type ExportHeader struct {
	Format string       `json:"format"`
	Box    string       `json:"box"`
	From   int64        `json:"from"` // index of the first record
	Start  *ExportStart `json:"start,omitempty"`
}

// An ExportStart is what an export that begins at record From > 0 needs of the records before it.
type ExportStart struct {
	Checkpoint string      `json:"checkpoint"` // over From records
	Path       Path        `json:"path"`       // of the key that signed it
	Edge       []tlog.Hash `json:"edge"`       // of the tree of From records
	Lives      []LifeState `json:"lives,omitempty"`
}

// exportLine is any line after the first: one of its fields is set.
type exportLine struct {
	Record     *exportRecord `json:"record,omitempty"`
	Checkpoint string        `json:"checkpoint,omitempty"`
}

type exportRecord struct {
	Public     json.RawMessage `json:"public"`
	Salt       []byte          `json:"salt,omitempty"`
	Private    json.RawMessage `json:"private,omitempty"`
	Commitment *Hash           `json:"commitment,omitempty"`
}

// record returns the leaf, and whether the private part is there.
func (r exportRecord) leaf() (leaf tlog.Hash, whole bool, err error) {
	if r.Commitment != nil {
		if r.Salt != nil || r.Private != nil {
			return leaf, false, errors.New("commitment beside a private part")
		}
		return Leaf(r.Public, *r.Commitment), false, nil
	}
	if len(r.Salt) != len(Salt{}) || len(r.Private) == 0 || len(r.Private) > MaxPrivate {
		return leaf, false, errors.New("neither commitment nor private part")
	}
	return Record{Public: r.Public, Salt: Salt(r.Salt), Private: r.Private}.Leaf(), true, nil
}

// Detail says how much of each record an export shows. The zero Detail is refused.
type Detail uint8

// The details.
const (
	Whole    Detail = iota + 1 // with the private parts: who asked, facts, trace
	Redacted                   // commitments in their place
)

// An Exporter writes an export. Errors stay until Close.
type Exporter struct {
	w      *bufio.Writer
	detail Detail
	err    error
}

// NewExporter writes the header.
func NewExporter(w io.Writer, detail Detail, h ExportHeader) *Exporter {
	e := &Exporter{w: bufio.NewWriterSize(w, 1<<16), detail: detail}
	if detail != Whole && detail != Redacted {
		e.err = errors.New("detail is not set")
	}
	h.Format = ExportFormat
	e.line(h)
	return e
}

// Record writes one record.
func (e *Exporter) Record(r Record) {
	if e.detail == Redacted {
		c := r.Commitment()
		e.line(exportLine{Record: &exportRecord{Public: r.Public, Commitment: &c}})
		return
	}
	e.line(exportLine{Record: &exportRecord{Public: r.Public, Salt: r.Salt[:], Private: r.Private}})
}

// Checkpoint ends a batch.
func (e *Exporter) Checkpoint(signed string) { e.line(exportLine{Checkpoint: signed}) }

// Close returns the first error; it does not close the writer below.
func (e *Exporter) Close() error {
	if e.err == nil {
		e.err = e.w.Flush()
	}
	if e.err != nil {
		return fmt.Errorf("export log: %w", e.err)
	}
	return nil
}

func (e *Exporter) line(v any) {
	if e.err != nil {
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		e.err = err
		return
	}
	_, e.err = e.w.Write(append(b, '\n'))
}

// lineReader reads lines of bounded length.
type lineReader struct{ r *bufio.Reader }

// next returns a line without its end, which it must have.
func (l lineReader) next(limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := l.r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > limit {
			return nil, fmt.Errorf("line longer than %d bytes", limit)
		}
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, errors.New("the last line is cut")
		default:
			return nil, err
		}
	}
}
