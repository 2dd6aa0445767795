package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/google/go-cmp/cmp"

	"github.com/writ-run/writ/internal/model"
)

// pick returns one of the choices.
func pick[T any](rng *rand.Rand, choices ...T) T { return choices[rng.IntN(len(choices))] }

// randomPolicy writes a policy that loads, or often does: heads of every form,
// and conditions that begin with tests of every form, some of which fail when
// they are evaluated.
func randomPolicy(rng *rand.Rand) string {
	action := pick(rng, "exec", "connect", "open", "continue", "start", "call_tool", "delegate", "http")
	entity := func() string {
		switch action {
		case "exec":
			return pick(rng, `Writ::Executable::"/usr/bin/git"`, `Writ::Executable::"/a/b"`, `Writ::Directory::"/usr"`, `Writ::Directory::"/"`, `Writ::Zone::"system"`, `Writ::Zone::"tmp"`)
		case "open":
			return pick(rng, `Writ::File::"/tmp/x"`, `Writ::File::"/a"`, `Writ::Directory::"/tmp"`, `Writ::Directory::"/usr/lib"`, `Writ::Zone::"workdir"`, `Writ::Zone::"home"`)
		case "connect":
			return pick(rng, `Writ::Host::"127.0.0.1"`, `Writ::Host::"example.org"`, `Writ::File::"/tmp/x.sock"`, `Writ::Directory::"/tmp"`, `Writ::Zone::"tmp"`)
		case "http":
			return pick(rng, `Writ::Host::"example.org"`, `Writ::Host::"10.0.0.1"`)
		case "call_tool":
			return pick(rng, `Writ::Tool::"files/read"`, `Writ::Tool::"files/write"`)
		case "delegate":
			return pick(rng, `Writ::Agent::"helper"`, `Writ::Agent::"tester"`, `Writ::Operator::"olga"`)
		}
		return `Writ::Execution::"01HZZZZZZZZZZZZZZZZZZZZZZZ"`
	}
	resource := pick(rng, "resource", "resource", "resource == "+entity(), "resource in "+entity())
	if strings.HasPrefix(resource, "resource in Writ::") && (strings.Contains(resource, "Host") || strings.Contains(resource, "Tool")) {
		resource = "resource"
	}
	if action == "connect" && rng.IntN(2) == 0 {
		resource = pick(rng, "resource is Writ::Host", "resource is Writ::File", `resource is Writ::File in Writ::Zone::"tmp"`)
	}
	principal := pick(rng, "principal", "principal", `principal == Writ::Agent::"tester"`, `principal == Writ::Agent::"other"`, `principal in Writ::Operator::"olga"`, `principal is Writ::Agent in Writ::Operator::"otto"`)
	actions := pick(rng, fmt.Sprintf(`action == Writ::Action::%q`, action), fmt.Sprintf(`action in [Writ::Action::%q]`, action))
	if action != "open" && rng.IntN(6) == 0 {
		actions, resource = "action", "resource"
	}
	test := func() string {
		common := []string{
			`principal == Writ::Agent::"tester"`, `principal in Writ::Operator::"nobody"`, `principal.host == "builder"`, `true`, `!false`,
			`resource == ` + entity(), `resource in ` + entity(), `[resource].contains(` + entity() + `)`, `(if true then principal else principal).host == "builder"`,
		}
		if action == "open" {
			return pick(rng, append(common, `context.access == "read"`, `context.access == "write"`, `context has access`)...)
		}
		common = append(common, overflow, overflow, `context.tier == "kernel"`, `"user" == context.tier`, `context.actions == 3`, `context.actions > 2`, `context.elapsedSeconds == 5`,
			`context.conditions.scope.standing == "holds"`, `context.conditions.policy.standing == "lost"`, `context.conditions.policy.holds == false`, `!context.conditions.policy.holds`,
			`context.conditions.policy.reason == "drift"`, overflow, `context.actions * 9223372036854775807 == 3`, `context has tier`)
		switch action {
		case "connect":
			common = append(common, `resource is Writ::Host && resource.port == 443`, `resource is Writ::Host && resource has ip && resource.ip.isLoopback()`, `resource is Writ::Host && resource.loopback == true`,
				`resource is Writ::Host && 80 == resource.port && resource.protocol == "tcp"`, `context.program == "/usr/bin/sh"`, `context.execution.argv0 == "sh"`)
		case "exec":
			common = append(common, `resource.name == "git"`, `resource.path like "/usr/*"`, `context.args.contains("push")`, `context.command == "git push 'origin main'"`, `context.command == "x" && resource == Writ::Executable::"/a/b"`, `context.execution.dir in Writ::Directory::"/home/me"`)
		case "delegate":
			common = append(common, `resource.operator == principal.operator`, `principal.operator == Writ::Operator::"olga"`)
		case "call_tool":
			common = append(common, `resource.name == "read"`, `resource.server == "files" && context.args.contains("a")`)
		}
		return pick(rng, common...)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s, %s, %s)", pick(rng, "permit", "permit", "forbid"), principal, actions, resource)
	for range rng.IntN(3) {
		expr := test()
		for range rng.IntN(3) {
			expr += pick(rng, " && ", " && ", " || ") + test()
		}
		fmt.Fprintf(&b, " %s { %s }", pick(rng, "when", "when", "unless"), expr)
	}
	return b.String() + ";"
}

