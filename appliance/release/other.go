package release

import (
	"context"
	"errors"

	"github.com/keyrelease/krabox/kra/policy"
)

// maxOthers is how many other wraps of a header are tried at most.
const maxOthers = 4

// others opens, for jobs whose own key the HSM does not have any more, another wrap of the same header. The first that
// opens and fits the header counts; every one that was tried is in the log. Its outcome unknown, the job is refused.
func (s *Server) others(ctx context.Context, book *policy.Book, c *claimant, jobs []job) error {
	for i := range jobs {
		j := &jobs[i]
		if !j.gone {
			continue
		}
		for n, g := range book.Others(j.grant, j.envelope) {
			if j.opened || n == maxOthers {
				break
			}
			if err := s.other(ctx, c, i, j, g); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Server) other(ctx context.Context, c *claimant, i int, j *job, g policy.Grant) error {
	within, cancel := context.WithTimeout(ctx, workWithin)
	defer cancel()
	results, head, err := s.o.Custody.Unwrap(within, []policy.Grant{g})
	if err == nil && len(results) != 1 {
		err = errors.New("custody gave no result")
	}
	j.before = append(j.before, j.entry)
	j.grant, j.other = g, true
	if err != nil {
		j.refuse(c, "custody: "+err.Error())
		return err
	}
	j.take(c, i, results[0], head.Instance)
	j.entry.HSM = head
	return nil
}
