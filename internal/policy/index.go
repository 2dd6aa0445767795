package policy

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/writ-run/writ/internal/model"
)

// index finds the rules that can match a request. It leaves out a rule only
// where evaluating it is certain to give false without an error, so it never
// changes a decision: cedar-go evaluates head and conditions from left to right
// and stops at the first that is false, and what the index reads of them, as far
// as it reads, cannot fail.
type index struct {
	rules  []*rule
	tables [model.ActionDelegate + 1][model.ResourceAgent + 1]*table
}

// table holds the rules of one action and kind of resource by the first thing
// they ask for. Every rule is in one list; lists hold places in index.rules.
type table struct {
	resources  map[types.EntityUID][]int32 // resource == or in this
	principals map[types.EntityUID][]int32 // principal == or in this
	fields     []fieldTable                // attribute of the resource or context == this
	others     []int32
}

type fieldTable struct {
	field  field
	values map[types.Value][]int32 // String, Long and Boolean only
}

// field is an attribute of the resource or the context.
type field struct {
	context bool
	name    types.String
}

// resourceKinds are the entity types of resources, by kind.
var resourceKinds = [model.ResourceAgent + 1]types.EntityType{
	model.ResourceExecution: typeExecution, model.ResourceExecutable: typeExecutable, model.ResourceFile: typeFile,
	model.ResourceHost: typeHost, model.ResourceTool: typeTool, model.ResourceModel: typeModel, model.ResourceAgent: typeAgent,
}

func newIndex(rules []*rule) index {
	x := index{rules: rules}
	for k := model.ActionStart; k.Valid(); k++ {
		for _, t := range theChecker().resourceTypes(k) {
			kind := slices.Index(resourceKinds[:], t)
			x.tables[k][kind] = newTable(rules, k, t)
		}
	}
	return x
}

func newTable(rules []*rule, action model.ActionKind, resource types.EntityType) *table {
	t := &table{resources: map[types.EntityUID][]int32{}, principals: map[types.EntityUID][]int32{}}
	for i, r := range rules {
		if !r.actions.has(action) {
			continue
		}
		key := keyOf(r.ast, resource)
		place := int32(i)
		switch {
		case key.never:
		case key.resource != nil:
			t.resources[*key.resource] = append(t.resources[*key.resource], place)
		case key.principal != nil:
			t.principals[*key.principal] = append(t.principals[*key.principal], place)
		case key.value != nil:
			t.addField(key.field, key.value, place)
		default:
			t.others = append(t.others, place)
		}
	}
	return t
}

func (t *table) addField(f field, v types.Value, place int32) {
	for i := range t.fields {
		if t.fields[i].field == f {
			t.fields[i].values[v] = append(t.fields[i].values[v], place)
			return
		}
	}
	t.fields = append(t.fields, fieldTable{field: f, values: map[types.Value][]int32{v: {place}}})
}

// key is what a rule asks for first. Only the first that is set counts, in the
// order never, resource, principal, value.
type key struct {
	never               bool // it never matches a resource of this type
	resource, principal *types.EntityUID
	field               field
	value               types.Value
}

// keyOf reads a rule's head, and of its conditions the tests at their very
// beginning that cannot fail.
func keyOf(p *ast.Policy, resource types.EntityType) (k key) {
	k.scope(&k.principal, p.Principal, "")
	k.scope(&k.resource, p.Resource, resource)
	for _, c := range p.Conditions {
		if c.Condition != ast.ConditionWhen || !k.test(c.Body, resource) {
			break
		}
	}
	return k
}

func (k *key) scope(at **types.EntityUID, s ast.IsScopeNode, t types.EntityType) {
	switch s := s.(type) {
	case ast.ScopeTypeEq:
		k.entity(at, s.Entity, t, true)
	case ast.ScopeTypeIn:
		k.entity(at, s.Entity, t, false)
	case ast.ScopeTypeIs:
		k.is(s.Type, t)
	case ast.ScopeTypeIsIn:
		k.is(s.Type, t)
		k.entity(at, s.Entity, t, false)
	}
}

