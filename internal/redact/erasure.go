package redact

import (
	"github.com/writ-run/writ/internal/keys"
	"github.com/writ-run/writ/internal/model"
)

// ErasurePredicate is the in-toto predicate type of a statement that openings
// were erased.
const ErasurePredicate = "https://writ.run/erasure/v1"

// Erasure says which openings of an execution were destroyed, by whom and why.
// It names them by their commitments, so it gives nothing away.
type Erasure struct {
	Execution   model.ExecutionID `json:"execution"`
	Operator    string            `json:"operator"`
	Time        string            `json:"time"` // RFC 3339, UTC
	What        string            `json:"what"` // as it was asked for
	Reason      string            `json:"reason"`
	Commitments []model.Digest    `json:"commitments"`
}

// Seal signs the statement.
func (e Erasure) Seal(k *keys.Key) ([]byte, error) {
	return keys.Seal(k, ErasurePredicate, e.subject(), e)
}

// OpenErasure checks a signed statement.
func OpenErasure(envelope []byte, trust *keys.Trust) (Erasure, error) {
	var e Erasure
	sealed, err := keys.Unseal(envelope, trust, ErasurePredicate, &e, keys.Operator)
	if err == nil && sealed.Subjects[0] != e.subject() {
		err = keys.ErrMalformed
	}
	return e, err
}

func (e Erasure) subject() keys.Subject {
	return keys.Subject{Name: "writ:execution/" + string(e.Execution), Digest: model.DigestOf([]byte(e.Execution))}
}
