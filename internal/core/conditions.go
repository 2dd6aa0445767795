package core

import "github.com/writ-run/writ/internal/model"

func (m *Machine) observe(o model.Observation) {
	if !o.Condition.Valid() || o.ObservedAt > m.now {
		m.refuse(CodeBadObservation)
		return
	}
	// A late word never overwrites a newer one.
	seat := &m.observations[o.Condition-1]
	if seat.Condition.Valid() && o.ObservedAt < seat.ObservedAt {
		m.refuse(CodeBadObservation)
		return
	}
	*seat = o
	if m.phase == model.Running && m.lease.Deadline < after(m.lease.IssuedAt, m.sub.Settings.LeaseLength) {
		m.renewAt = m.now // the lease was cut short by an observation's end: lengthen it when that is pushed out
	}
	m.advance()
}

// standing says what is known now of the condition at index i.
func (m *Machine) standing(i int) model.ConditionState {
	o := m.observations[i]
	s := model.ConditionState{Condition: model.AllConditions()[i], Digest: o.Digest}
	budget := m.sub.Settings.Budget.Actions
	switch {
	case s.Condition == model.Scope && budget > 0 && m.actions > budget:
		s.Standing, s.Reason = model.Lost, CodeBudgetActions
	case !o.Condition.Valid():
		s.Standing = model.Unknown
	case o.Verdict != model.VerdictValid:
		s.Standing, s.Reason, s.Detail = model.Lost, o.Reason, o.Detail
	case m.now >= o.ValidUntil:
		s.Standing = model.Stale
	default:
		s.Standing = model.Holds
	}
	return s
}

// refresh brings the states of all conditions up to now and reports each one
// whose standing or reason changed.
func (m *Machine) refresh() {
	for i := range m.states {
		was, is := m.states[i], m.standing(i)
		m.states[i] = is
		if was.Standing != is.Standing || was.Reason != is.Reason {
			m.unsettled = true
			state := is
			m.emit(model.Effect{Kind: model.EffectCondition, Condition: &state})
		}
	}
}

func (m *Machine) allHold() bool {
	for i := range m.states {
		if m.states[i].Standing != model.Holds {
			return false
		}
	}
	return true
}

func (m *Machine) anyLost() bool {
	for i := range m.states {
		if m.states[i].Standing == model.Lost {
			return true
		}
	}
	return false
}

// revalidated tells whether every condition was looked at after the phase was
// entered, by the governor that governs now, and holds.
func (m *Machine) revalidated() bool {
	return m.seenSince(m.since) && (!m.adopted || m.seenSince(m.adoptedAt)) && m.allHold()
}

// seenSince tells whether every condition was looked at after t.
func (m *Machine) seenSince(t int64) bool {
	for i := range m.observations {
		if m.observations[i].ObservedAt <= t {
			return false
		}
	}
	return true
}

// notHolding returns the states that stand against going on.
func (m *Machine) notHolding() []model.ConditionState {
	var lost []model.ConditionState
	for i := range m.states {
		if m.states[i].Standing != model.Holds {
			lost = append(lost, m.states[i])
		}
	}
	return lost
}

// advance looks at what time and observations have changed, and answers it.
func (m *Machine) advance() {
	m.refresh()
	switch m.phase {
	case model.Requested:
		m.admit()
	case model.Arming:
		if !m.allHold() {
			m.terminate(CodeConditionLost)
		} else if m.now >= after(m.since, m.sub.Settings.AdmitWithin) {
			m.terminate(CodeArmTimedOut)
		}
	case model.Running:
		m.hold()
	case model.Paused:
		m.wait()
	case model.Terminating:
		if m.now >= m.retryAt {
			m.kill()
		}
	}
}

// admit decides the start once the conditions are known.
func (m *Machine) admit() {
	overdue := m.now >= after(m.since, m.sub.Settings.AdmitWithin)
	if !m.allHold() && !m.anyLost() && !overdue {
		return
	}
	d := m.rule(model.ActionStart, nil)
	switch {
	case d.Allow:
		m.admitted = m.now
		m.enter(model.Arming, CodeAllConditionsHold)
		m.emit(model.Effect{Kind: model.EffectArm})
	case m.anyLost():
		m.enter(model.Denied, CodeConditionLost)
	case !m.allHold():
		m.enter(model.Denied, CodeNotEstablished)
	default:
		m.enter(model.Denied, CodeForbidden)
	}
}

// hold keeps a running execution on its lease, or answers the loss.
func (m *Machine) hold() {
	if m.now >= m.lease.Deadline {
		// The guard has frozen the workload already.
		m.giveGrace(m.lease.Deadline, m.sub.Settings.KillGrace)
		m.pause(CodeLeaseLapsed)
		m.wait()
		return
	}
	if m.unseen() {
		return // unsettled stays: it is decided when the last one was looked at
	}
	if !m.adopted && !m.unsettled && m.now < m.renewAt {
		return
	}
	if d := m.rule(model.ActionContinue, nil); d.Allow {
		m.denying = false
		m.grantLease()
	} else {
		m.respond(d)
	}
}

// wait keeps a paused execution until it may go on or its time is over.
func (m *Machine) wait() {
	if m.now >= m.killAt {
		m.terminate(CodePauseExpired)
		return
	}
	if !m.unsettled && (!m.awaitsRevalidation() || m.now < m.renewAt) {
		return
	}
	if m.allHold() && !m.revalidated() {
		return // unsettled stays: it is decided when the last one is seen again
	}
	d := m.rule(model.ActionContinue, nil)
	switch {
	case !d.Allow:
		m.respond(d)
	case m.ordered != 0:
		if m.graced != 0 {
			m.graced = 0
			m.freeze(CodeRevalidated)
		}
	default:
		m.resume()
	}
}

// awaitsRevalidation tells whether all conditions were seen to hold since the
// pause began, and that would change something.
func (m *Machine) awaitsRevalidation() bool {
	return (m.ordered == 0 || m.graced != 0) && m.revalidated()
}

// NextWake returns the Mono at which a Tick would change something, if no
// input comes before; false when no Tick would. It may have passed already.
func (m *Machine) NextWake() (int64, bool) {
	if m.sub == nil || m.phase.Final() {
		return 0, false
	}
	wake := after(m.now, int64(^uint64(0)>>1))
	at := func(t int64) { wake = min(wake, t) }
	switch m.phase {
	case model.Requested, model.Arming:
		at(after(m.since, m.sub.Settings.AdmitWithin))
	case model.Running:
		at(m.lease.Deadline)
		if !m.unseen() {
			at(m.renewAt)
		}
	case model.Paused:
		at(m.killAt)
		if m.awaitsRevalidation() {
			at(m.renewAt)
		}
	case model.Terminating:
		return m.retryAt, true
	}
	for i := range m.states {
		if m.states[i].Standing == model.Holds {
			at(m.observations[i].ValidUntil)
		}
	}
	return wake, true
}
