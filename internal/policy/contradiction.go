package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"github.com/writ-run/writ/internal/policy/text"
)

// checkContradictions reports each permit that some forbid overrides whenever it
// matches: written down, it looks like leave that was given, and is none. To
// overrule the built-in policy is what other policies are for, and no problem.
func checkContradictions(rules []*rule) (problems Problems) {
	forbids := map[string][]*rule{} // by their first condition; "" for those without
	conditions := map[*rule][]string{}
	for _, r := range rules {
		if conditions[r] = r.conditions(); r.permits() || len(conditions[r]) > maxCompared {
			continue
		}
		first := ""
		if len(conditions[r]) > 0 {
			first = conditions[r][0]
		}
		forbids[first] = append(forbids[first], r)
	}
	for _, p := range rules {
		if !p.permits() || isBuiltin(p.ref.File) || len(conditions[p]) > maxCompared {
			continue
		}
		if f := coveredBy(p, forbids, conditions); f != nil {
			at := p.source.Keyword()
			problems = append(problems, &Problem{Code: text.CodeContradiction, File: p.ref.File, Line: at.Line, Column: at.Column,
				What: fmt.Sprintf("this permit never has an effect: the forbid %s at %s:%d matches whatever it matches", text.Quote(f.ref.ID), f.ref.File, f.ref.Line),
				Why:  "a forbid always wins", Fix: "remove the permit, or except it from the forbid with an unless"})
		}
	}
	return problems
}

// maxCompared bounds how many conditions a policy may have to be compared.
const maxCompared = 32

// coveredBy returns a forbid that matches every request that permit p matches, or
// nil. It finds one only where that shows in the text: its head is as wide, and
// each of its conditions is also one of p's.
func coveredBy(p *rule, forbids map[string][]*rule, conditions map[*rule][]string) *rule {
	own := conditions[p]
	for _, first := range append([]string{""}, own...) {
		for _, f := range forbids[first] {
			if p.actions&^f.actions != 0 || !scopeCovers(f.ast.Principal, p.ast.Principal) || !scopeCovers(f.ast.Resource, p.ast.Resource) {
				continue
			}
			if !slices.ContainsFunc(conditions[f], func(c string) bool { return !slices.Contains(own, c) }) {
				return f
			}
		}
	}
	return nil
}

// conditions returns the text of each condition, its tokens divided by blanks.
func (r *rule) conditions() (conditions []string) {
	depth, last := 0, 0
	cut := func(i int) {
		if last > 0 {
			words := make([]string, 0, i-last)
			for _, t := range r.source.Tokens[last:i] {
				words = append(words, t.Text)
			}
			conditions = append(conditions, strings.Join(words, " "))
		}
		last = i
	}
	for i, t := range r.source.Tokens {
		switch {
		case t.Kind == text.Mark && strings.Contains("([{", t.Text):
			depth++
		case t.Kind == text.Mark && strings.Contains(")]}", t.Text):
			depth--
		case depth == 0 && (t.Text == ";" || t.Kind == text.Word && (t.Text == "when" || t.Text == "unless")):
			cut(i)
		}
	}
	return conditions
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
