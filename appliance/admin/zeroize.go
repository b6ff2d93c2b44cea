package admin

import (
	"context"
	"fmt"
	"strings"

	"github.com/keyrelease/krabox/console"
	hsm "github.com/keyrelease/krabox/hsm/wire"
)

// maxNamed is how many access identifiers a question names.
const maxNamed = 8

// zeroize ends what the box holds. First the TPM's half of the state's key, without which nothing opens; what can fail after that is
// tidiness.
func (s *step) zeroize(ctx context.Context) error {
	question := "Remove what an enrolment has left on the disk of this box, whose TPM was cleared? It is a factory box then."
	if s.a.c.Mode == console.Enrolled {
		question = s.losses()
	}
	if err := s.confirm("%s", question); err != nil {
		return err
	}
	if err := s.act(ctx); err != nil {
		return err
	}
	if err := s.a.c.TPM.Zeroize(ctx); err != nil {
		return err
	}
	s.end = true
	if err := s.a.c.Erase(); err != nil {
		return fmt.Errorf("nothing opens on this box any more, but what lies on its disk is still there: %w", err)
	}
	if s.a.c.Machine != nil {
		if err := s.a.c.Machine.Reboot(ctx); err != nil {
			return fmt.Errorf("nothing opens on this box any more, but it does not restart: switch it off (%w)", err)
		}
	}
	if s.a.c.Mode == console.Enrolled {
		return s.say("Zeroized. The box restarts, locked. Have the domain revoke it (domain revoke). To take it into service anew, clear the TPM in the firmware's set-up.")
	}
	return s.say("The disk is empty. The box restarts.")
}

// losses asks, and names what will be lost.
func (s *step) losses() string {
	st := s.state()
	var bound int
	for _, k := range st.Keys() {
		if k.Custody != hsm.Replicable {
			bound++
		}
	}
	var of []string
	for _, a := range st.Accesses() {
		of = append(of, string(a.ID))
	}
	named := orElse(some(of), "nobody")
	return fmt.Sprintf("Destroy all that %s holds: %s, of which %d exist nowhere else, the rules, the officers and the log? What was encrypted to %s opens here no more, "+
		"and no copy of this disk, however old, opens again. There is no way back.",
		st.Box().Name, count(len(st.Keys()), "key", "keys"), bound, named)
}

// some names the first of many.
func some(all []string) string {
	named := strings.Join(all[:min(len(all), maxNamed)], ", ")
	if more := len(all) - maxNamed; more > 0 {
		named += fmt.Sprintf(" and %d more", more)
	}
	return named
}
