package core

import "github.com/writ-run/writ/internal/model"

// adopt lets another governor go on where the one before died: under the lease
// in force and until its deadline, with the next one only when every condition
// was looked at since. What was kept waiting for the end of a pause has lost
// the gate that held it; that gate's successor asks again.
//
// It comes too late once the lease has lapsed, or the pause is over.
func (m *Machine) adopt() {
	switch m.phase {
	case model.Running:
		if m.now >= m.lease.Deadline {
			m.terminate(CodeLeaseLapsed)
			return
		}
	case model.Paused:
		if m.now >= m.killAt {
			m.terminate(CodePauseExpired)
			return
		}
		for _, a := range m.pending {
			m.deny(a, model.ReasonGovernorLost)
		}
		m.pending = nil
	default:
		m.refuse(CodeNotAdoptable)
		return
	}
	m.adopted, m.adoptedAt = true, m.now
	m.advance()
}

// unseen tells whether the governor took over and has not looked at every
// condition since. What it does not know to be lost it must look at first.
func (m *Machine) unseen() bool {
	return m.adopted && m.allHold() && !m.seenSince(m.adoptedAt)
}
