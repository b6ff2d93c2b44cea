package audit

import (
	"context"
	"fmt"
	"slices"

	"github.com/keyrelease/krabox/kra/receipt"
)

// AppendOrphans records those unwraps, as hsmd lists them, that the log lacks: their answers never became a release. It
// returns how many they were. Call it with hsmd's items after Head().HSM, at each start and after each connection to
// hsmd that broke; an answer that is on its way to Append then is refused there.
func (l *Log) AppendOrphans(ctx context.Context, items []receipt.Item, head receipt.ChainHead) (int, error) {
	n := 0
	for part := range slices.Chunk(items, maxEntries) {
		entries := make([]Entry, len(part))
		for i := range part {
			entries[i] = Entry{Kind: receipt.HSMOrphan, Item: &part[i], HSM: head}
		}
		q, err := l.prepare(entries)
		if err != nil {
			return n, fmt.Errorf("append orphans to log: %w", err)
		}
		q.lacking = true
		if err := l.submit(ctx, q); err != nil {
			return n, fmt.Errorf("append orphans to log: %w", err)
		}
		n += len(q.records)
	}
	return n, nil
}

// lackingOnly drops the records of items that the log has.
func (t *tracker) lackingOnly(records []record) []record {
	return slices.DeleteFunc(records, func(r record) bool { return t.has(*r.item) })
}
