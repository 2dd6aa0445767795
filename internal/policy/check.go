package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/writ-run/writ/internal/policy/text"
)

// What the validator says, by which we find the place and the mend. A complaint
// that none of these knows is passed on in its own words.
var (
	sayAction    = regexp.MustCompile("^unrecognized action `(.*)`$")
	sayType      = regexp.MustCompile("^unrecognized entity type `(.*)`$")
	sayAttribute = regexp.MustCompile("^attribute `(.*)` (?:on entity types? (.*)|in context for (.*)) not found$")
	sayOptional  = regexp.MustCompile("^unable to guarantee safety of access to optional attribute `([^`]*)`")
	sayExpected  = regexp.MustCompile("^unexpected type: expected (.*) but saw (.*)$")
	sayNoAction  = "unable to find an applicable action given the policy scope constraints"
	sayEmptySet  = "empty set literals are forbidden in policies"
	sayArgument  = regexp.MustCompile("^error during extension function argument validation: failed to parse as (.*): `(.*)`$")
)

// schemaName is how problems call the schema.
const schemaName = "the schema: `writ policy show schema`"

// checkSchema reports what strict validation has against a rule. Complaints
// that follow from one mistake become one problem.
func checkSchema(file string, r *rule) (problems Problems) {
	c := theChecker()
	complaints := c.policy(r.ast)
	if len(complaints) == 0 {
		return nil
	}
	known := map[string]bool{}
	for _, message := range complaints {
		if sayAction.MatchString(message) || sayType.MatchString(message) || message == sayEmptySet {
			known["head"] = true
		}
	}
	origin := r.origins(c)
	for _, message := range complaints {
		if message == sayNoAction && known["head"] {
			continue
		}
		at := r.source.Keyword()
		if condition, ok := origin[message]; ok {
			at = condition
		}
		code, what, why, fix, at, once := c.explain(r, message, at)
		if once != "" && known[once] {
			continue
		}
		known[once] = true
		problems = append(problems, &Problem{Code: code, File: file, Line: at.Line, Column: at.Column, What: what, Why: why, Fix: fix})
		if len(problems) == maxComplaints {
			break
		}
	}
	return problems
}

// Bounds on how much is said of one policy, which may have been written to make
// saying it take for ever.
const (
	maxComplaints = 10
	maxOrigins    = 64
)

// explain says a complaint in our words. otherwise is where it belongs if nothing
// more exact is found. Complaints with the same once are one.
func (c *checker) explain(r *rule, message string, otherwise text.Token) (code text.Code, what, why, fix string, at text.Token, once string) {
	at = otherwise
	if m := sayAction.FindStringSubmatch(message); m != nil {
		id := entityID(m[1])
		at = r.find(at, text.String, text.Quote(id))
		fix = text.Suggest(id, actionNames)
		if slices.Contains(actionNames, id) {
			fix = fmt.Sprintf("write Writ::Action::%q", id)
		}
		return text.CodeUnknownAction, fmt.Sprintf("unknown action %s", m[1]), "nothing ever asks for it, so the policy would never match", fix, at, message
	}
	if m := sayType.FindStringSubmatch(message); m != nil {
		names := c.typeNames()
		fix = text.Suggest(m[1], names)
		if full := namespace + m[1]; slices.Contains(names, full) {
			fix = "write " + full
		}
		last := m[1][strings.LastIndex(m[1], ":")+1:]
		return text.CodeUnknownType, fmt.Sprintf("unknown entity type %s", m[1]), "nothing ever has it, so the policy would never match", fix, r.find(at, text.Word, last), message
	}
	if m := sayAttribute.FindStringSubmatch(message); m != nil {
		name := m[1][strings.LastIndex(m[1], ".")+1:]
		at = r.findAttribute(at, name)
		owner := strings.ReplaceAll(m[2], "`", "")
		candidates := c.attributes(types.EntityType(owner), types.EntityUID{})
		if m[3] != "" {
			owner = "the context of " + m[3]
			candidates = c.attributes("", types.NewEntityUID(typeAction, types.String(entityID(m[3]))))
		}
		fix = text.Suggest(name, candidates)
		if text.Nearest(name, candidates) == "" { // it may stand in a record within
			if all := c.names; text.Nearest(name, all) != "" && !slices.Contains(all, name) {
				fix = text.SuggestOne(name, all)
			}
		}
		switch {
		case types.EntityType(owner) == typeFile:
			fix = `files are told apart by name only: resource == Writ::File::"/path", or resource in Writ::Directory::"/path"`
		case len(candidates) == 0:
			fix = owner + " has no attributes"
		case m[3] != "" && r.actions == allActions && slices.Contains(c.names, name):
			fix = fmt.Sprintf("name in the head the actions that have it, such as action == %s", actionsWith(c, name))
		}
		return text.CodeUnknownAttribute, fmt.Sprintf("%s has no attribute %q", owner, m[1]), "reading it would be an error in every decision", fix, at, "attribute " + name
	}
	if m := sayOptional.FindStringSubmatch(message); m != nil {
		name := m[1][strings.LastIndex(m[1], ".")+1:]
		return text.CodeType, fmt.Sprintf("the attribute %q may be missing", m[1]), "reading a missing attribute is an error, and an error denies everything",
			fmt.Sprintf("ask first: resource has %s && resource.%s ...", name, name), r.findAttribute(at, name), "optional " + name
	}
	if m := sayExpected.FindStringSubmatch(message); m != nil {
		return text.CodeType, fmt.Sprintf("this is of type %s where %s is needed", m[2], m[1]), "evaluating it would be an error, and an error denies everything",
			"compare with the types in " + schemaName, at, message
	}
	if m := sayArgument.FindStringSubmatch(message); m != nil {
		return text.CodeType, fmt.Sprintf("%s is not %s", strings.ReplaceAll(m[2], `\"`, `"`), article(m[1])), "evaluating it would be an error, and an error denies everything",
			"correct the text between the quotes", at, message
	}
	if message == sayEmptySet {
		return text.CodeType, "an empty set []", "nothing is in it, so the policy would never match, or always", "put something into it, or leave it out", r.find(at, text.Mark, "["), message
	}
	if message == sayNoAction {
		return text.CodeType, "no action in the head applies to this principal and resource", "nothing ever asks for it, so the policy would never match",
			"these go together: " + c.pairs(r.actions), r.source.Keyword(), message
	}
	return text.CodeType, message, "the policy does not type-check, so it might fail or never match", "compare with " + schemaName, at, message
}

