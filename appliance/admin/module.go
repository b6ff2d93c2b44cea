package admin

import (
	"context"
	"fmt"
)

// module says which library keeps the keys, and what it was found able to do when it was opened, by doing it.
func (s *step) module(ctx context.Context) {
	i, err := s.a.c.HSM.Status(ctx)
	if err != nil {
		field(s, "HSM", "does not answer: "+err.Error())
		return
	}
	field(s, "HSM", fmt.Sprintf("%s; %s", i.Report.Module, count(int(i.Report.Keys), "key", "keys")))
	for _, c := range i.Report.Checks {
		if c.Failure != "" {
			field(s, "HSM cannot", c.Name+": "+c.Failure)
			continue
		}
		field(s, "HSM can", c.Name)
	}
}
