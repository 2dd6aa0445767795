package core

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/writ-run/writ/internal/model"
)

// TestScripts runs the scripts in testdata: each command is an input, the text
// below it the effects that it must have. `go test -rewrite` writes them anew.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := newScript()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return s.run(t, d)
		})
	})
}

// scriptedPolicies allows all but what the script says.
type scriptedPolicies struct {
	continued model.Decision
	start     model.Decision
	exec      model.Decision
}

func (p *scriptedPolicies) Decide(_ model.Digest, r model.Request) model.Decision {
	switch r.Kind {
	case model.ActionStart:
		return p.start
	case model.ActionContinue:
		return p.continued
	default:
		return p.exec
	}
}

var permit = model.Decision{Allow: true, Reason: model.ReasonPermitted}

type script struct {
	policies *scriptedPolicies
	m        *Machine
	now      int64
	actions  uint64
}

func newScript() *script {
	p := &scriptedPolicies{start: permit, continued: permit, exec: permit}
	return &script{policies: p, m: New(p), now: int64(time.Second)}
}

func testSubmission() model.Submission {
	return model.Submission{
		Execution: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Boot: "boot", Argv: []string{"true"}, Dir: "/",
		Tier: model.TierUser, Bundle: model.DigestOf([]byte("bundle")), Grant: model.DigestOf([]byte("grant")),
		Settings: model.Settings{
			LeaseLength: int64(2 * time.Second), RenewEvery: int64(time.Second), KillGrace: int64(10 * time.Second),
			AdmitWithin: int64(5 * time.Second), PauseLimit: int64(time.Hour),
		},
	}
}

func (s *script) run(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	duration := func(key, otherwise string) int64 {
		text := otherwise
		d.MaybeScanArgs(t, key, &text)
		v, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		return int64(v)
	}
	word := func(key, otherwise string) string {
		text := otherwise
		d.MaybeScanArgs(t, key, &text)
		return text
	}
	s.now += duration("after", "0s")
	switch d.Cmd {
	case "policy":
		return s.setPolicy(t, word, duration)
	case "status":
		return s.status()
	case "run":
		return s.start()
	}
	in := model.Input{Mono: s.now, Wall: s.now}
	switch d.Cmd {
	case "submit":
		sub := testSubmission()
		if word("bad", "") == "renew" {
			sub.Settings.RenewEvery = sub.Settings.LeaseLength
		}
		if word("bad", "") == "grace" {
			sub.Settings.KillGrace = 0
		}
		switch word("bad", "") {
		case "withheld":
			sub.Withheld = []model.ActionKind{model.ActionStart}
		case "parent":
			sub.Parent, sub.ParentRecord = sub.Execution, model.DigestOf(nil)
		}
		if word("withheld", "") != "" {
			sub.Withheld = []model.ActionKind{model.ActionExec, model.ActionConnect}
		}
		var actions int
		d.MaybeScanArgs(t, "actions", &actions)
		sub.Settings.Budget.Actions = uint64(actions)
		in.Kind, in.Submission = model.InputSubmit, &sub
	case "observe":
		return s.observe(t, word, duration)
	case "ask":
		s.actions++
		a := model.Action{Number: s.actions, Kind: model.ActionExec, Gate: "kernel",
			Resource: model.Resource{Kind: model.ResourceExecutable, ID: word("path", "/bin/true")}}
		d.MaybeScanArgs(t, "number", &a.Number)
		if word("bad", "") != "" {
			a.Kind = model.ActionStart
		}
		in.Kind, in.Action = model.InputAsk, &a
	case "flood":
		var out string
		for range MaxPending + 1 {
			s.actions++
			out = s.step(model.Input{Kind: model.InputAsk, Mono: s.now, Action: &model.Action{Number: s.actions, Kind: model.ActionExec,
				Gate: "kernel", Resource: model.Resource{Kind: model.ResourceExecutable, ID: "/bin/true"}}})
		}
		return out
	case "outcome":
		var n uint64
		d.ScanArgs(t, "number", &n)
		in.Kind, in.Outcome = model.InputOutcome, &model.Outcome{Number: n, Done: true}
	case "order":
		var k model.OrderKind
		if err := k.UnmarshalText([]byte(word("kind", ""))); err != nil {
			k = 9
		}
		in.Kind, in.Order = model.InputOrder, &model.Order{Kind: k, Operator: "op"}
	case "report":
		var k model.EffectKind
		if err := k.UnmarshalText([]byte(word("of", ""))); err != nil {
			t.Fatal(err)
		}
		r := model.Report{Effect: k, OK: word("ok", "yes") == "yes", Tier: model.TierUser}
		if word("tier", "user") == "cooperative" {
			r.Tier = model.TierCooperative
		}
		in.Kind, in.Report = model.InputReport, &r
	case "exit":
		var code int
		d.MaybeScanArgs(t, "code", &code)
		in.Kind, in.Exit = model.InputExit, &model.Exit{Code: int32(code), Lost: word("lost", "")}
	case "tick":
		in.Kind = model.InputTick
	case "adopt":
		in.Kind, in.Adoption = model.InputAdopt, &model.Adoption{}
	case "malformed":
		in.Kind, in.Exit = model.InputTick, &model.Exit{}
	default:
		t.Fatalf("no such command: %s", d.Cmd)
	}
	return s.step(in)
}

