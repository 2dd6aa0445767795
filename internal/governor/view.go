package governor

import (
	"time"

	"github.com/writ-run/writ/internal/core"
	"github.com/writ-run/writ/internal/model"
)

// View is what the local API shows of an execution.
type View struct {
	Execution  model.ExecutionID      `json:"execution"`
	Agent      string                 `json:"agent"`
	Operator   string                 `json:"operator"`
	Argv       []string               `json:"argv"`
	Dir        string                 `json:"dir"`
	Tier       model.Tier             `json:"tier"`
	Phase      model.Phase            `json:"phase"`
	Since      time.Time              `json:"since"`
	Conditions []model.ConditionState `json:"conditions"`
	Lease      LeaseView              `json:"lease"`
	Actions    uint64                 `json:"actions"`
	Pending    int                    `json:"pending"` // held until the pause ends
	GrantID    string                 `json:"grant_id"`
	Bundle     model.Digest           `json:"bundle"`
	Governor   int                    `json:"governor_pid"`
	Guard      int                    `json:"guard_pid,omitempty"`
	Main       int                    `json:"main_pid,omitempty"`
	Processes  int                    `json:"processes"`
	Records    uint64                 `json:"records"` // in the evidence log: recorded
	Published  uint64                 `json:"published,omitempty"`
	Witnessed  uint64                 `json:"witnessed,omitempty"`
	Exit       *model.Exit            `json:"exit,omitempty"`
}

// LeaseView is the lease in force, or the last one.
type LeaseView struct {
	Seq        uint64        `json:"seq"`
	DeadlineIn time.Duration `json:"deadline_in_ns"` // negative when it has lapsed
	KillIn     time.Duration `json:"kill_in_ns"`     // while paused: until the pause ends in the kill
}

func viewOf(sub model.Submission, st core.Status, mono, wall int64) View {
	v := View{
		Execution: sub.Execution, Agent: sub.Agent, Operator: sub.Operator, Argv: sub.Argv, Dir: sub.Dir,
		Tier: sub.Tier, Phase: st.Phase, Since: time.Unix(0, wall-(mono-st.Since)).UTC(),
		Conditions: append([]model.ConditionState(nil), st.Conditions[:]...),
		Lease:      LeaseView{Seq: st.Lease.Seq, DeadlineIn: time.Duration(st.Lease.Deadline - mono)},
		Actions:    st.Actions, Pending: st.Pending, GrantID: sub.GrantID, Bundle: sub.Bundle, Exit: st.Exit,
	}
	if st.Phase == model.Paused {
		v.Lease.KillIn = time.Duration(st.KillAt - mono)
	}
	return v
}
