package policy

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/writ-run/writ/internal/policy/text"
)

// vocabulary lists, for attributes that only ever have a few texts, which. To
// compare with another one is a slip that the types cannot find, and that would
// make a permit allow too little or a forbid forbid nothing.
var vocabulary = map[types.String][]string{
	"access":   {"read", "write", "execute"},
	"standing": {"holds", "lost", "stale", "unknown"},
	"tier":     {"kernel", "user", "cooperative"},
	"protocol": {"tcp", "udp"},
}

var zoneNames = []string{"system", "workdir", "tmp", "home"}

// checkWords reports names and texts in a rule that can never occur.
func checkWords(file string, r *rule) (problems Problems) {
	report := func(code text.Code, literal, what, why, fix string) {
		at := r.find(r.source.Keyword(), text.String, text.Quote(literal))
		problems = append(problems, &Problem{Code: code, File: file, Line: at.Line, Column: at.Column, What: what, Why: why, Fix: fix})
	}
	for _, uid := range entitiesOf(r.ast) {
		if what, fix := badEntity(uid); what != "" {
			report(text.CodeBadEntity, string(uid.ID), fmt.Sprintf("%s can never occur: %s", uid, what), "the policy would never match", fix)
			if len(problems) == maxComplaints {
				return problems
			}
		}
	}
	attributes := theChecker().names
	inspect(r.ast, func(n ast.IsNode) {
		switch n := n.(type) {
		case ast.NodeTypeEquals:
			checkComparison(n.Left, n.Right, report)
		case ast.NodeTypeNotEquals:
			checkComparison(n.Left, n.Right, report)
		case ast.NodeTypeContains: // ["read", "wirte"].contains(context.access)
			if set, ok := n.Left.(ast.NodeTypeSet); ok {
				for _, e := range set.Elements {
					checkComparison(n.Right, e, report)
				}
			}
		case ast.NodeTypeHas:
			if variable, ok := n.Arg.(ast.NodeTypeVariable); ok && variable.Name == "context" && slices.Contains(argumentNames, n.Value) {
				at := r.findAttribute(r.source.Keyword(), string(n.Value))
				problems = append(problems, &Problem{Code: text.CodeType, File: file, Line: at.Line, Column: at.Column,
					What: fmt.Sprintf("whether there is %q cannot be asked", string(n.Value)), Why: "arguments too many to be seen whole must deny, and not count as none",
					Fix: "leave the question out, and name in the head the actions that have arguments, such as action == " + actionsWith(theChecker(), string(n.Value))})
				return
			}
			if !slices.Contains(attributes, string(n.Value)) {
				at := r.findAttribute(r.source.Keyword(), string(n.Value))
				problems = append(problems, &Problem{Code: text.CodeUnknownAttribute, File: file, Line: at.Line, Column: at.Column,
					What: fmt.Sprintf("nothing ever has the attribute %q", string(n.Value)), Why: "the test would always be false", Fix: text.SuggestOne(string(n.Value), attributes)})
			}
		}
	})
	return problems
}

func checkComparison(a, b ast.IsNode, report func(code text.Code, literal, what, why, fix string)) {
	for range 2 {
		access, isAccess := a.(ast.NodeTypeAccess)
		value, isValue := b.(ast.NodeValue)
		if isAccess && isValue {
			word, isText := value.Value.(types.String)
			if words := vocabulary[access.Value]; words != nil && isText && !slices.Contains(words, string(word)) {
				report(text.CodeUnknownWord, string(word), fmt.Sprintf("%s is never %s", access.Value, text.Quote(string(word))),
					"the comparison would always come out the same", text.Suggest(string(word), words))
			}
		}
		a, b = b, a
	}
}

// inspect visits every node of a policy's conditions.
func inspect(p *ast.Policy, visit func(ast.IsNode)) {
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			visit(n)
			return true
		})
	}
}

