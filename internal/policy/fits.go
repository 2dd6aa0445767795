package policy

import (
	"errors"
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"

	"github.com/writ-run/writ/internal/model"
)

// errUnfit is why a request is refused whose parts are not what the schema says.
var errUnfit = errors.New("it does not fit the schema")

// shapes are the schema's records, laid out once so that every request can be
// held against them in a few hundred nanoseconds. They mean exactly what
// cedar-go's validator means, and tests hold the two against each other.
type shapes struct {
	contexts [model.ActionDelegate + 1]shape
	applies  [model.ActionDelegate + 1][model.ResourceAgent + 1]bool
	entities [model.ResourceAgent + 1]entityShape // by kind of resource
}

type entityShape struct {
	shape
	parents []types.EntityType
}

// shape is a record type: its attributes in any order.
type shape []attributeShape

type attributeShape struct {
	name     types.String
	optional bool
	kind     resolved.IsType
	inner    shape // of a record
}

func newShapes(s *resolved.Schema) (all shapes) {
	for k := model.ActionStart; k.Valid(); k++ {
		a, ok := s.Actions[actionUIDs[k]]
		if !ok || a.AppliesTo == nil {
			panic("policy: embedded schema: no action " + k.String())
		}
		all.contexts[k] = newShape(a.AppliesTo.Context)
		for kind, t := range resourceKinds {
			for _, r := range a.AppliesTo.Resources {
				if t == r {
					all.applies[k][kind] = true
				}
			}
		}
	}
	for kind, t := range resourceKinds {
		if e, ok := s.Entities[t]; ok {
			all.entities[kind] = entityShape{shape: newShape(e.Shape), parents: e.ParentTypes}
		}
	}
	return all
}

func newShape(r resolved.RecordType) shape {
	var s shape
	for _, name := range recordNames(r) {
		a := r[types.String(name)]
		at := attributeShape{name: types.String(name), optional: a.Optional, kind: a.Type}
		if inner, ok := a.Type.(resolved.RecordType); ok {
			at.inner = newShape(inner)
		}
		s = append(s, at)
	}
	return s
}

// make makes a record of the attributes whose bits are set, each held against
// its type. value gives an attribute, nil for an optional one that is not there.
func (s shape) make(bits uint16, value func(types.String) types.Value) (types.Record, error) {
	m := make(types.RecordMap, len(s))
	for i := range s {
		if bits&(1<<i) == 0 {
			continue
		}
		v := value(s[i].name)
		if v == nil && s[i].optional {
			continue
		}
		if v == nil || !s[i].holds(v) {
			return types.Record{}, errUnfit
		}
		m[s[i].name] = v
	}
	return types.NewRecord(m), nil
}

// fits tells whether a record has exactly the attributes of the shape.
func (s shape) fits(r types.Record) bool {
	present := 0
	for i := range s {
		v, ok := r.Get(s[i].name)
		if !ok && !s[i].optional || ok && !s[i].holds(v) {
			return false
		}
		if ok {
			present++
		}
	}
	return present == r.Len()
}

// holds tells whether a value is of the attribute's type.
func (a *attributeShape) holds(v types.Value) bool {
	switch want := a.kind.(type) {
	case resolved.StringType:
		_, ok := v.(types.String)
		return ok
	case resolved.LongType:
		_, ok := v.(types.Long)
		return ok
	case resolved.BoolType:
		_, ok := v.(types.Boolean)
		return ok
	case resolved.EntityType:
		uid, ok := v.(types.EntityUID)
		return ok && uid.Type == types.EntityType(want)
	case resolved.SetType:
		set, ok := v.(types.Set)
		if _, texts := want.Element.(resolved.StringType); !ok || !texts {
			return false // the schema has sets of texts only
		}
		for e := range set.All() {
			if _, ok := e.(types.String); !ok {
				return false
			}
		}
		return true
	case resolved.RecordType:
		record, ok := v.(types.Record)
		return ok && a.inner.fits(record)
	case resolved.ExtensionType:
		_, ok := v.(types.IPAddr)
		return ok && want == "ipaddr"
	}
	return false
}

// mayBeIn tells whether an entity of a kind of resource may be in those.
func (s *entityShape) mayBeIn(parents types.EntityUIDSet) bool {
	for parent := range parents.All() {
		if !slices.Contains(s.parents, parent.Type) {
			return false
		}
	}
	return true
}
