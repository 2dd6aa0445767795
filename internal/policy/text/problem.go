package text

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Code is the stable name of a kind of problem.
type Code string

// The problems a policy source, a settings file or a bundle can have.
const (
	CodeBadText          Code = "policy_bad_text"          // not UTF-8, control characters, stray characters
	CodeTooLarge         Code = "policy_too_large"         // beyond a bound of size or number
	CodeTooDeep          Code = "policy_too_deep"          // nested deeper than MaxNesting
	CodeSyntax           Code = "policy_syntax"            // does not parse
	CodeEmpty            Code = "policy_empty"             // holds no policy
	CodeUnknownAction    Code = "policy_unknown_action"    // no such action in the schema
	CodeUnknownType      Code = "policy_unknown_type"      // no such entity type in the schema
	CodeUnknownAttribute Code = "policy_unknown_attribute" // no such attribute in the schema
	CodeUnknownWord      Code = "policy_unknown_word"      // a text that the attribute never has
	CodeBadEntity        Code = "policy_bad_entity"        // an entity whose name can never occur
	CodeType             Code = "policy_type"              // does not type-check against the schema
	CodeAnnotation       Code = "policy_annotation"        // unknown, malformed or misplaced annotation
	CodeDuplicate        Code = "policy_duplicate"         // an @id or a source name used twice
	CodeContradiction    Code = "policy_contradiction"     // a permit that a forbid always overrides
	CodeBadName          Code = "policy_bad_name"          // a source name that is not a clean relative path
	CodeSettings         Code = "policy_settings"          // settings that do not read
	CodeFlag             Code = "policy_flag"              // a --read, --write, --exec or --connect that cannot be granted
	CodeSchema           Code = "policy_schema"            // the bundle was made for another schema
	CodeUnsigned         Code = "bundle_unsigned"          // no signature
	CodeWrongSignature   Code = "bundle_wrong_signature"   // not signed by a trusted key, or signed for something else
	CodeExpired          Code = "bundle_expired"           // past its expiry
	CodeRolledBack       Code = "bundle_rolled_back"       // older than one already seen
	CodeBadBundle        Code = "bundle_damaged"           // does not decode, or holds other content than its digest says
)

// Problem is one thing a person has to mend: what is wrong, where, why it
// matters and how to mend it.
type Problem struct {
	Code   Code   `json:"code"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`   // from 1; 0 where the problem is the file's
	Column int    `json:"column,omitempty"` // from 1, in characters
	What   string `json:"what"`
	Why    string `json:"why"`
	Fix    string `json:"fix"`
}

// Where returns file:line:column, as much of it as is known.
func (p *Problem) Where() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.File == "":
		return fmt.Sprintf("%d:%d", p.Line, p.Column)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Error returns where and what on one line, then why and how to mend it on
// indented lines of their own.
func (p *Problem) Error() string {
	var b strings.Builder
	if w := p.Where(); w != "" {
		b.WriteString(w + ": ")
	}
	b.WriteString(p.What)
	if p.Why != "" {
		b.WriteString("\n    why: " + p.Why)
	}
	if p.Fix != "" {
		b.WriteString("\n    fix: " + p.Fix)
	}
	return b.String()
}

// Problems is all that is wrong, in the order of file, line and column. It is
// never empty when returned as an error.
type Problems []*Problem

func (ps Problems) Error() string {
	var b strings.Builder
	for i, p := range ps {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.Error())
	}
	return b.String()
}

// Unwrap lets errors.As find each Problem.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// Has tells whether one of the problems has the code.
func (ps Problems) Has(code Code) bool {
	return slices.ContainsFunc(ps, func(p *Problem) bool { return p.Code == code })
}

// MaxProblems is how many problems are reported at once.
const MaxProblems = 50

const maxText = 600

// short cuts a text that quotes too much.
func short(s string) string {
	if s = Plain(s); len(s) > maxText {
		return strings.ToValidUTF8(s[:maxText], "") + "..."
	}
	return s
}

// Plain makes a text that quotes somebody's input fit for a terminal: without
// control and direction characters, and valid UTF-8.
func Plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unprintable(r) {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
}

// Err returns the problems, sorted, without repetitions, cut to MaxProblems and
// fit for a terminal, or nil when there are none.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	sorted := make(Problems, len(ps))
	for i, p := range ps {
		sorted[i] = &Problem{Code: p.Code, File: Plain(p.File), Line: p.Line, Column: p.Column, What: short(p.What), Why: short(p.Why), Fix: short(p.Fix)}
	}
	slices.SortStableFunc(sorted, func(a, b *Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Code, b.Code), cmp.Compare(a.What, b.What))
	})
	sorted = slices.CompactFunc(sorted, func(a, b *Problem) bool { return *a == *b })
	if len(sorted) > MaxProblems {
		sorted = sorted[:MaxProblems]
	}
	return sorted
}
