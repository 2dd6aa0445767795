package policy

import (
	"fmt"
	"path"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/writ-run/writ/internal/policy/text"
)

// checkContradictions reports each permit that some forbid overrides whenever it
// matches: written down, it looks like leave that was given, and is none. To
// overrule the built-in policy is what other policies are for, and no problem.
func checkContradictions(rules []*rule) (problems Problems) {
	var forbids []*rule
	for _, r := range rules {
		if !r.permits() {
			forbids = append(forbids, r)
		}
	}
	for _, p := range rules {
		if !p.permits() || isBuiltin(p.ref.File) {
			continue
		}
		for _, f := range forbids {
			if !covers(f, p) {
				continue
			}
			at := p.source.Keyword()
			problems = append(problems, &Problem{Code: text.CodeContradiction, File: p.ref.File, Line: at.Line, Column: at.Column,
				What: fmt.Sprintf("this permit never has an effect: the forbid %s at %s:%d matches whatever it matches", text.Quote(f.ref.ID), f.ref.File, f.ref.Line),
				Why:  "a forbid always wins", Fix: "remove the permit, or except it from the forbid with an unless"})
			break
		}
	}
	return problems
}

// covers tells whether forbid f matches every request that permit p matches. It
// answers yes only where that shows in the text: f's head is as wide, and each of
// its conditions is also one of p's.
func covers(f, p *rule) bool {
	if p.actions&^f.actions != 0 || !scopeCovers(f.ast.Principal, p.ast.Principal) || !scopeCovers(f.ast.Resource, p.ast.Resource) {
		return false
	}
	for _, c := range f.ast.Conditions {
		found := false
		for _, d := range p.ast.Conditions {
			if c.Condition == d.Condition && ast.Equal(ast.NewNode(c.Body), ast.NewNode(d.Body)) {
				found = true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// scopeCovers tells whether everything in the scope b is in the scope a.
func scopeCovers(a, b ast.IsScopeNode) bool {
	switch a := a.(type) {
	case ast.ScopeTypeAll:
		return true
	case ast.ScopeTypeEq:
		eq, ok := b.(ast.ScopeTypeEq)
		return ok && eq.Entity == a.Entity
	case ast.ScopeTypeIn:
		switch b := b.(type) {
		case ast.ScopeTypeEq:
			return within(b.Entity, a.Entity)
		case ast.ScopeTypeIn:
			return within(b.Entity, a.Entity)
		case ast.ScopeTypeIsIn:
			return within(b.Entity, a.Entity)
		}
	case ast.ScopeTypeIs:
		switch b := b.(type) {
		case ast.ScopeTypeIs:
			return a.Type == b.Type
		case ast.ScopeTypeIsIn:
			return a.Type == b.Type
		case ast.ScopeTypeEq:
			return a.Type == b.Entity.Type
		}
	case ast.ScopeTypeIsIn:
		switch b := b.(type) {
		case ast.ScopeTypeIsIn:
			return a.Type == b.Type && within(b.Entity, a.Entity)
		case ast.ScopeTypeEq:
			return a.Type == b.Entity.Type && within(b.Entity, a.Entity)
		}
	}
	return false
}

// within tells whether a is b, or a path at or beneath the directory b.
func within(a, b types.EntityUID) bool {
	if a == b {
		return true
	}
	if b.Type != typeDirectory || a.Type != typeDirectory && a.Type != typeFile && a.Type != typeExecutable {
		return false
	}
	return beneath(string(a.ID), string(b.ID))
}

// beneath tells whether the clean path p is dir or lies beneath it.
func beneath(p, dir string) bool {
	return p == dir || dir == "/" && path.IsAbs(p) || strings.HasPrefix(p, dir+"/")
}
