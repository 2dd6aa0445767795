package policy

import (
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/writ-run/writ/internal/model"
)

// actionSet is a set of action kinds, one bit each.
type actionSet uint16

const allActions actionSet = 1<<(model.ActionDelegate+1) - 2

func (s actionSet) has(k model.ActionKind) bool { return s&(1<<k) != 0 }

func (s actionSet) kinds() (kinds []model.ActionKind) {
	for k := model.ActionStart; k.Valid(); k++ {
		if s.has(k) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// actionsOf returns the actions that a policy's scope lets through. The schema
// has no groups of actions, so `in` is equality.
func actionsOf(p *ast.Policy) (set actionSet) {
	add := func(uid types.EntityUID) {
		if k := actionKind(uid); k != 0 {
			set |= 1 << k
		}
	}
	switch s := p.Action.(type) {
	case ast.ScopeTypeAll:
		return allActions
	case ast.ScopeTypeEq:
		add(s.Entity)
	case ast.ScopeTypeIn:
		add(s.Entity)
	case ast.ScopeTypeInSet:
		for _, uid := range s.Entities {
			add(uid)
		}
	}
	return set
}

// hasRecordLiteral tells whether a policy holds a record of two or more parts.
func hasRecordLiteral(p *ast.Policy) (found bool) {
	for _, c := range p.Conditions {
		ast.Inspect(ast.NewNode(c.Body), func(n ast.IsNode) bool {
			if r, ok := n.(ast.NodeTypeRecord); ok && len(r.Elements) > 1 {
				found = true
			}
			return !found
		})
	}
	return found
}
