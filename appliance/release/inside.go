package release

import (
	"context"
	"crypto/rsa"
	"errors"

	"github.com/keyrelease/krabox/kra"
	"github.com/keyrelease/krabox/kra/block"
	"github.com/keyrelease/krabox/kra/policy"
	"github.com/keyrelease/krabox/kra/receipt"
)

// errInside means that the HSM sealed what nobody asked it to.
var errInside = errors.New("sealed by the HSM without being asked to")

// open has the HSM open the wraps of grants, which are those of jobs that have one, in their order: so that keys which go
// from one RSA key to another need not leave it, where a header is of a format for that.
func (s *Server) open(ctx context.Context, c *claimant, jobs []job, grants []policy.Grant) ([]Unwrapped, receipt.ChainHead, error) {
	to, ok := c.seal.(*rsa.PublicKey)
	if !ok || !c.inside {
		return s.o.Custody.Unwrap(ctx, grants)
	}
	for i := range jobs {
		if jobs[i].grant.Valid() && jobs[i].passes(c) {
			return s.o.Custody.Transcrypt(ctx, to, grants)
		}
	}
	return s.o.Custody.Unwrap(ctx, grants)
}

// passes reports whether the job's key may go on unseen: who asked has said that he takes it so, and knows then what to look
// at. An age header is verified under its key; of the others nothing is
// to be seen of the key but its length, which the recipient sees.
func (j *job) passes(c *claimant) bool {
	suite := j.grant.Wrap().Suite()
	return c.inside && j.envelope.Format() != block.FormatAge && (suite == block.SuiteOAEP || suite == block.SuiteOAEPSHA1)
}

// passOn keeps what the HSM sealed to the claimant.
func (j *job) passOn(c *claimant, body []byte) error {
	if !j.passes(c) {
		return errInside
	}
	s, err := kra.SealedInside(j.grant.Wrap().Suite(), body)
	if err != nil {
		return err
	}
	j.sealed, j.opened = &s, true
	return nil
}

// answer ties what the HSM sealed to the request, in the record. Other answers are tied to it by themselves.
func (j *job) answer(c *claimant, result int) *receipt.Hash {
	if j.sealed == nil {
		return nil
	}
	h := receipt.Hash(c.binding.Answer(result, *j.sealed))
	return &h
}