// TestIndexChangesNothing decides under thousands of random bundles with the
// index and without it, where every policy is evaluated as it was written and
// with all of the request: the decisions are the same to the byte.
func TestIndexChangesNothing(t *testing.T) {
	rounds, seen := 600, map[string]int{}
	if testing.Short() {
		rounds = 200
	}
	requests := allKinds()
	self := baseRequest(model.ActionDelegate)
	self.Resource = model.Resource{Kind: model.ResourceAgent, ID: "tester"} // to itself
	requests = append(requests, self, hostRequest("::1", 443), hostRequest("0.0.0.0", 80), openRequest("/tmp/x", model.AccessWrite), openRequest("/", model.AccessRead),
		execRequest("/a/b", "b"), stale(hostRequest("127.0.0.1", 443), model.Policy), execRequest("/usr/bin/git", slices.Repeat([]string{"git"}, model.MaxArgs)...), unixRequest("/tmp/x.sock"), lose(execRequest("/usr/bin/git", "git", "push", "origin main"), model.Policy, "drift"))
	for round := range rounds {
		rng := rand.New(rand.NewPCG(7, uint64(round)))
		var rules []*rule
		for n := 0; len(rules) < 3+rng.IntN(12); n++ {
			more, problems := loadSource(policies(randomPolicy(rng)))
			if len(problems) > 0 {
				seen["does not load"]++
				continue
			}
			more[0].ref.ID = fmt.Sprint(n)
			rules = append(rules, more...)
		}
		l := &Loaded{rules: rules, index: newIndex(rules)}
		for _, r := range requests {
			with, without := l.decide(&r, true), l.decide(&r, false)
			seen[without.Reason]++
			if diff := cmp.Diff(without, with); diff != "" {
				for _, r := range rules {
					t.Log(r.ref.ID, r.source.Text)
				}
				t.Fatalf("round %d, %s %s (-all +indexed):\n%s", round, r.Kind, r.Resource.ID, diff)
			}
		}
	}
	t.Log(seen)
	for _, reason := range []string{model.ReasonPermitted, model.ReasonForbidden, model.ReasonNoPermit, model.ReasonPolicyError} {
		if seen[reason] < rounds/2 {
			t.Errorf("%s came out only %d times: the test tests too little", reason, seen[reason])
		}
	}
}

