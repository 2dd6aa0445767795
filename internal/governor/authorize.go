package governor

import (
	"fmt"
	"time"

	"github.com/writ-run/writ/internal/grant"
	"github.com/writ-run/writ/internal/keys"
	"github.com/writ-run/writ/internal/model"
)

const mediaGrant = "application/vnd.in-toto+dsse+json"

// authorize gives the execution its authority: a grant of the local operator,
// stored where `writ grant revoke` finds it. It returns what goes into the log.
func (e *execution) authorize() ([]model.Artifact, error) {
	var err error
	if e.grants, err = grant.OpenStore(e.dir.Root(), e.ring.Trust()); err != nil {
		return nil, err
	}
	epoch, refusal := e.grants.Epoch()
	if refusal != nil {
		return nil, fmt.Errorf("reading the grants' epoch: %w", refusal)
	}
	lasts := e.spec.GrantFor
	if lasts == 0 {
		lasts = defaultGrantFor
	}
	from := time.Now()
	issued, err := grant.Issue(e.ring.Key(keys.Operator), grant.Grant{
		Operator: e.sub.Operator, Agent: e.sub.Agent,
		Run:     grant.Run{Argv: e.sub.Argv, Dir: e.sub.Dir},
		Actions: grant.Consequential(), Budget: e.sub.Settings.Budget,
		NotBefore: from, Expires: from.Add(lasts), Epoch: epoch,
	})
	if err != nil {
		return nil, err
	}
	if err := e.grants.Put(issued); err != nil {
		return nil, err
	}
	if e.chain, err = grant.Verify([][]byte{issued.Envelope}, e.ring.Trust(), time.Now(), e.grants); err != nil {
		return nil, err
	}
	if err := e.chain.Permits(e.sub.Agent, e.sub.Argv, e.sub.Dir); err != nil {
		return nil, err
	}
	e.sub.Grant, e.sub.GrantID = issued.Digest, issued.Grant.ID
	return []model.Artifact{{Name: "grant/" + issued.Grant.ID, MediaType: mediaGrant, Content: issued.Envelope}}, nil
}
