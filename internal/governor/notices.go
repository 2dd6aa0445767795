package governor

import (
	"fmt"
	"strings"

	"github.com/writ-run/writ/internal/model"
)

// NoticeKind says what a Notice is about.
type NoticeKind string

// The kinds of notices.
const (
	NoticeReady       NoticeKind = "ready" // the execution has its ID, and signals are heeded
	NoticeStarted     NoticeKind = "started"
	NoticeDenied      NoticeKind = "denied" // an action
	NoticeLost        NoticeKind = "lost"   // a condition
	NoticePaused      NoticeKind = "paused"
	NoticeResumed     NoticeKind = "resumed"
	NoticeTerminating NoticeKind = "terminating"
	NoticeEnded       NoticeKind = "ended"
	NoticeAdopted     NoticeKind = "adopted" // taken over from a governor that died
)

// Notice is something that a person watching the run would want to know.
type Notice struct {
	Execution model.ExecutionID
	Kind      NoticeKind
	Tier      model.Tier
	Phase     model.Phase
	Reason    string // stable code
	Text      string // for people, one line
	Action    uint64 // the number of a denied action, as `writ why ID/N` takes it
}

// notify tells the watcher of effects, and keeps how it ended.
func (e *execution) notify(in model.Input, effects []model.Effect) {
	if in.Order != nil && in.Order.Reason == byTerminal {
		e.suspended = in.Order.Kind == model.OrderPause
	}
	for _, f := range effects {
		n := Notice{Execution: e.sub.Execution, Tier: e.sub.Tier, Reason: f.Reason}
		switch f.Kind {
		case model.EffectDecision:
			if f.Ruling.Action == 0 || f.Ruling.Decision.Allow {
				continue
			}
			n.Kind, n.Action, n.Reason = NoticeDenied, f.Ruling.Action, f.Ruling.Decision.Reason
			n.Text = f.Ruling.Kind.String()
			if in.Action != nil && in.Action.Number == n.Action {
				n.Text = describe(*in.Action)
			}
		case model.EffectCondition:
			if f.Condition.Standing == model.Holds || e.lease.Seq == 0 && f.Condition.Standing == model.Unknown {
				continue
			}
			n.Kind, n.Reason = NoticeLost, f.Condition.Reason
			n.Text = fmt.Sprintf("%s is %s", f.Condition.Condition, f.Condition.Standing)
			if f.Condition.Detail != "" {
				n.Text += ": " + f.Condition.Detail
			}
		case model.EffectPhase:
			n.Phase = f.Phase
			switch f.Phase {
			case model.Running:
				n.Kind = NoticeStarted
				if e.paused {
					n.Kind, e.paused = NoticeResumed, false
				}
				if e.silent {
					e.silent = false
					continue
				}
			case model.Paused:
				n.Kind, e.paused = NoticePaused, true
				if e.suspended {
					e.silent = true // the shell tells of it, as of any job
					continue
				}
			case model.Terminating:
				n.Kind = NoticeTerminating
			case model.Completed, model.Denied, model.Terminated:
				n.Kind = NoticeEnded
				e.result.Phase, e.result.Reason, e.result.Exit = f.Phase, f.Reason, f.Exit
				if f.Phase == model.Completed {
					e.result.NotRun = e.notRun
				}
			default:
				continue
			}
			if err := e.firstFault(); err != nil {
				n.Text = err.Error()
			}
		default:
			continue
		}
		if e.spec.Notify != nil {
			e.spec.Notify(n)
		}
	}
}

// say tells the watcher something that no effect is behind.
func (e *execution) say(n Notice) {
	if e.spec.Notify != nil {
		n.Execution, n.Tier = e.sub.Execution, e.sub.Tier
		e.spec.Notify(n)
	}
}

// describe says an action in one line.
func describe(a model.Action) string {
	switch {
	case a.Resource.ID == "":
		return "a call that cannot be understood: " + strings.Join(a.Args, " ")
	case a.Resource.Kind == model.ResourceHost:
		return fmt.Sprintf("%s to %s port %d", a.Kind, a.Resource.ID, a.Resource.Port)
	case a.Kind == model.ActionExec && len(a.Args) > 1:
		return fmt.Sprintf("%s of %s (%s)", a.Kind, a.Resource.ID, strings.Join(a.Args, " "))
	}
	return fmt.Sprintf("%s of %s", a.Kind, a.Resource.ID)
}
