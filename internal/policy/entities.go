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

// Get implements types.EntityGetter.
func (q *question) Get(uid types.EntityUID) (types.Entity, bool) {
	switch {
	case uid == q.cedar.Resource:
		if q.asked&askedResource == 0 {
			q.asked |= askedResource
			q.resource = q.check(q.makeResource())
		}
		return q.resource, true
	case uid == q.cedar.Principal:
		if q.asked&askedPrincipal == 0 {
			q.asked |= askedPrincipal
			q.principal = q.check(q.makeAgent(uid))
		}
		return q.principal, true
	case uid.Type == typeExecution && string(uid.ID) == string(q.request.Submission.Execution):
		if q.asked&askedExecution == 0 {
			q.asked |= askedExecution
			q.execution = q.check(q.makeExecution())
		}
		return q.execution, true
	case uid.Type == typeDirectory && string(uid.ID) == q.request.Submission.Dir:
		e := types.Entity{UID: uid, Parents: noParents}
		if badPath(q.request.Submission.Dir) == "" {
			e.Parents = types.NewEntityUIDSet(ancestors(nil, string(uid.ID))[1:]...)
		}
		return e, true
	}
	return types.Entity{}, false
}

// check holds an entity against the schema. One that does not fit denies the
// request, whatever else comes out of it.
func (q *question) check(e types.Entity) types.Entity {
	if err := theChecker().entity(e); err != nil && q.err == nil {
		q.err = err
	}
	return e
}

func (q *question) operator() types.EntityUID {
	return types.EntityUID{Type: typeOperator, ID: types.String(q.request.Submission.Operator)}
}

func (q *question) makeAgent(uid types.EntityUID) types.Entity {
	operator := q.operator()
	return types.Entity{UID: uid, Parents: types.NewEntityUIDSet(operator), Attributes: types.NewRecord(types.RecordMap{
		"operator": operator,
		"host":     types.String(q.request.Submission.Host),
	})}
}

func (q *question) makeExecution() types.Entity {
	s := q.request.Submission
	argv0 := ""
	if len(s.Argv) > 0 {
		argv0 = s.Argv[0]
	}
	return types.Entity{
		UID: types.EntityUID{Type: typeExecution, ID: types.String(s.Execution)}, Parents: noParents,
		Attributes: types.NewRecord(types.RecordMap{
			"command":    types.String(commandLine(s.Argv)),
			"argv0":      types.String(argv0),
			"args":       textSet(rest(s.Argv)),
			"dir":        types.EntityUID{Type: typeDirectory, ID: types.String(s.Dir)},
			"executable": types.NewRecord(types.RecordMap{"path": types.String(s.Executable.ID), "digest": digestText(s.Executable.Digest)}),
			"tier":       types.String(s.Tier.String()),
			"operator":   q.operator(),
			"grant":      types.String(s.GrantID),
			"host":       types.String(s.Host),
		}),
	}
}

func digestText(d model.Digest) types.String {
	if d.IsZero() {
		return ""
	}
	return types.String(d.String())
}

// pathParents are the directories and zones that a path is in.
func pathParents(res *model.Resource) types.EntityUIDSet {
	uids := ancestors(make([]types.EntityUID, 0, 16), res.ID)
	for _, z := range res.Zones {
		uids = append(uids, zoneUIDs[z])
	}
	return types.NewEntityUIDSet(uids...)
}

func (q *question) makeResource() types.Entity {
	res := &q.request.Resource
	e := types.Entity{UID: q.cedar.Resource, Parents: noParents}
	switch res.Kind {
	case model.ResourceExecution:
		return q.makeExecution()
	case model.ResourceAgent:
		return q.makeAgent(e.UID)
	case model.ResourceFile:
		e.Parents = pathParents(res)
	case model.ResourceExecutable:
		e.Parents = pathParents(res)
		e.Attributes = types.NewRecord(types.RecordMap{
			"path": types.String(res.ID), "name": types.String(path.Base(res.ID)), "digest": digestText(res.Digest),
		})
	case model.ResourceHost:
		m := types.RecordMap{
			"port": types.Long(res.Port), "protocol": types.String(res.Protocol), "loopback": types.Boolean(q.loopback),
		}
		if q.addr.IsValid() {
			if ip, err := types.ParseIPAddr(q.host); err == nil {
				m["ip"] = ip
			} else if q.err == nil {
				q.err = err
			}
		}
		e.Attributes = types.NewRecord(m)
	case model.ResourceTool:
		e.Attributes = types.NewRecord(types.RecordMap{"name": types.String(res.ID), "server": types.String(res.Server)})
	case model.ResourceModel:
		e.Attributes = types.NewRecord(types.RecordMap{"name": types.String(res.ID)})
	}
	return e
}
