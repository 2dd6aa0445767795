package core

import "github.com/writ-run/writ/internal/model"

// MaxPending is how many actions a paused execution keeps waiting; one more is
// denied. A gate bounds what it has in flight well below it.
const MaxPending = 4096

// KillRetry is how long after a Kill effect that was not confirmed the machine
// asks for it again, in nanoseconds.
const KillRetry = int64(1e9)

// Stable codes of the reasons that the machine itself gives: for refused
// inputs, phases, freezes and kills.
const (
	CodeMalformed         = "malformed_input"
	CodeNoSubmission      = "no_submission"
	CodeSubmittedTwice    = "submitted_twice"
	CodeBadSubmission     = "bad_submission"
	CodeEnded             = "ended"
	CodeBadObservation    = "bad_observation"
	CodeActionOutOfOrder  = "action_out_of_order"
	CodeUnknownOutcome    = "unknown_outcome"
	CodeUnexpectedReport  = "unexpected_report"
	CodeUnexpectedExit    = "unexpected_exit"
	CodeNotRunning        = "not_running"
	CodeNotPaused         = "not_paused"
	CodeNotEstablished    = "not_established" // the conditions were not all established in time
	CodeConditionLost     = "condition_lost"  // a condition does not hold
	CodeForbidden         = "forbidden"       // all hold, and the policy says no
	CodeArmFailed         = "arm_failed"      // enforcement could not be built
	CodeArmTimedOut       = "arm_timed_out"   // nor in time
	CodeWeakerTier        = "weaker_tier"     // what was armed is weaker than what was admitted
	CodeStartFailed       = "start_failed"    // the workload could not be let go
	CodeFreezeFailed      = "freeze_failed"   // it could not be frozen
	CodeThawFailed        = "thaw_failed"     // it could not be thawed
	CodeLeaseLapsed       = "lease_lapsed"    // the lease was not renewed in time
	CodePauseExpired      = "pause_expired"   // the grace or the longest pause is over
	CodeOrder             = "order"           // an operator's order
	CodeRevalidated       = "revalidated"     // all conditions were seen to hold since the pause
	CodeExited            = "exited"          // the workload ended by itself
	CodeAllConditionsHold = "all_conditions_hold"
	CodeBudgetActions     = "budget_actions" // more actions than the budget has
	CodeNotAdoptable      = "not_adoptable"  // it was not let go, or is being killed
)

// Machine is the state of one execution. It is not safe for concurrent use:
// one goroutine feeds it. Make one with New.
type Machine struct {
	policies Policies
	out      []model.Effect // of the step under way

	sub     *model.Submission
	phase   model.Phase
	now     int64  // Mono of the latest input; never goes back
	effects uint64 // number of the last effect

	since    int64 // Mono at which the phase was entered
	admitted int64 // Mono at which the start was permitted
	started  bool  // the workload was let go
	exit     *model.Exit
	killedBy string // code of why it is being terminated
	retryAt  int64  // when an unconfirmed Kill is asked for again

	observations [model.NumConditions]model.Observation
	states       [model.NumConditions]model.ConditionState
	unsettled    bool // a state changed since `continue` was last decided

	lease       model.Lease
	leaseDigest model.Digest
	renewAt     int64 // when `continue` is decided next
	adopted     bool  // a governor took over, and there was no lease since
	adoptedAt   int64 // when the last one did
	denying     bool  // answered a loss by denying: no action, no renewal

	ordered     int64 // paused by an order until then (Mono); 0: not
	graced      int64 // paused for a loss until then (Mono); 0: not
	gracedSince int64 // when that began
	graceCap    int64 // the latest that graced may become
	killAt      int64 // of the last Freeze

	actions uint64         // asked for so far
	pending []model.Action // asked for while paused, in order
	open    []uint64       // allowed, outcome not yet known, ascending
}

// New returns the machine of an execution that was not submitted yet.
func New(policies Policies) *Machine { return &Machine{policies: policies} }

// Step takes one input and returns what is now to be done, in order. The
// effects must be made durable before any of them is carried out. An input
// that cannot be taken leaves the state unchanged but for the time, and
// returns one Refuse effect that says why.
func (m *Machine) Step(in model.Input) []model.Effect {
	m.out = nil
	if in.Mono > m.now {
		m.now = in.Mono
	}
	if code := m.unfit(in); code != "" {
		m.emit(model.Effect{Kind: model.EffectRefuse, Reason: code})
		return m.out
	}
	switch in.Kind {
	case model.InputSubmit:
		m.submit(*in.Submission)
	case model.InputObserve:
		m.observe(*in.Observation)
	case model.InputAsk:
		m.ask(*in.Action)
	case model.InputOutcome:
		m.outcome(*in.Outcome)
	case model.InputOrder:
		m.order(*in.Order)
	case model.InputReport:
		m.report(*in.Report)
	case model.InputExit:
		m.exited(*in.Exit)
	case model.InputTick:
		m.advance()
	case model.InputAdopt:
		m.adopt()
	}
	return m.out
}

// unfit says why in cannot be taken in any state of this phase, or "".
func (m *Machine) unfit(in model.Input) string {
	switch {
	case !in.WellFormed():
		return CodeMalformed
	case m.phase.Final():
		return CodeEnded
	case m.sub == nil && in.Kind != model.InputSubmit:
		return CodeNoSubmission
	case m.sub != nil && in.Kind == model.InputSubmit:
		return CodeSubmittedTwice
	}
	return ""
}

