package release

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/label"
	"github.com/keyrelease/krabox/kra/policy"
)

// TestLimitsAreWritten reads the table of limits in PROTOCOL.md: it has the port's limits, all of them and nothing else.
func TestLimitsAreWritten(t *testing.T) {
	text, err := os.ReadFile("../../kra/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "\n| what | limit |\n|---|---|\n")
	if !found {
		t.Fatal("no table of limits")
	}
	written := map[string]int{}
	for _, row := range regexp.MustCompile(`(?m)^\| (.*) \| ([0-9]+) \|$`).FindAllStringSubmatch(table, -1) {
		n, err := strconv.Atoi(row[2])
		if err != nil {
			t.Fatal(err)
		}
		written[row[1]] = n
	}
	want := limits()
	for what, n := range want {
		if written[what] != n {
			t.Errorf("%s: %d is written; want %d", what, written[what], n)
		}
	}
	if len(written) != len(want) || strings.Count(table, "\n") != len(want) {
		t.Errorf("%d rows, %d of them with a number; want %d", strings.Count(table, "\n"), len(written), len(want))
	}
}

func limits() map[string]int {
	seconds := func(d time.Duration) int { return int(d / time.Second) }
	return map[string]int{
		"headers in a request": kra.MaxHeaders, "bytes of a header": block.MaxHeader, "`kra` stanzas in a header": block.MaxWraps,
		"stanzas of stock age that are tried, of a header":         block.MaxTags,
		"other keys of a header that are tried, where one is gone": maxOthers,
		"external services that are asked for a header":            maxRounds,

		"bytes of a request": kra.MaxBody, "bytes of a response": kra.MaxResponse, "bytes of a name": kra.MaxName,
		"certificates in a request": kra.MaxCertificates, "attribute certificates in a request": kra.MaxAttributes,
		"bytes of one of these": kra.MaxCertificate, "bits of an RSA key in a certificate": kra.MaxRSABits,
		"tokens in a request": kra.MaxTokens, "bytes of a token": kra.MaxToken, "bytes of a value for a service": kra.MaxValue,
		"items that are known of a decryptor": policy.MaxItems,

		"bytes of what a platform shows": label.MaxShowing, "seconds that a platform has to answer": seconds(nonceWithin),
		"platforms that wait to be verified": maxChallengers, "platforms that wait to be verified, of a source": maxChallengersFrom,

		"bytes of a statement about a group": kra.MaxGroupBody, "decryptors in a statement about a group": kra.MaxGroupEdit,
		"members of a group in an answer": kra.MaxGroupPage, "access identifiers in a query for keys": kra.MaxHeaders,

		"connections, with 2.3 GiB of memory; fewer with less, and 2048 at least": maxConns, "connections of a source": maxConnsOf, "connections of a neighbourhood": maxConnsNear, "certificates of a client in the handshake": maxChain,
		"bytes of request line and header fields":                              maxHeadBytes,
		"seconds until a handshake, or a request's header fields, are through": seconds(headWithin),
		"seconds until a request is through":                                   seconds(bodyWithin),
		"seconds until an answer is through":                                   seconds(answerWithin),
		"seconds between requests of a connection":                             seconds(idleWithin),
		"milliseconds, of which a refusal leaves after a multiple":             int(RefusalDelay / time.Millisecond),

		"requests at work": maxInFlight, "bytes of bodies at work": maxBodies, "bytes of bodies at work, of a decryptor": maxBodiesOfOne,
		"requests of strangers at work": maxStrangers, "requests of strangers at work, of a source": maxFromOne, "requests of strangers at work, of a neighbourhood": maxFromNear,
		"bytes of bodies of strangers at work": maxStrangersBodies, "bytes of bodies of strangers at work, of a source": maxBodiesFromOne,
		"bytes of bodies of strangers at work, of a neighbourhood": maxBodiesFromNear,
		"headers of strangers in a second":                         rateOfAll, "headers of strangers at once, after a rest": burstOfAll,
		"headers of strangers in a second, of a source": rateFromOne, "headers of strangers at once, after a rest, of a source": burstFromOne,

		"requests of a decryptor for `/v1/whoami` or a group, at work": maxWalksOf,
		"the same of all, for each processor of the box":               maxWalks,
		"statements about groups of a decryptor, at work":              maxEditsOf,
		"statements about groups at work":                              maxEdits,
		"whole directories being sent":                                 maxLists,
		"whole directories being sent to a source":                     maxListsOf,

		"challengers who wait": maxChallengers, "challengers who wait, of a source": maxChallengersFrom,
		"challengers who wait, of a neighbourhood": maxChallengersNear,
	}
}
