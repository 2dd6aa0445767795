package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/problem"
)

// whyText is the answer of `writ why` for people.
func (o *output) whyText(w why) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(problem.Clean(fmt.Sprintf(format, args...)) + "\n")
	}
	state := w.Phase.String()
	if w.Exit != nil && w.Phase == model.Completed { // what was killed has no say in how it ended
		state += ", " + exitWords(*w.Exit)
	}
	line("execution %s: %s", w.Execution, commandLine(w.Argv))
	b.WriteString("  " + o.paint(phaseColour(w.Phase), problem.Clean(state)) + problem.Clean(after(": ", stopWords(w))) + "\n")
	if w.Paused != "" {
		line("  it was paused because: %s", reasonWords(w.Paused))
	}
	if w.Order != nil {
		line("  ordered by %s: %s%s", w.Order.Operator, w.Order.Kind, after(": ", w.Order.Reason))
	}
	if w.Failure != "" {
		line("  %s", w.Failure)
		line("  fix: %s", fixOf(w.Reason))
	}
	if w.Decision != nil {
		b.WriteByte('\n')
		o.decisionText(&b, w.Decision)
	} else if len(w.Denied) == 0 && w.Order == nil && w.Note == "" && w.Failure == "" && (w.Phase == model.Completed || w.Phase == model.Running) {
		line("  nothing was denied, and nothing stopped it")
		line("  (files are laid out at the start: what it could not find or change is allowed by --read, --write and --exec)")
	}
	if w.Note != "" {
		line("\nnote: %s", w.Note)
	}
	if others := otherDenied(w); others != "" {
		line("\n%s", others)
	}
	return b.String()
}

// stopWords says the reason of a phase that is not an ordinary one.
func stopWords(w why) string {
	switch w.Phase {
	case model.Running, model.Completed, model.Requested, model.Arming:
		return ""
	}
	return reasonWords(w.Reason)
}

func (o *output) decisionText(b *strings.Builder, d *whyDecision) {
	line := func(format string, args ...any) {
		b.WriteString(problem.Clean(fmt.Sprintf(format, args...)) + "\n")
	}
	verdict, c := "DENIED", red
	if d.Decision.Allow {
		verdict, c = "ALLOWED", green
	}
	number := ""
	if d.Action != nil {
		number = fmt.Sprintf("action %d, ", d.Action.Number)
	}
	b.WriteString(o.paint(c, verdict) + problem.Clean(fmt.Sprintf(": %s", d.Asked)) + "\n")
	line("  when: %s%s (record %d)", number, d.Time.Local().Format("2006-01-02 15:04:05.000"), d.Record)
	line("  why: %s", reasonWords(d.Decision.Reason))
	if d.Decision.Response != 0 {
		grace := ""
		if d.Decision.Grace > 0 {
			grace = fmt.Sprintf(", and the end after %s", time.Duration(d.Decision.Grace))
		}
		line("  response: %s%s", d.Decision.Response, grace)
	}
	for _, p := range d.Policies {
		line("  policy: %s at %s:%d:%d", p.ID, p.File, p.Line, p.Column)
		if p.Text != "" {
			line("%s", indented(p.Text, "      "))
		}
	}
	for _, e := range d.Decision.Errors {
		line("  policy in error: %s at %s:%d:%d: %s", e.Policy.ID, e.Policy.File, e.Policy.Line, e.Policy.Column, e.Message)
	}
	for _, ob := range d.Decision.Obligations {
		line("  obligation: %s=%s", ob.Name, ob.Value)
	}
	if d.Outcome != nil {
		line("  outcome: %s", outcomeWords(*d.Outcome))
	}
	if allHeld(d.Conditions) {
		line("  conditions then: all seven held")
	} else {
		line("  conditions then:")
	}
	for _, s := range d.Conditions {
		text, c := conditionWords(s)
		if allHeld(d.Conditions) {
			break
		}
		if s.Standing == model.Holds {
			c = 0
		}
		b.WriteString("      " + o.paint(c, problem.Clean(text)) + "\n")
	}
	if !d.Decision.Allow {
		b.WriteString(wouldText(d))
	}
}

func allHeld(states []model.ConditionState) bool {
	return !slices.ContainsFunc(states, func(s model.ConditionState) bool { return s.Standing != model.Holds })
}

// wouldText says what would have allowed it.
func wouldText(d *whyDecision) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(problem.Clean(fmt.Sprintf(format, args...)) + "\n")
	}
	line("  what would have allowed it:")
	for _, s := range d.Lost {
		line("      %s must hold%s", s.Condition, after("; ", fixOf(s.Reason)))
	}
	for _, e := range d.Decision.Errors {
		line("      the policy %s must evaluate without an error", e.Policy.ID)
	}
	for _, p := range d.Forbids {
		line("      the policy %s (%s:%d) must not forbid it", p.ID, p.File, p.Line)
	}
	if d.WouldFlag != "" {
		line("      the flag: writ run %s ...", d.WouldFlag)
	}
	if d.WouldPermit != "" {
		line("      the policy:\n%s", indented(d.WouldPermit, "          "))
	}
	if d.Unasked != "" {
		line("      another request: %s", d.Unasked)
	}
	if len(d.Lost)+len(d.Forbids)+len(d.Decision.Errors) == 0 && d.WouldFlag == "" && d.WouldPermit == "" && d.Unasked == "" {
		line("      %s", fixOf(d.Decision.Reason))
	}
	return b.String()
}

// fixOf is what the catalogue says to do about a reason.
func fixOf(code string) string {
	if e, ok := problem.Lookup(code); ok {
		return e.Fix
	}
	return ""
}

// maxOthers is how many other denied actions are listed.
const maxOthers = 8

// otherDenied points at the denied actions that are not explained here.
func otherDenied(w why) string {
	var names []string
	for _, n := range w.Denied {
		if w.Decision != nil && w.Decision.Action != nil && w.Decision.Action.Number == n {
			continue
		}
		if len(names) < maxOthers {
			names = append(names, fmt.Sprintf("writ why %s/%d", w.Execution, n))
		}
	}
	if len(names) == 0 {
		return ""
	}
	shown := "denied too:"
	if more := len(w.Denied) - len(names); more > 1 {
		shown = fmt.Sprintf("denied too (%d in all):", len(w.Denied))
	}
	return shown + "\n  " + strings.Join(names, "\n  ")
}
