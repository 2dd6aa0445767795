package policy

import (
	"math"
	"net/netip"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/writ-run/writ/internal/model"
)

// question is a request in Cedar's terms. It is the store of entities too: the
// few that the request is about, each made and checked against the schema when
// it is first asked for.
type question struct {
	request  *model.Request
	cedar    types.Request
	host     string     // the resource's canonical name, for a host
	addr     netip.Addr // its address, if it is named by one
	loopback bool

	principal, resource, execution types.Entity
	asked                          uint8 // which of the three have been made
	err                            error // an entity did not fit the schema
}

const (
	askedPrincipal = 1 << iota
	askedResource
	askedExecution
)

// newQuestion puts a request into Cedar's terms. why says what makes it none
// that the schema has; it is "" where the request will do.
func newQuestion(r *model.Request) (q *question, why string) {
	if !r.Kind.Valid() {
		return nil, "there is no such action"
	}
	if r.Submission == nil {
		return nil, "it belongs to no execution"
	}
	if r.Submission.Agent == "" || r.Submission.Operator == "" || r.Submission.Execution == "" {
		return nil, "its execution has no agent, no operator or no ID"
	}
	q = &question{request: r}
	q.cedar.Action = actionUIDs[r.Kind]
	q.cedar.Principal = types.EntityUID{Type: typeAgent, ID: types.String(r.Submission.Agent)}
	var id string
	var t types.EntityType
	if t, id, why = q.resourceUID(); why != "" {
		return nil, why
	}
	q.cedar.Resource = types.EntityUID{Type: t, ID: types.String(id)}
	if q.cedar.Context, why = q.context(); why != "" {
		return nil, why
	}
	if err := theChecker().request(q.cedar); err != nil {
		return nil, err.Error()
	}
	return q, ""
}

// resourceUID names the resource, or says what is wrong with it.
func (q *question) resourceUID() (t types.EntityType, id, why string) {
	res := &q.request.Resource
	if res.ID == "" || len(res.ID) > model.MaxResourceID || !utf8.ValidString(res.ID) {
		return "", "", "the resource's name is empty, too long or not UTF-8"
	}
	switch res.Kind {
	case model.ResourceExecution:
		if res.ID != string(q.request.Submission.Execution) {
			return "", "", "the resource is another execution"
		}
		return typeExecution, res.ID, ""
	case model.ResourceExecutable, model.ResourceFile:
		if why := badPath(res.ID); why != "" {
			return "", "", why
		}
		for i, z := range res.Zones {
			if z < model.ZoneSystem || z > model.ZoneHome || i > 0 && z <= res.Zones[i-1] {
				return "", "", "the zones are unknown or out of order"
			}
		}
		if res.Kind == model.ResourceExecutable {
			return typeExecutable, res.ID, ""
		}
		if q.request.Kind == model.ActionOpen && (res.Access < model.AccessRead || res.Access > model.AccessExecute) {
			return "", "", "the kind of access is unknown"
		}
		return typeFile, res.ID, ""
	case model.ResourceHost:
		return typeHost, q.host, q.setHost(res)
	case model.ResourceTool:
		if res.Server == "" || strings.Contains(res.Server, "/") || !utf8.ValidString(res.Server) {
			return "", "", "the tool's server has no name, or one with a slash"
		}
		return typeTool, res.Server + "/" + res.ID, ""
	case model.ResourceModel:
		return typeModel, res.ID, ""
	case model.ResourceAgent:
		return typeAgent, res.ID, ""
	}
	return "", "", "there is no such kind of resource"
}

// setHost canonicalises the other end of a connection. What an address is, it
// says itself: a gate cannot call it loopback when it is not.
func (q *question) setHost(res *model.Resource) (why string) {
	if q.host, why = canonicalHost(res.ID); why != "" {
		return why
	}
	if addr, err := netip.ParseAddr(q.host); err == nil {
		q.addr = addr
		q.loopback = addr.IsLoopback() || addr.IsUnspecified() // the kernel connects 0.0.0.0 and :: to loopback
	}
	if res.Loopback && !q.loopback {
		return "the host is said to be loopback and is not"
	}
	if res.Protocol != "tcp" && res.Protocol != "udp" {
		return "the protocol is neither tcp nor udp"
	}
	return ""
}

// Texts that occur in every request, boxed once.
var (
	noReason     types.Value = types.String("")
	standingText             = map[model.Standing]types.Value{
		model.Unknown: types.String("unknown"), model.Holds: types.String("holds"),
		model.Lost: types.String("lost"), model.Stale: types.String("stale"),
	}
	holdsRecord = types.NewRecord(types.RecordMap{"holds": types.True, "standing": types.String("holds"), "reason": noReason})
	allHold     = conditionsRecord(&[model.NumConditions]model.ConditionState{
		{Standing: model.Holds}, {Standing: model.Holds}, {Standing: model.Holds}, {Standing: model.Holds},
		{Standing: model.Holds}, {Standing: model.Holds}, {Standing: model.Holds},
	})
	accessText = map[model.Access]types.Value{
		model.AccessRead: types.String("read"), model.AccessWrite: types.String("write"), model.AccessExecute: types.String("execute"),
	}
	accessContext = map[model.Access]types.Record{}
)

