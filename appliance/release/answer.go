package release

import (
	"fmt"

	"github.com/keyrelease/krabox/appliance/audit"
	"github.com/keyrelease/krabox/kra"
)

// answer makes the response of what the log holds now. It cannot be called without the log's proof; at says where in it
// each job's record is.
func answer(c *claimant, jobs []job, at []int, done audit.Committed) (kra.Response, error) {
	r := kra.Response{Results: make([]kra.Result, len(jobs))}
	receipts := done.Receipts()
	for i := range jobs {
		if !jobs[i].opened {
			continue
		}
		if at[i] >= len(receipts) {
			return kra.Response{}, fmt.Errorf("%w: %d receipts for %d headers", errUnavailable, len(receipts), len(jobs))
		}
		proof := receipts[at[i]].Append(make([]byte, 0, 1024))
		if jobs[i].sealed != nil {
			r.Results[i] = kra.ReleasedSealed(*jobs[i].sealed, jobs[i].grant.Access(), proof)
		} else if c.seal == nil {
			r.Results[i] = kra.Released(jobs[i].key, jobs[i].grant.Access(), proof)
		} else {
			sealed, err := c.binding.Seal(c.seal, i, jobs[i].key)
			if err != nil {
				return kra.Response{}, fmt.Errorf("%w: %w", errUnavailable, err)
			}
			r.Results[i] = kra.ReleasedSealed(sealed, jobs[i].grant.Access(), proof)
		}
		r.Checkpoint, r.Chain = done.Checkpoint(), done.Path().PEM()
		jobs[i].opened = false // the key is the response's now
	}
	return r, nil
}

// drop zeroes the keys that go nowhere.
func drop(jobs []job) {
	for i := range jobs {
		if jobs[i].opened {
			_ = jobs[i].key.Use(func([]byte) error { return nil })
		}
	}
}
