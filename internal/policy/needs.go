package policy

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/writ-run/writ/internal/model"
)

// needs tells what the policies that are going to be evaluated can read of a
// request, so that nothing else has to be made: records are most of what a
// decision costs. One bit is one attribute, by its place in the schema's shape.
type needs struct {
	context  uint16 // attributes of the context
	resource uint16 // attributes of the resource
	parents  bool   // what the resource is in
}

// needsAll is for policies of which nothing is known.
var needsAll = needs{context: ^uint16(0), resource: ^uint16(0), parents: true}

func (n needs) or(m needs) needs {
	return needs{context: n.context | m.context, resource: n.resource | m.resource, parents: n.parents || m.parents}
}

// needsOf returns what a policy can read, asked about one action and kind of
// resource. It is on the safe side: what it does not understand reads all.
func needsOf(p *ast.Policy, action model.ActionKind, kind model.ResourceKind) (n needs) {
	shapes := &theChecker().shapes
	context, resource := shapes.contexts[action], shapes.entities[kind].shape
	switch p.Resource.(type) {
	case ast.ScopeTypeIn, ast.ScopeTypeIsIn:
		n.parents = true
	}
	if kind == model.ResourceAgent { // it may be the principal too, whose attributes are read under another name
		n.resource, n.parents = needsAll.resource, true
	}
	read := func(arg ast.IsNode, name types.String) bool { // whether to look further into arg
		switch arg := arg.(type) {
		case ast.NodeTypeVariable:
			switch arg.Name {
			case "context":
				n.context |= context.bit(name)
			case "resource":
				n.resource |= resource.bit(name)
			}
			return false
		case ast.NodeTypeAccess:
			return true
		}
		n = needsAll
		return true
	}
	inspectUntil(p, func(node ast.IsNode) bool {
		switch node := node.(type) {
		case ast.NodeTypeAccess:
			return read(node.Arg, node.Value)
		case ast.NodeTypeHas:
			return read(node.Arg, node.Value)
		case ast.NodeTypeIn, ast.NodeTypeIsIn:
			n.parents = true
		case ast.NodeTypeGetTag, ast.NodeTypeHasTag:
			n = needsAll
		case ast.NodeTypeVariable:
			if node.Name == "context" { // as a whole
				n.context = needsAll.context
			}
		}
		return true
	})
	return n
}

// bit returns the bit of an attribute; 0 where there is none of the name.
func (s shape) bit(name types.String) uint16 {
	i := slices.IndexFunc(s, func(a attributeShape) bool { return a.name == name })
	if i < 0 {
		return 0
	}
	return 1 << i
}

// inspectUntil visits the nodes of a policy's conditions; visit tells whether to
// look further into a node.
func inspectUntil(p *ast.Policy, visit func(ast.IsNode) bool) {
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), visit)
	}
}