func init() {
	for a, text := range accessText {
		accessContext[a] = types.NewRecord(types.RecordMap{"access": text})
	}
}

// conditions returns the seven conditions as a record. What stands where in the
// array is the condition of that place: a mislabelled one is refused.
func (q *question) conditions() (r types.Record, why string) {
	plain := true
	for i := range q.request.Conditions {
		c := &q.request.Conditions[i]
		if c.Condition != 0 && c.Condition != model.Condition(i+1) {
			return r, "the conditions are out of order"
		}
		if c.Standing > model.Stale || !utf8.ValidString(c.Reason) {
			return r, "a condition's standing is unknown"
		}
		if c.Standing != model.Holds || c.Reason != "" {
			plain = false
		}
	}
	if plain {
		return allHold, ""
	}
	return conditionsRecord(&q.request.Conditions), ""
}

func conditionsRecord(states *[model.NumConditions]model.ConditionState) types.Record {
	m := make(types.RecordMap, model.NumConditions)
	for i := range states {
		c := &states[i]
		record := holdsRecord
		if c.Standing != model.Holds || c.Reason != "" {
			record = types.NewRecord(types.RecordMap{
				"holds": types.Boolean(c.Standing == model.Holds), "standing": standingText[c.Standing], "reason": types.String(c.Reason),
			})
		}
		m[types.String(model.Condition(i+1).String())] = record
	}
	return types.NewRecord(m)
}

// context makes the context record of the action.
func (q *question) context() (r types.Record, why string) {
	req := q.request
	if req.Kind == model.ActionOpen {
		return accessContext[req.Resource.Access], ""
	}
	conditions, why := q.conditions()
	if why != "" {
		return r, why
	}
	tier := req.Submission.Tier
	if tier < model.TierCooperative || tier > model.TierKernel {
		return r, "the tier is unknown"
	}
	if req.Elapsed < 0 {
		return r, "the time since admission is negative"
	}
	m := make(types.RecordMap, 8)
	m["conditions"] = conditions
	m["tier"] = types.String(tier.String())
	m["elapsedSeconds"] = types.Long(req.Elapsed / 1e9)
	m["actions"] = types.Long(min(req.Actions, math.MaxInt64))
	if req.Kind == model.ActionStart || req.Kind == model.ActionContinue {
		return types.NewRecord(m), ""
	}
	if !utf8.ValidString(req.Process.Executable) || !validTexts(req.Args) {
		return r, "the asking program or an argument is not UTF-8"
	}
	m["execution"] = types.EntityUID{Type: typeExecution, ID: types.String(req.Submission.Execution)}
	m["program"] = types.String(req.Process.Executable)
	switch req.Kind {
	case model.ActionExec:
		m["args"] = textSet(rest(req.Args))
		m["command"] = types.String(commandLine(req.Args))
	case model.ActionHTTP:
		if len(req.Args) != 2 {
			return r, "an HTTP request has a method and a path"
		}
		m["method"] = types.String(req.Args[0])
		m["path"] = types.String(req.Args[1])
	case model.ActionCallTool, model.ActionCallModel, model.ActionDelegate:
		m["args"] = textSet(req.Args)
	}
	return types.NewRecord(m), ""
}

func rest(args []string) []string {
	if len(args) == 0 {
		return nil
	}
	return args[1:]
}

func validTexts(texts []string) bool {
	for _, s := range texts {
		if !utf8.ValidString(s) {
			return false
		}
	}
	return true
}

func textSet(texts []string) types.Set {
	values := make([]types.Value, len(texts))
	for i, s := range texts {
		values[i] = types.String(s)
	}
	return types.NewSet(values...)
}

// commandLine joins words with blanks, each quoted as a POSIX shell would want
// it where it holds anything but plain characters: no two argument lists give
// the same line.
func commandLine(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		if plainWord(w) {
			b.WriteString(w)
			continue
		}
		b.WriteByte('\'')
		b.WriteString(strings.ReplaceAll(w, "'", `'\''`))
		b.WriteByte('\'')
	}
	return b.String()
}

func plainWord(w string) bool {
	for _, r := range w {
		if r >= 0x80 || r <= ' ' || r == 0x7f || strings.ContainsRune("'\"\\$`!*?[](){}<>|&;#~", r) {
			return false
		}
	}
	return w != ""
}

// ancestors returns the directories that a path is in, itself first, up to /.
func ancestors(uids []types.EntityUID, p string) []types.EntityUID {
	for {
		uids = append(uids, types.EntityUID{Type: typeDirectory, ID: types.String(p)})
		if p == "/" {
			return uids
		}
		p = path.Dir(p)
	}
}
