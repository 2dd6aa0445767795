package policy

import (
	"maps"
	"slices"
	"sync"

	_ "embed"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	cedarschema "github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"github.com/writ-run/writ/internal/model"
)

// Schema is the published schema, in Cedar's own notation.
//
//go:embed schema.cedarschema
var Schema string

const namespace = "Writ::"

// Entity types of the schema.
const (
	typeAgent      types.EntityType = namespace + "Agent"
	typeOperator   types.EntityType = namespace + "Operator"
	typeExecution  types.EntityType = namespace + "Execution"
	typeExecutable types.EntityType = namespace + "Executable"
	typeFile       types.EntityType = namespace + "File"
	typeDirectory  types.EntityType = namespace + "Directory"
	typeZone       types.EntityType = namespace + "Zone"
	typeHost       types.EntityType = namespace + "Host"
	typeTool       types.EntityType = namespace + "Tool"
	typeModel      types.EntityType = namespace + "Model"
	typeAction     types.EntityType = namespace + "Action"
)

// actionUIDs are the schema's actions by kind.
var actionUIDs = func() (uids [model.ActionDelegate + 1]types.EntityUID) {
	for k := model.ActionStart; k.Valid(); k++ {
		uids[k] = types.NewEntityUID(typeAction, types.String(k.String()))
	}
	return uids
}()

// actionNames lists the schema's actions as policies write them.
var actionNames = func() (names []string) {
	for k := model.ActionStart; k.Valid(); k++ {
		names = append(names, k.String())
	}
	return names
}()

// actionKind returns the kind of an action entity, 0 where the schema has none.
func actionKind(uid types.EntityUID) model.ActionKind {
	for k := model.ActionStart; k.Valid(); k++ {
		if actionUIDs[k] == uid {
			return k
		}
	}
	return 0
}

// checker is the adapter to cedar-go's experimental schema validator: nothing
// else in Writ touches it.
type checker struct {
	schema    *resolved.Schema
	validator *validate.Validator
	shapes    shapes
	names     []string // every attribute name, at any depth
}

var theChecker = sync.OnceValue(func() *checker {
	var s cedarschema.Schema
	s.SetFilename("schema.cedarschema")
	if err := s.UnmarshalCedar([]byte(Schema)); err != nil {
		panic("policy: embedded schema: " + err.Error())
	}
	r, err := s.Resolve()
	if err != nil {
		panic("policy: embedded schema: " + err.Error())
	}
	return &checker{schema: r, validator: validate.New(r, validate.WithStrict()), shapes: newShapes(r), names: attributeNames(r)}
})

// policy returns what the strict validator has against p, sorted: it walks over
// maps, so its own order differs from run to run.
func (c *checker) policy(p *ast.Policy) (complaints []string) {
	defer func() {
		if r := recover(); r != nil {
			complaints = []string{"the validator cannot check it"}
		}
	}()
	seen := map[string]bool{}
	var walk func(err error)
	walk = func(err error) {
		if err == nil {
			return
		}
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range joined.Unwrap() {
				walk(e)
			}
			return
		}
		seen[err.Error()] = true
	}
	walk(c.validator.Policy("", p))
	return slices.Sorted(maps.Keys(seen))
}

// typeNames lists the schema's entity types as policies write them.
func (c *checker) typeNames() []string {
	var names []string
	for t := range c.schema.Entities {
		names = append(names, string(t))
	}
	for t := range c.schema.Enums {
		names = append(names, string(t))
	}
	slices.Sort(names)
	return names
}

// attributes lists the attributes of an entity type or, where t is empty, of
// the context of the action.
func (c *checker) attributes(t types.EntityType, action types.EntityUID) []string {
	var record resolved.RecordType
	if e, ok := c.schema.Entities[t]; ok {
		record = e.Shape
	} else if a, ok := c.schema.Actions[action]; ok && a.AppliesTo != nil {
		record = a.AppliesTo.Context
	}
	return recordNames(record)
}

// attributeNames lists every attribute name of the schema, at any depth.
func attributeNames(s *resolved.Schema) []string {
	seen := map[string]bool{}
	var walk func(r resolved.RecordType)
	walk = func(r resolved.RecordType) {
		for name, a := range r {
			seen[string(name)] = true
			if inner, ok := a.Type.(resolved.RecordType); ok {
				walk(inner)
			}
		}
	}
	for _, e := range s.Entities {
		walk(e.Shape)
	}
	for _, a := range s.Actions {
		if a.AppliesTo != nil {
			walk(a.AppliesTo.Context)
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func recordNames(r resolved.RecordType) []string {
	names := make([]string, 0, len(r))
	for n := range r {
		names = append(names, string(n))
	}
	slices.Sort(names)
	return names
}

// entityTypes returns the resource types that an action applies to.
func (c *checker) resourceTypes(k model.ActionKind) []types.EntityType {
	if a, ok := c.schema.Actions[actionUIDs[k]]; ok && a.AppliesTo != nil {
		return a.AppliesTo.Resources
	}
	return nil
}

// required tells whether an attribute is there in every request: of the
// resource type or, where context is set, of the context of every action for
// it. names lead to it through records.
func (c *checker) required(context bool, names []types.String, resource types.EntityType) bool {
	if context && slices.Contains(argumentNames, names[0]) {
		return false // they are missing where they may be cut
	}
	if !context {
		return requiredIn(c.schema.Entities[resource].Shape, names)
	}
	found := false
	for _, action := range c.schema.Actions {
		if action.AppliesTo == nil || !slices.Contains(action.AppliesTo.Resources, resource) {
			continue
		}
		if _, has := action.AppliesTo.Context[names[0]]; !has {
			continue // a policy that reads it there does not load
		}
		if !requiredIn(action.AppliesTo.Context, names) {
			return false
		}
		found = true
	}
	return found
}

func requiredIn(r resolved.RecordType, names []types.String) bool {
	for i, name := range names {
		a, has := r[name]
		if !has || a.Optional {
			return false
		}
		if i < len(names)-1 {
			inner, ok := a.Type.(resolved.RecordType)
			if !ok {
				return false
			}
			r = inner
		}
	}
	return len(names) > 0
}