// TestRequestsFitTheSchema holds every request and entity that we make against
// cedar-go's own validator.
func TestRequestsFitTheSchema(t *testing.T) {
	c := theChecker()
	for _, r := range append(allKinds(), stale(lifeRequest(model.ActionContinue), model.Scope), hostRequest("::1", 1)) {
		q, why := newQuestion(&r)
		if why != "" {
			t.Fatal(why)
		}
		q.prepare(needsAll)
		if q.err != nil {
			t.Errorf("%s: %v", r.Kind, q.err)
		}
		if err := c.validator.Request(q.cedar); (err != nil) != q.cut { // cut arguments are left out on purpose
			t.Errorf("%s, cut %v: %v", r.Kind, q.cut, err)
		}
		uids := []types.EntityUID{q.cedar.Principal, q.cedar.Resource, {Type: typeExecution, ID: types.String(theSubmission.Execution)}, {Type: typeDirectory, ID: types.String(theSubmission.Dir)}}
		for _, uid := range uids {
			e, ok := q.Get(uid)
			if !ok {
				t.Errorf("%s: no entity %s", r.Kind, uid)
				continue
			}
			if err := c.validator.Entity(e); err != nil {
				t.Errorf("%s: %s: %v", r.Kind, uid, err)
			}
		}
		if q.err != nil {
			t.Errorf("%s: %v", r.Kind, q.err)
		}
	}
}

// TestShapesMeanWhatTheValidatorMeans damages records in every way and compares
// our verdict with cedar-go's.
func TestShapesMeanWhatTheValidatorMeans(t *testing.T) {
	c := theChecker()
	values := []types.Value{types.String("x"), types.Long(1), types.True, types.NewSet(types.String("x")), types.NewSet(types.Long(1)), types.NewSet(), types.NewRecord(nil), allHold,
		types.EntityUID{Type: typeExecution, ID: "x"}, types.EntityUID{Type: typeAgent, ID: "x"}, holdsRecord}
	agree := func(name string, ours bool, theirs error) {
		if ours != (theirs == nil) {
			t.Errorf("%s: ours %v, theirs %v", name, ours, theirs)
		}
	}
	for _, r := range append(allKinds(), hostRequest("::1", 1)) {
		q, _ := newQuestion(&r)
		q.prepare(needsAll)
		context := q.cedar.Context.Map()
		resource, _ := q.Get(q.cedar.Resource)
		shape, entity := c.shapes.contexts[r.Kind], c.shapes.entities[r.Resource.Kind]
		try := func(m types.RecordMap, name string, v types.Value, check func(types.Record)) {
			damaged := types.NewRecord(m).Map()
			if damaged == nil {
				damaged = types.RecordMap{}
			}
			delete(damaged, types.String(name))
			if v != nil {
				damaged[types.String(name)] = v
			}
			check(types.NewRecord(damaged))
		}
		onContext := func(name string) func(types.Record) {
			return func(rec types.Record) {
				req := q.cedar
				req.Context = rec
				agree(fmt.Sprintf("%s context %s", r.Kind, name), shape.fits(rec), c.validator.Request(req))
			}
		}
		onEntity := func(name string) func(types.Record) {
			return func(rec types.Record) {
				e := resource
				e.Attributes = rec
				agree(fmt.Sprintf("%s resource %s", r.Kind, name), entity.fits(rec), c.validator.Entity(e))
			}
		}
		for _, name := range append(c.names, "unknown") {
			for _, v := range append(values, nil) {
				try(context, name, v, onContext(name))
				try(resource.Attributes.Map(), name, v, onEntity(name))
			}
		}
		for _, parent := range []types.EntityType{typeDirectory, typeZone, typeOperator, typeAgent, typeHost} {
			e := resource
			e.Parents = types.NewEntityUIDSet(types.EntityUID{Type: parent, ID: "x"})
			agree(fmt.Sprintf("%s in %s", r.Kind, parent), entity.mayBeIn(e.Parents), c.validator.Entity(e))
		}
	}
}