// checkContext reports the use of the context otherwise than by its attributes:
// what is not read by name can be missing without anybody noticing.
func checkContext(file string, r *rule) (problems Problems) {
	inspectUntil(r.ast, func(n ast.IsNode) bool {
		var arg ast.IsNode
		switch n := n.(type) {
		case ast.NodeTypeAccess:
			arg = n.Arg
		case ast.NodeTypeHas:
			arg = n.Arg
		case ast.NodeTypeVariable:
			if n.Name == "context" && len(problems) == 0 {
				at := r.find(r.source.Keyword(), text.Word, "context")
				problems = append(problems, &Problem{Code: text.CodeType, File: file, Line: at.Line, Column: at.Column,
					What: "the context is used as a whole", Why: "which attributes it has differs between actions and versions", Fix: "name its attributes, such as context.tier"})
			}
		}
		variable, ok := arg.(ast.NodeTypeVariable)
		return !ok || variable.Name != "context"
	})
	return problems
}

// entitiesOf returns every entity that a policy names but its actions, in no
// particular order.
func entitiesOf(p *ast.Policy) (uids []types.EntityUID) {
	for _, scope := range []ast.IsScopeNode{p.Principal, p.Resource} {
		switch s := scope.(type) {
		case ast.ScopeTypeEq:
			uids = append(uids, s.Entity)
		case ast.ScopeTypeIn:
			uids = append(uids, s.Entity)
		case ast.ScopeTypeIsIn:
			uids = append(uids, s.Entity)
		}
	}
	inspect(p, func(n ast.IsNode) {
		if v, ok := n.(ast.NodeValue); ok {
			uids = appendEntities(uids, v.Value)
		}
	})
	return uids
}

func appendEntities(uids []types.EntityUID, v types.Value) []types.EntityUID {
	switch v := v.(type) {
	case types.EntityUID:
		uids = append(uids, v)
	case types.Set:
		for e := range v.All() {
			uids = appendEntities(uids, e)
		}
	case types.Record:
		for e := range v.Values() {
			uids = appendEntities(uids, e)
		}
	}
	return uids
}

// badEntity says why no request ever holds an entity, and how to write what may
// have been meant.
func badEntity(uid types.EntityUID) (what, fix string) {
	id := string(uid.ID)
	switch uid.Type {
	case typeZone:
		if !slices.Contains(zoneNames, id) {
			return "there is no such zone", text.Suggest(id, zoneNames)
		}
	case typeFile, typeDirectory, typeExecutable:
		if why := badPath(id); why != "" {
			fix = "write the path in full, from /"
			if clean := path.Clean(id); strings.HasPrefix(id, "/") && badPath(clean) == "" {
				fix = fmt.Sprintf("write %s::%s", uid.Type, text.Quote(clean))
			}
			if strings.ContainsAny(id, "*?") && !strings.HasPrefix(id, "/") {
				fix = "name the directory: resource in Writ::Directory::\"/path\""
			}
			return why, fix
		}
	case typeHost:
		if host, why := canonicalHost(id); why != "" {
			return why, `write an address or a name: Writ::Host::"10.0.0.1", and compare resource.port`
		} else if host != id {
			return "it is written otherwise", fmt.Sprintf("write Writ::Host::%s", text.Quote(host))
		}
	case typeTool:
		if server, name, ok := strings.Cut(id, "/"); !ok || server == "" || name == "" {
			return "a tool is named by its server and itself", `write Writ::Tool::"server/name"`
		}
	default:
		if id == "" {
			return "the name is empty", "give it a name"
		}
	}
	return "", ""
}

// badPath says why no request ever holds the path, or "": paths are absolute and
// clean (path.Clean), without NUL.
func badPath(p string) string {
	switch {
	case !strings.HasPrefix(p, "/"):
		return "the path does not begin with /"
	case strings.ContainsRune(p, 0):
		return "a path holds no NUL"
	case path.Clean(p) != p:
		return "the path is not in its shortest form"
	}
	return ""
}

// canonicalHost returns the one way in which a host is written: an IP address
// without zone, IPv4 where it is IPv4 mapped into IPv6; or a name in lower case
// without the last dot.
func canonicalHost(id string) (host, why string) {
	if addr, err := netip.ParseAddr(id); err == nil {
		return addr.Unmap().WithZone("").String(), ""
	}
	host = strings.ToLower(strings.TrimSuffix(id, "."))
	if host == "" || len(host) > 253 {
		return "", "it is neither an address nor a name"
	}
	for _, r := range host {
		if r != '.' && r != '-' && r != '_' && (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			return "", "it is neither an address nor a name"
		}
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	if strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") {
		return "", "resolvers take it for an address, in a form that is not the usual one" // 10.1, 167772161, 0x7f000001, 10.0.0.1.
	}
	return host, ""
}
