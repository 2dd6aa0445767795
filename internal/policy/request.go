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

	plain      bool         // all conditions hold, with no more to be said of them
	cut        bool         // the arguments may not be all of them
	conditions types.Record // made when first read, unless plain
	needs      needs

	principal, resource, execution types.Entity
	asked                          uint8 // which of the three have been made
	err                            error // an entity did not fit the schema
}

const (
	askedPrincipal = 1 << iota
	askedResource
	askedExecution
)

// newQuestion is ask on a new question.
func newQuestion(r *model.Request) (q *question, why string) {
	q = new(question)
	return q, q.ask(r)
}

// ask puts a request into Cedar's terms. why says what makes it none that the
// schema has; it is "" where the request will do.
func (q *question) ask(r *model.Request) (why string) {
	if !r.Kind.Valid() {
		return "there is no such action"
	}
	s := r.Submission
	if s == nil {
		return "it belongs to no execution"
	}
	if s.Agent == "" || s.Operator == "" || s.Execution == "" {
		return "its execution has no agent, no operator or no ID"
	}
	q.request = r
	q.cedar.Action = actionUIDs[r.Kind]
	q.cedar.Principal = types.EntityUID{Type: typeAgent, ID: types.String(r.Submission.Agent)}
	var id string
	var t types.EntityType
	if t, id, why = q.resourceUID(); why != "" {
		return why
	}
	q.cedar.Resource = types.EntityUID{Type: t, ID: types.String(id)}
	if !theChecker().shapes.applies[r.Kind][r.Resource.Kind] {
		return "the action does not apply to such a resource"
	}
	return q.checkContext()
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

const conditionsName types.String = "conditions"

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
	tierText = [model.TierKernel + 1]types.Value{
		model.TierCooperative: types.String("cooperative"), model.TierUser: types.String("user"), model.TierKernel: types.String("kernel"),
	}
	onlyConditions = types.NewRecord(types.RecordMap{conditionsName: allHold})
	accessText     = map[model.Access]types.Value{
		model.AccessRead: types.String("read"), model.AccessWrite: types.String("write"), model.AccessExecute: types.String("execute"),
	}
	accessContext = map[model.Access]types.Record{}
)

func init() {
	for a, text := range accessText {
		accessContext[a] = types.NewRecord(types.RecordMap{"access": text})
	}
}

// checkContext says what keeps the request from having a context, or "". It looks
// at everything, whatever the policies read of it.
func (q *question) checkContext() (why string) {
	req := q.request
	if req.Kind == model.ActionOpen {
		return ""
	}
	q.plain = true
	for i := range req.Conditions {
		c := &req.Conditions[i]
		if c.Condition != 0 && c.Condition != model.Condition(i+1) {
			return "the conditions are out of order"
		}
		if c.Standing > model.Stale || !utf8.ValidString(c.Reason) {
			return "a condition's standing is unknown"
		}
		if c.Standing != model.Holds || c.Reason != "" {
			q.plain = false
		}
	}
	if tier := req.Submission.Tier; tier < model.TierCooperative || tier > model.TierKernel {
		return "the tier is unknown"
	}
	if req.Elapsed < 0 {
		return "the time since admission is negative"
	}
	if !utf8.ValidString(req.Process.Executable) || !validTexts(req.Args) {
		return "the asking program or an argument is not UTF-8"
	}
	q.cut = req.Cut || mayBeCut(req.Args)
	if req.Kind == model.ActionHTTP && len(req.Args) != 2 {
		return "an HTTP request has a method and a path"
	}
	if req.Kind == model.ActionHTTP && q.cut {
		return "the path is too long to be seen whole"
	}
	return ""
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

// contextValue makes one attribute of the context.
func (q *question) contextValue(name types.String) types.Value {
	req := q.request
	switch name {
	case "access":
		return accessText[req.Resource.Access]
	case conditionsName:
		if q.plain {
			return allHold
		}
		if q.conditions.Len() == 0 {
			q.conditions = conditionsRecord(&req.Conditions)
		}
		return q.conditions
	case "tier":
		return tierText[req.Submission.Tier]
	case "elapsedSeconds":
		return types.Long(req.Elapsed / 1e9)
	case "actions":
		return types.Long(min(req.Actions, math.MaxInt64))
	case "execution":
		return types.EntityUID{Type: typeExecution, ID: types.String(req.Submission.Execution)}
	case "program":
		return types.String(req.Process.Executable)
	case "args":
		if req.Kind == model.ActionExec {
			return textSet(rest(req.Args))
		}
		return textSet(req.Args)
	case "command":
		return types.String(commandLine(req.Args))
	case "method":
		return types.String(req.Args[0])
	case "path":
		return types.String(req.Args[1])
	}
	return nil
}

// prepare makes what the policies to be evaluated can read of the context, and
// holds it against the schema.
func (q *question) prepare(n needs) {
	q.needs = n
	shape := theChecker().shapes.contexts[q.request.Kind]
	switch {
	case n.context == 0:
		return
	case q.request.Kind == model.ActionOpen:
		q.cedar.Context = accessContext[q.request.Resource.Access]
		return
	case q.plain && n.context == shape.bit(conditionsName):
		q.cedar.Context = onlyConditions
		return
	}
	bits := n.context
	if q.cut { // to read what is not known must fail, and any failure denies
		bits &^= shape.bit("args") | shape.bit("command")
	}
	q.cedar.Context, q.err = shape.make(bits, q.contextValue)
}

// mayBeCut tells whether arguments reach the limits of an action, at which a gate
// cuts them off: there may be more than is seen. A cut may have fallen into the
// middle of a character, whose bytes are then missing too.
func mayBeCut(args []string) bool {
	total := 0
	for _, a := range args {
		total += len(a)
	}
	return len(args) >= model.MaxArgs || total > model.MaxArgBytes-utf8.UTFMax
}

// argumentNames are the attributes of the context that are missing where the
// arguments may be cut.
var argumentNames = []types.String{"args", "command"}

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
