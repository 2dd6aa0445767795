package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-run/writ/internal/model"
)

func TestExplain(t *testing.T) {
	builtin := load(t, Builtin()...)
	strict := load(t, append(Builtin(), policies(
		`@id("no-git") forbid (principal, action == Writ::Action::"exec", resource == Writ::Executable::"/usr/bin/git");`,
		`@id("no-shell") forbid (principal, action == Writ::Action::"exec", resource) when { resource.name == "sh" };`,
		`@id("low-ports") forbid (principal, action == Writ::Action::"connect", resource is Writ::Host) when { resource.port < 1024 };`,
		`@id("fails") forbid (principal, action == Writ::Action::"delegate", resource) when { `+overflow+` };`,
	))...)
	nothing := load(t, policies(`permit (principal, action == Writ::Action::"call_tool", resource) when { false };`))
	kinds := allKinds()
	tests := []struct {
		name    string
		l       *Loaded
		request model.Request
	}{
		{"connect outside", builtin, hostRequest("10.1.2.3", 443)},
		{"connect by name", builtin, hostRequest("example.org", 443)},
		{"unix socket", builtin, unixRequest("/run/docker.sock")},
		{"exec elsewhere", builtin, execRequest("/opt/my tool/bin", "bin")},
		{"read elsewhere", builtin, openRequest("/srv/data", model.AccessRead)},
		{"write the system", builtin, openRequest("/usr/bin/git", model.AccessWrite)},
		{"execute elsewhere", builtin, openRequest("/opt/x", model.AccessExecute)},
		{"a tool", builtin, kinds[9]},
		{"a model", builtin, kinds[10]},
		{"http", builtin, kinds[11]},
		{"delegate", builtin, kinds[12]},
		{"start", nothing, lifeRequest(model.ActionStart)},
		{"continue", nothing, lifeRequest(model.ActionContinue)},
		{"loopback without a policy", nothing, hostRequest("127.0.0.1", 8080)},
		{"forbidden, else permitted", strict, execRequest("/usr/bin/git", "git")},
		{"forbidden, and not permitted either", strict, hostRequest("10.1.2.3", 443)},
		{"a policy fails", strict, kinds[12]},
		{"governance lost", builtin, lose(lifeRequest(model.ActionContinue), model.Governance, "halted")},
		{"a path with quotes", builtin, openRequest(`/srv/a "b" c\d`, model.AccessRead)},
		{"not a request", builtin, openRequest("/usr/../etc", model.AccessRead)},
	}
	var b strings.Builder
	for _, tt := range tests {
		d := tt.l.Decide(tt.request)
		e := tt.l.Explain(tt.request, d)
		fmt.Fprintf(&b, "== %s: %s\n", tt.name, e.Reason)
		for _, f := range e.Forbids {
			fmt.Fprintf(&b, "forbid %s at %s:%d\n", f.ID, f.File, f.Line)
		}
		for _, p := range e.Errors {
			fmt.Fprintf(&b, "fails  %s at %s:%d: %s\n", p.Policy.ID, p.Policy.File, p.Policy.Line, p.Message)
		}
		for _, c := range e.Lost {
			fmt.Fprintf(&b, "lost   %s: %s\n", c.Condition, c.Reason)
		}
		if e.Unasked != "" {
			fmt.Fprintf(&b, "asks   %s\n", e.Unasked)
		}
		if e.Flag != "" {
			fmt.Fprintf(&b, "flag   %s\n", e.Flag)
		}
		b.WriteString(e.Permit)
		if again := tt.l.Explain(tt.request, d); cmp.Diff(e, again) != "" {
			t.Errorf("%s: another explanation the second time", tt.name)
		}

		if d.Reason == model.ReasonNoPermit { // what is proposed works, on a bundle that really loads
			with, err := tt.l.Bundle().With(Source{Name: "proposed.cedar", Text: []byte(e.Permit)})
			if err != nil {
				t.Fatal(err)
			}
			better, err := Load(with)
			if err != nil {
				t.Fatal(err)
			}
			if d := better.Decide(tt.request); !d.Allow {
				t.Errorf("%s: with the proposed permit: %+v", tt.name, d)
			}
		}
	}
	golden(t, "testdata/explain.golden", b.String())
}

func TestExplainAnAllow(t *testing.T) {
	l := load(t, Builtin()...)
	r := execRequest("/usr/bin/git", "git")
	if e := l.Explain(r, l.Decide(r)); cmp.Diff(Explanation{Reason: model.ReasonPermitted}, e) != "" {
		t.Errorf("%+v", e)
	}
}

// The core denies some things itself: then no policy would have helped.
func TestExplainTheCoresDenials(t *testing.T) {
	l := load(t, Builtin()...)
	r := lose(execRequest("/usr/bin/git", "git"), model.Scope, "budget")
	e := l.Explain(r, model.Decision{Reason: model.ReasonConditionLost})
	if e.Permit != "" || e.Flag != "" || len(e.Lost) != 1 || e.Lost[0].Condition != model.Scope {
		t.Errorf("%+v", e)
	}
}
