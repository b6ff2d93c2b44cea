package main

import "github.com/keyrelease/krabox/kra/client"

// maxTypos is how far a word may be from what was meant.
const maxTypos = 2

// nearest returns the access identifier that was probably meant, or "".
func nearest(d client.Directory, word string) string {
	best, found := maxTypos+1, ""
	for _, k := range d.Keys() {
		if n := distance(word, string(k.Access())); n < best {
			best, found = n, string(k.Access())
		}
	}
	return found
}

// distance counts insertions, deletions, changes and swaps of neighbours.
func distance(a, b string) int {
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+change)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
