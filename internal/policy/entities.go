package policy

import (
	"path"

	"github.com/cedar-policy/cedar-go/types"

	"github.com/writ-run/writ/internal/model"
)

// zoneUIDs are the zones by number.
var zoneUIDs = func() (uids [model.ZoneHome + 1]types.EntityUID) {
	for z := model.ZoneSystem; z <= model.ZoneHome; z++ {
		uids[z] = types.NewEntityUID(typeZone, types.String(z.String()))
	}
	return uids
}()

var noParents = types.NewEntityUIDSet()

// Get implements types.EntityGetter. Of the resource it makes only what the
// policies to be evaluated can read.
func (q *question) Get(uid types.EntityUID) (types.Entity, bool) {
	switch {
	case uid == q.cedar.Resource:
		if q.asked&askedResource == 0 {
			q.asked |= askedResource
			q.resource = q.entity(uid, q.request.Resource.Kind, q.needs.resource, q.needs.parents, q.resourceValue)
		}
		return q.resource, true
	case uid == q.cedar.Principal:
		if q.asked&askedPrincipal == 0 {
			q.asked |= askedPrincipal
			q.principal = q.entity(uid, model.ResourceAgent, needsAll.resource, true, q.agentValue)
		}
		return q.principal, true
	case uid.Type == typeExecution && string(uid.ID) == string(q.request.Submission.Execution):
		if q.asked&askedExecution == 0 {
			q.asked |= askedExecution
			q.execution = q.entity(uid, model.ResourceExecution, needsAll.resource, true, q.executionValue)
		}
		return q.execution, true
	case uid.Type == typeDirectory && string(uid.ID) == q.request.Submission.Dir && badPath(string(uid.ID)) == "":
		return types.Entity{UID: uid, Parents: types.NewEntityUIDSet(ancestors(nil, string(uid.ID))[1:]...)}, true
	}
	return types.Entity{}, false
}

// entity makes an entity and holds it against the schema. One that does not fit
// denies the request, whatever else comes out of it.
func (q *question) entity(uid types.EntityUID, kind model.ResourceKind, bits uint16, parents bool, value func(types.String) types.Value) types.Entity {
	shape := &theChecker().shapes.entities[kind]
	e := types.Entity{UID: uid, Parents: noParents}
	var err error
	if bits != 0 && len(shape.shape) > 0 {
		e.Attributes, err = shape.make(bits, value)
	}
	if parents {
		var uids []types.EntityUID
		switch kind {
		case model.ResourceAgent:
			uids = []types.EntityUID{q.operator()}
		case model.ResourceFile, model.ResourceExecutable:
			q.eachParent(func(parent types.EntityUID) {
				if parent != uid {
					uids = append(uids, parent)
				}
			})
		}
		if len(uids) > 0 {
			e.Parents = types.NewEntityUIDSet(uids...)
		}
	}
	if err == nil && !shape.mayBeIn(e.Parents) {
		err = errUnfit
	}
	if err != nil && q.err == nil {
		q.err = err
	}
	return e
}

// eachParent visits the resource and everything that it is in.
func (q *question) eachParent(visit func(types.EntityUID)) {
	visit(q.cedar.Resource)
	res := &q.request.Resource
	switch res.Kind {
	case model.ResourceAgent:
		visit(q.operator())
	case model.ResourceFile, model.ResourceExecutable:
		for p := res.ID; ; p = path.Dir(p) {
			visit(types.EntityUID{Type: typeDirectory, ID: types.String(p)})
			if p == "/" {
				break
			}
		}
		for _, z := range res.Zones {
			visit(zoneUIDs[z])
		}
	}
}

func (q *question) operator() types.EntityUID {
	return types.EntityUID{Type: typeOperator, ID: types.String(q.request.Submission.Operator)}
}

// agentValue makes one attribute of an agent; one to whom authority is handed on
// is let run by the same operator.
func (q *question) agentValue(name types.String) types.Value {
	switch name {
	case "operator":
		return q.operator()
	case "host":
		return types.String(q.request.Submission.Host)
	}
	return nil
}

// executionValue makes one attribute of the execution.
func (q *question) executionValue(name types.String) types.Value {
	s := q.request.Submission
	switch name {
	case "command":
		return types.String(commandLine(s.Argv))
	case "argv0":
		if len(s.Argv) > 0 {
			return types.String(s.Argv[0])
		}
		return types.String("")
	case "args":
		return textSet(rest(s.Argv))
	case "dir":
		return types.EntityUID{Type: typeDirectory, ID: types.String(s.Dir)}
	case "executable":
		return types.NewRecord(types.RecordMap{"path": types.String(s.Executable.ID), "digest": digestText(s.Executable.Digest)})
	case "tier":
		return types.String(s.Tier.String())
	case "operator":
		return q.operator()
	case "grant":
		return types.String(s.GrantID)
	case "host":
		return types.String(s.Host)
	}
	return nil
}

func digestText(d model.Digest) types.String {
	if d.IsZero() {
		return ""
	}
	return types.String(d.String())
}

// resourceValue makes one attribute of the resource.
func (q *question) resourceValue(name types.String) types.Value {
	res := &q.request.Resource
	switch res.Kind {
	case model.ResourceExecution:
		return q.executionValue(name)
	case model.ResourceAgent:
		return q.agentValue(name)
	case model.ResourceHost:
		return q.hostValue(name)
	}
	switch name { // of an executable, a tool or a model
	case "path":
		return types.String(res.ID)
	case "name":
		if res.Kind == model.ResourceExecutable {
			return types.String(path.Base(res.ID))
		}
		return types.String(res.ID)
	case "digest":
		return digestText(res.Digest)
	case "server":
		return types.String(res.Server)
	}
	return nil
}

func (q *question) hostValue(name types.String) types.Value {
	switch name {
	case "ip":
		if !q.addr.IsValid() {
			return nil
		}
		ip, err := types.ParseIPAddr(q.host)
		if err != nil {
			if q.err == nil {
				q.err = err
			}
			return nil
		}
		return ip
	case "port":
		return types.Long(q.request.Resource.Port)
	case "protocol":
		return types.String(q.request.Resource.Protocol)
	case "loopback":
		return types.Boolean(q.loopback)
	}
	return nil
}
