package policy

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/policy/text"
)

// Explanation says what would have allowed a request that was denied. What it
// proposes has been tried: the request was decided again with it.
type Explanation struct {
	Reason string // the decision's

	// Permit is the smallest policy that would have allowed it, and Flag the
	// same for the command line of `writ run`, where there is such a flag. Both
	// are empty where no policy can help, or none alone.
	Permit string
	Flag   string

	// Forbids are the policies that denied it and would have to change. Where
	// that is not enough, Permit is what is needed besides.
	Forbids []model.PolicyRef

	Errors  []model.PolicyError    // policies that would have to be mended first
	Lost    []model.ConditionState // conditions that did not hold, and would have to
	Unasked string                 // why the request is none that policies are asked about
}

// Explain finds out what would have allowed a request under this bundle.
// decision is what was decided; of an allow there is nothing to explain.
func (l *Loaded) Explain(request model.Request, decision model.Decision) Explanation {
	e := Explanation{Reason: decision.Reason}
	if decision.Allow {
		return e
	}
	lost := slices.ContainsFunc(request.Conditions[:], func(c model.ConditionState) bool { return c.Standing == model.Lost })
	for _, c := range request.Conditions {
		// What was not looked at yet when another was lost did no harm.
		if c.Standing != model.Holds && (c.Standing != model.Unknown || !lost) {
			e.Lost = append(e.Lost, c)
		}
	}
	switch decision.Reason {
	case model.ReasonForbidden, model.ReasonNoPermit, model.ReasonPolicyError, model.ReasonBadRequest:
	default: // not decided by a policy of this bundle
		return e
	}
	if _, why := newQuestion(&request); why != "" {
		e.Unasked = why
		return e
	}
	now := l.decide(&request, true)
	e.Errors = now.Errors
	if len(now.Errors) > 0 {
		return e
	}
	rest := l
	if now.Reason == model.ReasonForbidden {
		e.Forbids = now.Policies
		rest = l.without(now.Policies)
		if rest.decide(&request, true).Allow {
			return e
		}
	}
	e.Permit = rest.proposePermit(&request)
	if now.Reason == model.ReasonNoPermit { // with a forbid in the way, no flag helps
		e.Flag = l.proposeFlag(&request)
	}
	return e
}

// without returns what is left of a loaded bundle without some policies.
func (l *Loaded) without(out []model.PolicyRef) *Loaded {
	rules := slices.DeleteFunc(slices.Clone(l.rules), func(r *rule) bool { return slices.Contains(out, r.ref) })
	return &Loaded{bundle: l.bundle, settings: l.settings, rules: rules, index: newIndex(rules)}
}

// allowedWith tells whether the request is allowed once a source is added.
func (l *Loaded) allowedWith(name, source string, request *model.Request) bool {
	rules, problems := loadSource(Source{Name: name, Text: []byte(source)})
	if len(problems) > 0 {
		return false
	}
	all := append(slices.DeleteFunc(slices.Clone(l.rules), func(r *rule) bool { return r.ref.File == name }), rules...)
	with := &Loaded{bundle: l.bundle, settings: l.settings, rules: all, index: newIndex(all)}
	return with.decide(request, true).Allow
}

// proposePermit returns the smallest permit for the request, or "" where it
// would not help.
func (l *Loaded) proposePermit(request *model.Request) string {
	q, why := newQuestion(request)
	if why != "" {
		return ""
	}
	var note, condition string
	principal, resource := "principal", fmt.Sprintf("resource == %s::%s", q.cedar.Resource.Type, text.Quote(string(q.cedar.Resource.ID)))
	switch request.Kind {
	case model.ActionStart, model.ActionContinue: // the execution's own ID never comes again
		principal, resource = fmt.Sprintf("principal == %s::%s", typeAgent, text.Quote(request.Submission.Agent)), "resource"
	case model.ActionOpen:
		condition = "context.access == " + text.Quote(request.Resource.Access.String())
	case model.ActionConnect:
		if request.Resource.Kind == model.ResourceHost {
			note, condition = viaHost+"\n", fmt.Sprintf("resource.port == %d", request.Resource.Port)
		}
	case model.ActionHTTP:
		note, condition = viaHost+"\n", fmt.Sprintf("resource.port == %d && context.method == %s && context.path == %s",
			request.Resource.Port, text.Quote(request.Args[0]), text.Quote(request.Args[1]))
	}
	permit := fmt.Sprintf("%spermit (%s, action == %s, %s)", note, principal, q.cedar.Action, resource)
	if condition != "" {
		permit += "\nwhen { " + condition + " }"
	}
	permit += ";\n"
	if !l.allowedWith("proposed.cedar", permit, request) {
		return ""
	}
	return permit
}

// proposeFlag returns the flag of `writ run` that would have allowed the
// request, or "".
func (l *Loaded) proposeFlag(request *model.Request) string {
	var (
		reads, writes, execs, connects []string
		flag, value                    string
	)
	id := request.Resource.ID
	one := func(name, v string, list *[]string) { flag, value, *list = name, v, []string{v} }
	switch request.Kind {
	case model.ActionExec:
		one("--exec", id, &execs)
	case model.ActionOpen:
		switch request.Resource.Access {
		case model.AccessRead:
			one("--read", id, &reads)
		case model.AccessWrite:
			one("--write", id, &writes)
		case model.AccessExecute:
			one("--exec", id, &execs)
		}
	case model.ActionConnect:
		if request.Resource.Kind == model.ResourceHost {
			host, _ := canonicalHost(id)
			id = net.JoinHostPort(host, strconv.Itoa(int(request.Resource.Port)))
		}
		one("--connect", id, &connects)
	}
	source, err := Extra(reads, writes, execs, connects)
	if err != nil || source == "" {
		return ""
	}
	// The flags in force stay in force beside the new one.
	before := ""
	for _, s := range l.bundle.sources {
		if s.Name == ExtraName {
			before = string(s.Text)
		}
	}
	if before != "" && strings.Contains(before, source[strings.IndexByte(source, '\n')+1:]) {
		return "" // it was given already, and did not help
	}
	if !l.allowedWith("proposed.cedar", source, request) {
		return ""
	}
	return flag + " " + shellWord(value)
}

func shellWord(s string) string { return commandLine([]string{s}) }
