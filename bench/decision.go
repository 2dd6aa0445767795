//go:build linux

package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/policy"
)

// decisions measures what a decision takes, in process, with reasons, and with
// the request checked against the schema.
func decisions(_ context.Context, b *bench) error {
	n := b.times(20_000, 5_000)
	budgets := map[int]time.Duration{100: 10 * time.Microsecond, 1000: 20 * time.Microsecond}
	median := map[int]time.Duration{}
	for _, size := range []int{10, 100, 1000} {
		l, err := fleetBundle(size)
		if err != nil {
			return err
		}
		var worst sample
		var name string
		for _, r := range decisionRequests() {
			s := timeDecisions(l, r.request, n)
			if worst == nil || s.p99() > worst.p99() {
				worst, name = s, r.name
			}
			if r.name == "exec" {
				median[size] = s.p50()
			}
		}
		f := figure{
			What: fmt.Sprintf("decision, %s policies", thousands(float64(max(size, len(l.Policies()))))), Note: "slowest kind of request: " + name,
			Text: worst.text(), Values: worst.values(), N: len(worst),
		}
		if budget, ok := budgets[size]; ok {
			f.Budget, f.Verdict = "p99 under "+human(budget), within(us(worst.p99()), us(budget))
		}
		b.add(f)
	}
	all := float64(median[1000]) / float64(median[10])

	// The same number of policies, of which more and more can match.
	var byMatching []string
	values := map[string]float64{"thousand_to_ten": all}
	for _, matching := range []int{10, 100, 1000} {
		l, err := matchingBundle(1000, matching)
		if err != nil {
			return err
		}
		s := timeDecisions(l, decisionRequests()[0].request, n/4)
		byMatching = append(byMatching, fmt.Sprintf("%d: %s", matching, human(s.p50())))
		values[fmt.Sprintf("matching_%d_us", matching)] = us(s.p50())
	}
	// Proportional to all policies would be a hundred times.
	b.add(figure{What: "decision, 1,000 policies against 10, the same ones matching", Text: fmt.Sprintf("%.2f times (p50)", all), Values: values,
		Budget: "grows with the policies that can match, not with all (here: under 2 times)", Verdict: within(all, 2)})
	b.add(figure{What: "decision, of 1,000 policies as many can match", Text: "p50 " + strings.Join(byMatching, ", ")})
	return nil
}

func timeDecisions(l *policy.Loaded, r model.Request, n int) sample {
	for range n / 10 {
		l.Decide(r)
	}
	runtime.GC()
	s := make(sample, n)
	for i := range s {
		start := time.Now()
		l.Decide(r)
		s[i] = time.Since(start)
	}
	return s
}

// fleetBundle is the built-in policy and as many more as make n: for programs,
// hosts and agents in turn, as a fleet's bundle has them.
func fleetBundle(n int) (*policy.Loaded, error) {
	base, err := loadBundle("")
	if err != nil {
		return nil, err
	}
	var s strings.Builder
	for i := len(base.Policies()); i < n; i++ {
		switch i % 5 {
		case 0:
			fmt.Fprintf(&s, "permit (principal, action == Writ::Action::\"exec\", resource in Writ::Directory::\"/opt/tool%d\");\n", i)
		case 1:
			fmt.Fprintf(&s, "@via(\"host\") permit (principal, action == Writ::Action::\"connect\", resource == Writ::Host::\"10.0.%d.%d\") when { resource.port == 443 };\n", i/256, i%256)
		case 2:
			fmt.Fprintf(&s, "permit (principal == Writ::Agent::\"agent%d\", action in [Writ::Action::\"exec\", Writ::Action::\"connect\"], resource) when { context.tier == \"kernel\" };\n", i)
		case 3:
			fmt.Fprintf(&s, "permit (principal, action == Writ::Action::\"connect\", resource == Writ::Host::\"fd00::%x\") when { resource.port == %d && resource.protocol == \"tcp\" };\n", i, 1024+i)
		case 4:
			fmt.Fprintf(&s, "forbid (principal, action == Writ::Action::\"exec\", resource == Writ::Executable::\"/usr/bin/bad%d\") unless { context.args.contains(\"--safe\") };\n", i)
		}
	}
	return loadBundle(s.String())
}

// matchingBundle has n policies besides the built-in ones, of which some can
// match the first of decisionRequests: their scope fits, and only evaluating
// their condition tells that they do not apply.
func matchingBundle(n, matching int) (*policy.Loaded, error) {
	var s strings.Builder
	for i := range n {
		if i < matching {
			fmt.Fprintf(&s, "permit (principal, action == Writ::Action::\"exec\", resource) when { context.args.contains(\"word%d\") };\n", i)
		} else {
			fmt.Fprintf(&s, "permit (principal, action == Writ::Action::\"exec\", resource in Writ::Directory::\"/opt/tool%d\");\n", i)
		}
	}
	return loadBundle(s.String())
}

// loadBundle loads the built-in policy and more.
func loadBundle(more string) (*policy.Loaded, error) {
	sources := policy.Builtin()
	if more != "" {
		sources = append(sources, policy.Source{Name: "fleet.cedar", Text: []byte(more)})
	}
	bundle, err := policy.NewBundle(sources, nil)
	if err != nil {
		return nil, err
	}
	return policy.Load(bundle)
}

type namedRequest struct {
	name    string
	request model.Request
}

// decisionRequests are what gates and the machine ask most.
func decisionRequests() []namedRequest {
	sub := &model.Submission{
		Execution: "01HZZZZZZZZZZZZZZZZZZZZZZZ", Boot: "boot", Host: "builder", Agent: "tester", Operator: "olga",
		Argv: []string{"sh", "-c", "make test"}, Dir: "/home/me/project",
		Executable: model.Resource{Kind: model.ResourceExecutable, ID: "/usr/bin/sh", Digest: model.DigestOf([]byte("sh"))},
		Tier:       model.TierKernel, Grant: model.DigestOf([]byte("grant")), GrantID: "grant-1",
	}
	base := func(kind model.ActionKind, resource model.Resource, args ...string) model.Request {
		r := model.Request{
			Kind: kind, Submission: sub, Phase: model.Running, Resource: resource, Args: args, Actions: 3, Elapsed: 5e9,
			Process: model.Process{PID: 7, Start: 8, Executable: "/usr/bin/sh"},
		}
		for i, c := range model.AllConditions() {
			r.Conditions[i] = model.ConditionState{Condition: c, Standing: model.Holds}
		}
		return r
	}
	host := func(ip string, port uint16, loopback bool) model.Resource {
		return model.Resource{Kind: model.ResourceHost, ID: ip, Port: port, Protocol: "tcp", Loopback: loopback}
	}
	git := model.Resource{Kind: model.ResourceExecutable, ID: "/usr/bin/git", Digest: model.DigestOf([]byte("git")), Zones: []model.Zone{model.ZoneSystem}}
	self := model.Resource{Kind: model.ResourceExecution, ID: string(sub.Execution)}
	return []namedRequest{
		{"exec", base(model.ActionExec, git, "git", "commit", "-m", "a message")},
		{"connect", base(model.ActionConnect, host("127.0.0.1", 8080, true))},
		{"denied connect", base(model.ActionConnect, host("10.9.9.9", 443, false))},
		{"continue", base(model.ActionContinue, self)},
	}
}
