package policy

import (
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
	cedarast "github.com/cedar-policy/cedar-go/ast"
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
	tables [model.ActionDelegate + 1][model.ResourceAgent + 1]*table
}

// entry is a rule as it is evaluated for one action and kind of resource: what
// of its head is certain, because the index found it by that, is left out.
type entry struct {
	*rule
	residual *cedar.Policy
	needs    needs
}

// table holds the rules of one action and kind of resource by the first thing
// they ask for. Every rule is in one list; lists hold places in entries, which
// are in the bundle's order.
type table struct {
	entries []entry

	resources  map[types.EntityUID][]int32 // resource == or in this
	principals map[types.EntityUID][]int32 // principal == or in this
	fields     []fieldTable                // attribute == this
	others     []int32
}

type fieldTable struct {
	field  field
	names  []types.String
	values map[types.Value][]int32 // String, Long and Boolean only
}

// field is an attribute of the resource or the context, or of a record in it:
// names joined by dots.
type field struct {
	context bool
	path    string
}

const maxFieldDepth = 4

// resourceKinds are the entity types of resources, by kind.
var resourceKinds = [model.ResourceAgent + 1]types.EntityType{
	model.ResourceExecution: typeExecution, model.ResourceExecutable: typeExecutable, model.ResourceFile: typeFile,
	model.ResourceHost: typeHost, model.ResourceTool: typeTool, model.ResourceModel: typeModel, model.ResourceAgent: typeAgent,
}

func newIndex(rules []*rule) (x index) {
	for k := model.ActionStart; k.Valid(); k++ {
		for _, t := range theChecker().resourceTypes(k) {
			kind := model.ResourceKind(slices.Index(resourceKinds[:], t))
			x.tables[k][kind] = newTable(rules, k, kind)
		}
	}
	return x
}

func newTable(rules []*rule, action model.ActionKind, kind model.ResourceKind) *table {
	t := &table{resources: map[types.EntityUID][]int32{}, principals: map[types.EntityUID][]int32{}}
	for _, r := range rules {
		if !r.actions.has(action) {
			continue
		}
		key := keyOf(r.ast, resourceKinds[kind])
		if key.never {
			continue
		}
		residual := *r.ast // shares the conditions, which nobody changes
		residual.Action = ast.ScopeTypeAll{}
		place := int32(len(t.entries))
		switch {
		case key.resource != nil:
			t.resources[*key.resource] = append(t.resources[*key.resource], place)
			residual.Resource = ast.ScopeTypeAll{} // where the key is a condition's, the head has no entity
		case key.principal != nil:
			t.principals[*key.principal] = append(t.principals[*key.principal], place)
			residual.Principal = ast.ScopeTypeAll{}
		case key.value != nil:
			t.addField(key.field, key.value, place)
		default:
			t.others = append(t.others, place)
		}
		t.entries = append(t.entries, entry{rule: r, residual: cedar.NewPolicyFromAST((*cedarast.Policy)(&residual)), needs: needsOf(&residual, action, kind)})
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
	names := make([]types.String, 0, maxFieldDepth)
	for part := range strings.SplitSeq(f.path, ".") {
		names = append(names, types.String(part))
	}
	t.fields = append(t.fields, fieldTable{field: f, names: names, values: map[types.Value][]int32{v: {place}}})
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
	f, names, ok := fieldOf(left)
	// A required attribute of a request that fits the schema is always there.
	if !ok || !theChecker().required(f.context, names, resource) {
		return false
	}
	if k.value == nil {
		k.field, k.value = f, literal.Value
	}
	return true
}

// fieldOf reads resource.a.b or context.a.b.
func fieldOf(n ast.IsNode) (f field, names []types.String, ok bool) {
	for range maxFieldDepth {
		access, isAccess := n.(ast.NodeTypeAccess)
		if !isAccess || strings.Contains(string(access.Value), ".") {
			break
		}
		names = append(names, access.Value)
		n = access.Arg
	}
	variable, isVariable := n.(ast.NodeTypeVariable)
	if !isVariable || len(names) == 0 || variable.Name != "resource" && variable.Name != "context" {
		return field{}, nil, false
	}
	slices.Reverse(names)
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = string(name)
	}
	return field{context: variable.Name == "context", path: strings.Join(parts, ".")}, names, true
}

// get reads a field of a request.
func (f *fieldTable) get(q *question) types.Value {
	var v types.Value
	if f.field.context {
		v = q.contextValue(f.names[0])
	} else {
		v = q.resourceValue(f.names[0])
	}
	for _, name := range f.names[1:] {
		r, _ := v.(types.Record)
		v, _ = r.Get(name)
	}
	return v
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

// candidates returns the entries of the table that a request belongs to, and
// appends to places those of the rules that can match, ascending.
func (x *index) candidates(q *question, places []int32) ([]entry, []int32) {
	t := x.tables[q.request.Kind][q.request.Resource.Kind]
	if t == nil {
		return nil, places
	}
	places = append(places, t.others...)
	if len(t.resources) > 0 {
		q.eachParent(func(uid types.EntityUID) { places = append(places, t.resources[uid]...) })
	}
	if len(t.principals) > 0 {
		places = append(places, t.principals[q.cedar.Principal]...)
		places = append(places, t.principals[q.operator()]...)
	}
	for i := range t.fields {
		f := &t.fields[i]
		switch v := f.get(q).(type) {
		case types.String, types.Long, types.Boolean: // what can be a key of a map
			places = append(places, f.values[v]...)
		}
	}
	slices.Sort(places)
	return t.entries, places
}