func (s *script) step(in model.Input) string { return render(s.m.Step(in)) }

// start brings a fresh machine to phase running.
func (s *script) start() string {
	sub := testSubmission()
	s.step(model.Input{Kind: model.InputSubmit, Mono: s.now, Submission: &sub})
	s.observeAll(int64(time.Hour))
	s.step(model.Input{Kind: model.InputReport, Mono: s.now, Report: &model.Report{Effect: model.EffectArm, OK: true, Tier: model.TierUser}})
	return s.status()
}

func (s *script) observeAll(lasts int64) string {
	var out strings.Builder
	for _, c := range model.AllConditions() {
		out.WriteString(s.step(model.Input{Kind: model.InputObserve, Mono: s.now, Observation: &model.Observation{
			Condition: c, Verdict: model.VerdictValid, ObservedAt: s.now, ValidUntil: s.now + lasts}}))
	}
	return out.String()
}

func (s *script) observe(t *testing.T, word func(string, string) string, duration func(string, string) int64) string {
	t.Helper()
	lasts := duration("lasts", "1h")
	name := word("condition", "all")
	if name == "all" {
		return s.observeAll(lasts)
	}
	o := model.Observation{Verdict: model.VerdictValid, ObservedAt: s.now - duration("ago", "0s"), ValidUntil: s.now + lasts}
	if err := o.Condition.UnmarshalText([]byte(name)); err != nil {
		o.Condition = 77
	}
	if reason := word("lost", ""); reason != "" {
		o.Verdict, o.Reason = model.VerdictInvalid, reason
	}
	return s.step(model.Input{Kind: model.InputObserve, Mono: s.now, Observation: &o})
}

func (s *script) setPolicy(t *testing.T, word func(string, string) string, duration func(string, string) int64) string {
	t.Helper()
	d := model.Decision{Reason: model.ReasonForbidden, Grace: duration("grace", "0s")}
	if r := word("response", ""); r != "" {
		var err error
		if d.Response, err = model.ParseResponse(r); err != nil {
			t.Fatal(err)
		}
	}
	switch word("says", "deny") {
	case "allow":
		d = permit
	case "allow-with-error":
		d = permit
		d.Errors = []model.PolicyError{{Message: "boom"}}
	}
	switch on := word("on", "continue"); on {
	case "continue":
		s.policies.continued = d
	case "start":
		s.policies.start = d
	case "exec":
		s.policies.exec = d
	default:
		t.Fatalf("no such action: %s", on)
	}
	return ""
}

func (s *script) status() string {
	st := s.m.Status()
	wake := "never"
	if at, ok := s.m.NextWake(); ok {
		wake = "in " + time.Duration(at-s.now).String()
	}
	exit := ""
	if st.Exit != nil {
		exit = fmt.Sprintf(" exit=%d", st.Exit.Code)
	}
	return fmt.Sprintf("%s lease=%d actions=%d pending=%d open=%d wake=%s%s\n", st.Phase, st.Lease.Seq, st.Actions, st.Pending, len(st.Open), wake, exit)
}

func render(effects []model.Effect) string {
	var b strings.Builder
	for _, e := range effects {
		fmt.Fprintf(&b, "%d %s", e.Number, e.Kind)
		switch e.Kind {
		case model.EffectCondition:
			fmt.Fprintf(&b, " %s %s %s", e.Condition.Condition, e.Condition.Standing, e.Condition.Reason)
		case model.EffectDecision:
			r := e.Ruling
			fmt.Fprintf(&b, " %s", r.Kind)
			if r.Action != 0 {
				fmt.Fprintf(&b, "#%d", r.Action)
			}
			fmt.Fprintf(&b, " allow=%t %s", r.Decision.Allow, r.Decision.Reason)
			for _, c := range r.Conditions {
				fmt.Fprintf(&b, " [%s %s]", c.Condition, c.Standing)
			}
		case model.EffectPhase:
			fmt.Fprintf(&b, " %s %s", e.Phase, e.Reason)
			if e.Exit != nil {
				fmt.Fprintf(&b, " code=%d", e.Exit.Code)
			}
		case model.EffectLease:
			fmt.Fprintf(&b, " %d: %v to %v, kill at %v", e.Lease.Seq, at(e.Lease.IssuedAt), at(e.Lease.Deadline), at(e.Lease.KillAt))
		case model.EffectFreeze:
			fmt.Fprintf(&b, " %s, kill at %v", e.Reason, at(e.KillAt))
		default:
			fmt.Fprintf(&b, " %s", e.Reason)
		}
		b.WriteString("\n")
	}
	return strings.ReplaceAll(b.String(), " \n", "\n")
}

// at renders a Mono as the time since the script began.
func at(mono int64) time.Duration { return time.Duration(mono) - time.Second }
