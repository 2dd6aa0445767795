package translate

import (
	"time"

	"github.com/writ-run/writ/internal/keys"
	"github.com/writ-run/writ/internal/model"
)

// ExecutionPredicate is the type of the statement about an execution.
const ExecutionPredicate = "https://writ.run/evidence/execution/v1"

// Execution is the predicate of the in-toto statement about an execution. Its
// subject is the log's last checkpoint: the digest is that of the signed bytes.
type Execution struct {
	Execution  model.ExecutionID `json:"execution"`
	Host       string            `json:"host"`
	Agent      string            `json:"agent"`
	Operator   string            `json:"operator"`
	Argv       []string          `json:"argv"`
	Dir        string            `json:"dir"`
	Executable string            `json:"executable"`
	Tier       string            `json:"tier"`
	Bundle     string            `json:"bundle"`
	Grant      string            `json:"grant"`
	GrantID    string            `json:"grantId"`
	Engines    []string          `json:"engines"`
	Started    string            `json:"started"` // RFC 3339, the host's clock
	Ended      string            `json:"ended"`
	Phase      string            `json:"phase"`
	ExitCode   int64             `json:"exitCode"`
	Signal     int64             `json:"signal"`
	Allowed    uint64            `json:"allowed"` // actions
	Denied     uint64            `json:"denied"`
	Leases     uint64            `json:"leases"`
	Losses     []Loss            `json:"losses"`
	Log        LogState          `json:"log"`
}

// Loss is a condition that did not hold at some time.
type Loss struct {
	Condition string `json:"condition"`
	Standing  string `json:"standing"`
	Reason    string `json:"reason"`
}

// LogState says which log the statement is made from.
type LogState struct {
	Origin     string `json:"origin"`
	Records    uint64 `json:"records"`
	Root       string `json:"root"`
	Checkpoint string `json:"checkpoint"` // signed
}

// InToto returns the signed in-toto statement (DSSE) about the execution of a
// log. The state of the log is asked for when all of it was read. The key is a
// governor's.
func InToto(k *keys.Key, s Source, state func() (LogState, error)) ([]byte, error) {
	y, err := Read(s, nil, nil)
	if err != nil {
		return nil, err
	}
	l, err := state()
	if err != nil {
		return nil, err
	}
	sub := y.Submission
	p := Execution{
		Execution: sub.Execution, Host: sub.Host, Agent: sub.Agent, Operator: sub.Operator, Argv: sub.Argv, Dir: sub.Dir,
		Executable: sub.Executable.Digest.String(), Tier: sub.Tier.String(), Bundle: sub.Bundle.String(), Grant: sub.Grant.String(), GrantID: sub.GrantID,
		Started: y.Submitted.Time.Format(time.RFC3339Nano), Ended: y.Last.Time.Format(time.RFC3339Nano), Phase: y.Phase.String(),
		Allowed: y.Allowed, Denied: y.Denied, Leases: y.Leases, Losses: []Loss{}, Log: l,
	}
	if y.Exit != nil {
		p.ExitCode, p.Signal = int64(y.Exit.Code), int64(y.Exit.Signal)
	}
	for _, e := range y.Engines {
		p.Engines = append(p.Engines, e.String())
	}
	for _, c := range y.Lost {
		p.Losses = append(p.Losses, Loss{Condition: c.Condition.String(), Standing: c.Standing.String(), Reason: c.Reason})
	}
	return keys.Seal(k, ExecutionPredicate, keys.Subject{Name: l.Origin, Digest: model.DigestOf([]byte(l.Checkpoint))}, p)
}