func (k *key) is(have, want types.EntityType) {
	if want != "" && have != want {
		k.never = true
	}
}

func (k *key) entity(at **types.EntityUID, uid types.EntityUID, t types.EntityType, equal bool) {
	if equal {
		k.is(uid.Type, t)
	}
	if *at == nil {
		*at = &uid
	}
}

// test reads one condition as far as it consists of tests that cannot fail; it
// tells whether that was all of it.
func (k *key) test(n ast.IsNode, resource types.EntityType) bool {
	switch n := n.(type) {
	case ast.NodeTypeAnd:
		return k.test(n.Left, resource) && k.test(n.Right, resource)
	case ast.NodeTypeEquals:
		return k.equals(n.Left, n.Right, resource) || k.equals(n.Right, n.Left, resource)
	case ast.NodeTypeIn:
		uid, ok := literalEntity(n.Right)
		return ok && k.variable(n.Left, uid, resource, false)
	case ast.NodeTypeIs:
		if variable, ok := n.Left.(ast.NodeTypeVariable); ok && variable.Name == "resource" {
			k.is(n.EntityType, resource)
			return true
		}
	}
	return false
}

func (k *key) equals(left, right ast.IsNode, resource types.EntityType) bool {
	if uid, ok := literalEntity(right); ok {
		return k.variable(left, uid, resource, true)
	}
	literal, ok := right.(ast.NodeValue)
	if !ok {
		return false
	}
	switch literal.Value.(type) {
	case types.String, types.Long, types.Boolean:
	default:
		return false
	}
	access, ok := left.(ast.NodeTypeAccess)
	if !ok {
		return false
	}
	variable, ok := access.Arg.(ast.NodeTypeVariable)
	if !ok || variable.Name != "resource" && variable.Name != "context" {
		return false
	}
	// A required attribute of a request that fits the schema is always there.
	if !theChecker().required(variable.Name == "context", access.Value, resource) {
		return false
	}
	if k.value == nil {
		k.field, k.value = field{context: variable.Name == "context", name: access.Value}, literal.Value
	}
	return true
}

func (k *key) variable(n ast.IsNode, uid types.EntityUID, resource types.EntityType, equal bool) bool {
	variable, ok := n.(ast.NodeTypeVariable)
	if !ok {
		return false
	}
	switch variable.Name {
	case "resource":
		k.entity(&k.resource, uid, resource, equal)
		return true
	case "principal":
		k.entity(&k.principal, uid, "", equal)
		return true
	}
	return false
}

func literalEntity(n ast.IsNode) (types.EntityUID, bool) {
	v, ok := n.(ast.NodeValue)
	if !ok {
		return types.EntityUID{}, false
	}
	uid, ok := v.Value.(types.EntityUID)
	return uid, ok
}

// candidates returns the places of the rules that can match, ascending.
func (x *index) candidates(q *question) []int32 {
	kind := q.request.Resource.Kind
	t := x.tables[q.request.Kind][kind]
	if t == nil {
		return nil
	}
	places := make([]int32, 0, 32)
	places = append(places, t.others...)
	if len(t.resources) > 0 {
		places = append(places, t.resources[q.cedar.Resource]...)
		resource, _ := q.Get(q.cedar.Resource)
		for parent := range resource.Parents.All() {
			places = append(places, t.resources[parent]...)
		}
	}
	if len(t.principals) > 0 {
		places = append(places, t.principals[q.cedar.Principal]...)
		places = append(places, t.principals[q.operator()]...)
	}
	for i := range t.fields {
		f := &t.fields[i]
		record := q.cedar.Context
		if !f.field.context {
			resource, _ := q.Get(q.cedar.Resource)
			record = resource.Attributes
		}
		if v, ok := record.Get(f.field.name); ok {
			switch v.(type) {
			case types.String, types.Long, types.Boolean:
				places = append(places, f.values[v]...)
			}
		}
	}
	slices.Sort(places) // parents come in the order of a map
	return places
}
