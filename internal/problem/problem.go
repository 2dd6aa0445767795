package problem

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// Entry is one kind of problem.
type Entry struct {
	Code   string // stable; lower case with underscores
	Title  string // what happened, for any occurrence
	Why    string // why it is a problem, or how it comes about
	Fix    string // what to do; commands stand between backquotes
	Status int    // of an HTTP answer
	Exit   int    // of a command other than `writ run`; 0 stands for 1
}

// Reference is where people read on about an entry.
func (e Entry) Reference() string { return "docs/reference/problems.md#" + e.Code }

// Type is the URI that identifies the entry (RFC 9457 section 3.1.1).
func (e Entry) Type() string {
	return "https://github.com/writ-run/writ/blob/main/" + e.Reference()
}

// Problem is one occurrence. Its embedded Entry says what is true of this
// occurrence: Why and Fix may be more exact than the catalogue's.
type Problem struct {
	Entry
	What  string     // what happened this time; one line or more
	Where string     // file:line:column, where it lies in a file
	Run   int        // exit code of `writ run`; 0 stands for 125
	Also  []*Problem // what else is wrong, found at the same time
	Err   error      // the cause, where there is one
}

// New returns an occurrence of the entry with the code, with what happened this
// time. A code that the catalogue does not hold is a programmer's error, and
// becomes the entry "internal".
func New(code, what string, args ...any) *Problem {
	e, ok := Lookup(code)
	if !ok {
		e, _ = Lookup(Internal)
		what, args = "%s (%s)", []any{fmt.Sprintf(what, args...), code}
	}
	if len(args) > 0 {
		what = fmt.Sprintf(what, args...)
	}
	if what == "" {
		what = e.Title
	}
	return &Problem{Entry: e, What: what}
}

// Because returns p with its cause.
func (p *Problem) Because(err error) *Problem { p.Err = err; return p }

// WithWhy returns p with a more exact why; an empty one changes nothing.
func (p *Problem) WithWhy(why string) *Problem {
	if why != "" {
		p.Why = why
	}
	return p
}

// WithFix returns p with a more exact fix; an empty one changes nothing.
func (p *Problem) WithFix(fix string) *Problem {
	if fix != "" {
		p.Fix = fix
	}
	return p
}

// RunCode returns what `writ run` exits with.
func (p *Problem) RunCode() int {
	if p.Run != 0 {
		return p.Run
	}
	return 125
}

// ExitCode returns what any other command exits with.
func (p *Problem) ExitCode() int {
	if p.Exit != 0 {
		return p.Exit
	}
	return 1
}

// Error returns where and what.
func (p *Problem) Error() string {
	if p.Where != "" {
		return p.Where + ": " + p.What
	}
	return p.What
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Err }

// maxAlso is how many further problems are shown; the first ones are usually
// the cause of the rest.
const maxAlso = 9

// Text returns p as a terminal shows it, ending in a newline: a line that
// begins with "writ:", then what is behind it, what to do, and where to read
// on.
func (p *Problem) Text() string {
	var b strings.Builder
	p.lines(&b)
	for i, also := range p.Also {
		if i == maxAlso {
			fmt.Fprintf(&b, "writ: and %d more\n", len(p.Also)-maxAlso)
			break
		}
		also.lines(&b)
	}
	fmt.Fprintf(&b, "  see: %s\n", p.Reference())
	return b.String()
}

func (p *Problem) lines(b *strings.Builder) {
	fmt.Fprintf(b, "writ: %s\n", indent(p.Error(), "  "))
	fmt.Fprintf(b, "  why: %s\n", indent(p.Why, "       "))
	fmt.Fprintf(b, "  fix: %s\n", indent(p.Fix, "       "))
}

func indent(text, by string) string {
	return strings.ReplaceAll(Clean(strings.TrimSpace(text)), "\n", "\n"+by)
}

// Clean replaces what could steer a terminal (control characters but the line
// feed) by its escape: file names, arguments and addresses are the workload's
// to choose, and are printed to an operator's terminal.
func Clean(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n':
			b.WriteRune(r)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r >= 0x7f && r < 0xa0,
			r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0x061c:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// MediaType is the media type of what MarshalJSON returns.
const MediaType = "application/problem+json"

// Document is a problem as problem+json (RFC 9457), with the members code, why
// and fix of our own.
type Document struct {
	Type   string     `json:"type"`
	Title  string     `json:"title"`
	Status int        `json:"status"`
	Code   string     `json:"code"`
	Detail string     `json:"detail"`
	Where  string     `json:"where,omitempty"`
	Why    string     `json:"why,omitempty"`
	Fix    string     `json:"fix,omitempty"`
	Also   []Document `json:"also,omitempty"`
}

// Document returns p as problem+json has it.
func (p *Problem) Document() Document {
	d := Document{Type: p.Type(), Title: p.Title, Status: p.status(), Code: p.Code,
		Detail: p.What, Where: p.Where, Why: p.Why, Fix: p.Fix}
	for _, also := range p.Also {
		d.Also = append(d.Also, also.Document())
	}
	return d
}

// FromDocument returns the problem that another process has told of.
func FromDocument(d Document) *Problem {
	e, ok := Lookup(d.Code)
	if !ok {
		e = Entry{Code: d.Code, Title: d.Title, Status: d.Status}
	}
	p := &Problem{Entry: e, What: d.Detail, Where: d.Where}
	if p.What == "" {
		p.What = e.Title
	}
	p.WithWhy(d.Why).WithFix(d.Fix)
	for _, also := range d.Also {
		p.Also = append(p.Also, FromDocument(also))
	}
	return p
}

func (p *Problem) status() int {
	if p.Status != 0 {
		return p.Status
	}
	return http.StatusInternalServerError
}

// MarshalJSON returns p as problem+json.
func (p *Problem) MarshalJSON() ([]byte, error) { return json.Marshal(p.Document()) }
