package desk

import (
	"fmt"

	"github.com/keyrelease/krabox/kra/label"
)

// The lists of whom and what the domain believes are files that anybody who can write in the folder can add to: what counts is what the
// journal, which the label key signs, says was put there, and not taken away since. What is on a list and was taken away, by a desk that
// was stopped in between, does not count. What the journal never heard of stops the desk: somebody else has put it there.

// Notices are what the journal says of the entries of a list: the fact by which one was put there; empty when it was taken away.
type notices map[string]string

// said collects the words about a list. of gives an act's entries, and whether they are put there; the act is not about the list: none.
func (d *Desk) said(of func(label.Entry) (entries []string, fact string)) (notices, error) {
	all, _, err := d.Journal()
	if err != nil {
		return nil, err
	}
	w := notices{}
	for _, e := range all {
		entries, fact := of(e)
		for _, x := range entries {
			w[x] = fact
		}
	}
	return w, nil
}

// counts says whether an entry as it is found is on the list.
func (w notices) counts(entry, fact, where, add string) (bool, error) {
	noted, known := w[entry]
	switch {
	case known && noted == "":
		return false, nil
	case noted != fact:
		return false, fmt.Errorf("%s is not what the journal says that the domain believes: take it away, or look who has put it there; the way is '%s'", where, add)
	}
	return true, nil
}

// aboutNames is the list whose entries are names.
func aboutNames(put, takeAway, fact string) func(label.Entry) ([]string, string) {
	return func(e label.Entry) ([]string, string) {
		switch e.Act {
		case put:
			return []string{e.Subject}, e.Facts[fact]
		case takeAway:
			return []string{e.Subject}, ""
		}
		return nil, ""
	}
}