func article(noun string) string {
	if strings.ContainsAny(noun[:1], "aeioAEIO") {
		return "an " + noun
	}
	return "a " + noun
}

// pairs says which resources the actions of a set apply to.
func (c *checker) pairs(set actionSet) string {
	var pairs []string
	for _, k := range set.kinds() {
		var names []string
		for _, t := range c.resourceTypes(k) {
			names = append(names, string(t))
		}
		pairs = append(pairs, k.String()+" with "+strings.Join(names, " or "))
	}
	return strings.Join(pairs, ", ")
}

// actionsWith returns an action whose context has the attribute.
func actionsWith(c *checker, attribute string) string {
	for _, name := range actionNames {
		uid := types.NewEntityUID(typeAction, types.String(name))
		if slices.Contains(c.attributes("", uid), attribute) {
			return uid.String()
		}
	}
	return `Writ::Action::"..."`
}

// entityID returns the identifier of an entity written as Type::"id".
func entityID(s string) string {
	var uid types.EntityUID
	if uid.UnmarshalCedar([]byte(s)) != nil {
		return s
	}
	return string(uid.ID)
}

// find returns the first token of the statement with the kind and text, or else
// the token given.
func (r *rule) find(otherwise text.Token, kind text.Kind, s string) text.Token {
	for _, t := range r.source.Tokens {
		if t.Kind == kind && t.Text == s {
			return t
		}
	}
	return otherwise
}

// findAttribute returns where an attribute is first read: .name or ["name"].
func (r *rule) findAttribute(otherwise text.Token, name string) text.Token {
	for i, t := range r.source.Tokens {
		if i == 0 {
			continue
		}
		before := r.source.Tokens[i-1].Text
		if before == "." && t.Text == name || (before == "[" || before == "has") && (t.Text == text.Quote(name) || t.Text == name) {
			return t
		}
	}
	return otherwise
}

// origins tells in which condition, by its when or unless, each complaint arises:
// found by checking each condition by itself.
func (r *rule) origins(c *checker) map[string]text.Token {
	var heads []text.Token
	depth := 0
	for _, t := range r.source.Tokens {
		switch {
		case t.Kind == text.Mark && strings.Contains("([{", t.Text):
			depth++
		case t.Kind == text.Mark && strings.Contains(")]}", t.Text):
			depth--
		case depth == 0 && t.Kind == text.Word && (t.Text == "when" || t.Text == "unless"):
			heads = append(heads, t)
		}
	}
	bare := *r.ast
	bare.Conditions = nil
	ofHead := c.policy(&bare)
	origin := map[string]text.Token{}
	for i := range r.ast.Conditions {
		if i == len(heads) || i == maxOrigins {
			break
		}
		alone := *r.ast
		alone.Conditions = []ast.ConditionType{r.ast.Conditions[i]}
		for _, message := range c.policy(&alone) {
			if _, earlier := origin[message]; !earlier && !slices.Contains(ofHead, message) {
				origin[message] = heads[i]
			}
		}
	}
	return origin
}