func (m *Machine) emit(e model.Effect) {
	m.effects++
	e.Number = m.effects
	m.out = append(m.out, e)
}

func (m *Machine) refuse(code string) {
	m.emit(model.Effect{Kind: model.EffectRefuse, Reason: code})
}

func (m *Machine) enter(p model.Phase, reason string) {
	m.phase, m.since = p, m.now
	e := model.Effect{Kind: model.EffectPhase, Phase: p, Reason: reason}
	if p.Final() && m.exit != nil {
		exit := *m.exit
		e.Exit = &exit
	}
	m.emit(e)
}

func (m *Machine) submit(s model.Submission) {
	s.Argv = append([]string(nil), s.Argv...)
	s.Withheld = append([]model.ActionKind(nil), s.Withheld...)
	m.sub = &s
	for i, c := range model.AllConditions() {
		m.states[i] = model.ConditionState{Condition: c, Standing: model.Unknown}
	}
	if !sound(s) {
		m.enter(model.Denied, CodeBadSubmission)
		return
	}
	m.enter(model.Requested, "")
}

// sound tells whether a submission can be governed at all.
func sound(s model.Submission) bool {
	t := s.Settings
	const longest = int64(1) << 56 // over two years, far from overflow
	for _, d := range [...]int64{t.LeaseLength, t.RenewEvery, t.KillGrace, t.AdmitWithin, t.PauseLimit} {
		if d <= 0 || d > longest {
			return false
		}
	}
	for i, k := range s.Withheld {
		if k < model.ActionExec || !k.Valid() || i > 0 && s.Withheld[i-1] >= k {
			return false
		}
	}
	if (s.Parent == "") != s.ParentRecord.IsZero() || s.Parent == s.Execution {
		return false
	}
	_, err := model.ParseExecutionID(string(s.Execution))
	return err == nil && t.RenewEvery < t.LeaseLength && len(s.Argv) > 0 && s.Boot != "" &&
		s.Tier >= model.TierCooperative && s.Tier <= model.TierKernel &&
		!s.Bundle.IsZero() && !s.Grant.IsZero()
}

func (m *Machine) report(r model.Report) {
	switch {
	case r.Effect == model.EffectArm && m.phase == model.Arming && !m.started:
		m.armed(r)
	case r.Effect == model.EffectStart && m.started && !r.OK:
		m.terminate(CodeStartFailed)
	case r.Effect == model.EffectFreeze && m.started && !r.OK:
		m.terminate(CodeFreezeFailed)
	case r.Effect == model.EffectThaw && m.started && !r.OK:
		m.terminate(CodeThawFailed)
	case r.Effect == model.EffectKill && m.phase == model.Terminating:
		if r.OK {
			m.ended()
		}
	case r.OK && m.started && (r.Effect == model.EffectStart || r.Effect == model.EffectFreeze || r.Effect == model.EffectThaw):
		// As it should be. Only a failure changes anything.
	default:
		m.refuse(CodeUnexpectedReport)
	}
}

func (m *Machine) armed(r model.Report) {
	if !r.OK {
		m.enter(model.Denied, CodeArmFailed)
		return
	}
	if r.Tier < m.sub.Tier {
		m.terminate(CodeWeakerTier)
		return
	}
	m.refresh()
	if d := m.rule(model.ActionContinue, nil); !d.Allow {
		m.terminate(m.why())
		return
	}
	m.grantLease()
	m.started = true
	m.emit(model.Effect{Kind: model.EffectStart})
	m.enter(model.Running, CodeAllConditionsHold)
}

func (m *Machine) exited(x model.Exit) {
	switch m.phase {
	case model.Running, model.Paused:
		m.exit = &x
		m.denyPending()
		if x.Lost != "" {
			m.enter(model.Terminated, x.Lost)
		} else {
			m.enter(model.Completed, CodeExited)
		}
	case model.Arming, model.Terminating:
		// The kill is still to be confirmed: the main process is not the tree.
		m.exit = &x
		if m.phase == model.Arming {
			m.terminate(CodeStartFailed)
		}
	default:
		m.refuse(CodeUnexpectedExit)
	}
}

// ended closes an execution whose tree is confirmed dead.
func (m *Machine) ended() {
	if m.started {
		m.enter(model.Terminated, m.killedBy)
	} else {
		m.enter(model.Denied, m.killedBy)
	}
}

func (m *Machine) order(o model.Order) {
	switch o.Kind {
	case model.OrderKill:
		if m.phase == model.Requested {
			m.enter(model.Denied, CodeOrder)
			return
		}
		m.terminate(CodeOrder)
	case model.OrderPause:
		if m.phase != model.Running && m.phase != model.Paused {
			m.refuse(CodeNotRunning)
			return
		}
		m.ordered = after(m.now, m.sub.Settings.PauseLimit)
		m.pause(CodeOrder)
	case model.OrderResume:
		if m.phase != model.Paused || m.ordered == 0 {
			m.refuse(CodeNotPaused)
			return
		}
		m.ordered = 0
		if m.graced == 0 {
			// Until the conditions are revalidated the pause is Writ's own.
			m.giveGrace(m.now, m.sub.Settings.KillGrace)
		}
		m.freeze(CodeOrder)
		m.advance()
	case model.OrderErase:
		// It changes nothing here; that it was given is on record.
	default:
		m.refuse(CodeMalformed)
	}
}

// after returns t+d, or the last instant there is.
func after(t, d int64) int64 {
	if sum := t + d; sum >= t {
		return sum
	}
	return int64(^uint64(0) >> 1)
}
