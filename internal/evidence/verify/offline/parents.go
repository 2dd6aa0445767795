package offline

import (
	"fmt"

	"github.com/writ-run/writ/internal/grant"
	"github.com/writ-run/writ/internal/model"
)

// MediaSubmission is the media type of the artifact that holds the record of
// another execution's submission: its canonical bytes, as its own log has them.
const MediaSubmission = "application/vnd.writ.submission+cbor"

// checkParents closes the lineage of a submission: the record of every
// execution above it is in the log, each names the one above, and the grants
// under which they run stand above one another, in the same order.
func checkParents(find func(model.Digest) ([]byte, bool), c *grant.Chain, s model.Submission) error {
	links := c.Links()
	above := len(links) - 1 // links before this one may be a parent's
	met := map[model.ExecutionID]bool{s.Execution: true}
	for child := s; child.Parent != ""; {
		id := child.Parent
		if met[id] {
			return fmt.Errorf("execution %s is above itself", id)
		}
		met[id] = true
		leaf, ok := find(child.ParentRecord)
		if !ok {
			return fmt.Errorf("the submission of the parent %s, with the digest %s, is not in the log", id, child.ParentRecord)
		}
		p, err := submitted(leaf)
		if err != nil {
			return fmt.Errorf("the submission of the parent %s: %w", id, err)
		}
		if p.Execution != id {
			return fmt.Errorf("the parent is %s, the record of its submission is of %s", id, p.Execution)
		}
		at := above - 1
		for ; at >= 0 && links[at].Digest != p.Grant; at-- {
		}
		if at < 0 {
			return fmt.Errorf("the grant %s does not stand beneath that of the parent %s", links[above].Grant.ID, id)
		}
		above, child = at, p
	}
	return nil
}

// submitted reads the record of a submission.
func submitted(leaf []byte) (model.Submission, error) {
	r, err := model.Decode[model.Record](leaf)
	if err != nil {
		return model.Submission{}, err
	}
	if r.Kind != model.RecordInput {
		return model.Submission{}, fmt.Errorf("it is a record of kind %s", r.Kind)
	}
	in, err := model.Decode[model.Input](r.Body)
	if err != nil {
		return model.Submission{}, err
	}
	if in.Submission == nil || in.Submission.Execution != r.Execution {
		return model.Submission{}, fmt.Errorf("it submits nothing")
	}
	return *in.Submission, nil
}
