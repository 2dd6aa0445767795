package core

import "github.com/writ-run/writ/internal/model"

// ask takes an action that a gate holds. Every action that has the next number
// gets exactly one ruling: at once, or when the pause ends.
func (m *Machine) ask(a model.Action) {
	if a.Number != m.actions+1 {
		m.refuse(CodeActionOutOfOrder)
		return
	}
	m.actions++
	m.advance()
	if m.phase != model.Paused {
		m.decide(a)
		return
	}
	if len(m.pending) >= MaxPending {
		m.deny(a, model.ReasonTooManyPending)
		return
	}
	m.pending = append(m.pending, a)
}

// decide rules on an action in a phase that does not keep it waiting.
func (m *Machine) decide(a model.Action) {
	switch {
	case m.phase != model.Running:
		m.deny(a, model.ReasonNotRunning)
	case !a.WellFormed():
		m.deny(a, model.ReasonBadRequest)
	case m.denying:
		m.deny(a, model.ReasonConditionLost)
	case m.withheld(a.Kind):
		m.deny(a, model.ReasonNotGranted)
	default:
		if m.rule(a.Kind, &a).Allow {
			m.open = append(m.open, a.Number)
		}
	}
}

// withheld tells whether the grant does not let the execution ask for the kind.
func (m *Machine) withheld(kind model.ActionKind) bool {
	for _, k := range m.sub.Withheld {
		if k == kind {
			return true
		}
	}
	return false
}

// denyPending rules against all that waits for the end of a pause.
func (m *Machine) denyPending() {
	for _, a := range m.pending {
		m.deny(a, model.ReasonNotRunning)
	}
	m.pending = nil
}

// outcome closes an allowed action.
func (m *Machine) outcome(o model.Outcome) {
	for i, n := range m.open {
		if n == o.Number {
			m.open = append(m.open[:i:i], m.open[i+1:]...)
			return
		}
	}
	m.refuse(CodeUnknownOutcome)
}

// Status is a copy of what is true of an execution now.
type Status struct {
	Phase      model.Phase                               `json:"phase"`
	Since      int64                                     `json:"since"` // Mono
	Conditions [model.NumConditions]model.ConditionState `json:"conditions"`
	Lease      model.Lease                               `json:"lease"`
	LeaseProof model.Digest                              `json:"lease_digest,omitzero"`
	Actions    uint64                                    `json:"actions"`
	Pending    int                                       `json:"pending"`        // held until the pause ends
	Open       []uint64                                  `json:"open,omitempty"` // allowed, outcome not yet known
	KillAt     int64                                     `json:"kill_at,omitempty"`
	Exit       *model.Exit                               `json:"exit,omitempty"`
}

// Status returns the state after the last step.
func (m *Machine) Status() Status {
	s := Status{
		Phase: m.phase, Since: m.since, Conditions: m.states, Lease: m.lease, LeaseProof: m.leaseDigest,
		Actions: m.actions, Pending: len(m.pending), Open: append([]uint64(nil), m.open...), KillAt: m.killAt,
	}
	if m.exit != nil {
		exit := *m.exit
		s.Exit = &exit
	}
	return s
}
