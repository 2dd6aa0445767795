package text

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Kind is what a Token is.
type Kind uint8

const (
	Word   Kind = iota + 1 // an identifier or keyword
	Number                 // decimal digits
	String                 // a string literal, quotes included
	Mark                   // an operator or bracket
)

// Token is one token of a Cedar source.
type Token struct {
	Kind   Kind
	Text   string
	Offset int // in bytes, from 0
	Line   int // from 1
	Column int // from 1, in characters
}

// scanner walks over a source. It follows cedar-go's own scanner exactly for
// every source that one accepts, and refuses whatever that one refuses.
type scanner struct {
	file   string
	src    string
	pos    int
	line   int
	column int
}

func (s *scanner) peek() rune {
	if s.pos >= len(s.src) {
		return -1
	}
	if c := s.src[s.pos]; c < utf8.RuneSelf {
		return rune(c)
	}
	r, _ := utf8.DecodeRuneInString(s.src[s.pos:])
	return r
}

func (s *scanner) next() rune {
	r := s.peek()
	if r < 0 {
		return r
	}
	s.pos += utf8.RuneLen(r)
	s.column++
	if r == '\n' {
		s.line++
		s.column = 1
	}
	return r
}

func (s *scanner) problem(code Code, what, why, fix string) *Problem {
	return &Problem{Code: code, File: s.file, Line: s.line, Column: s.column, What: what, Why: why, Fix: fix}
}

// Check refuses what no source may hold anywhere: bytes that are not
// UTF-8, control characters, and characters that make a text show otherwise
// than it reads ("Trojan Source", CVE-2021-42574).
func Check(file string, source []byte) *Problem {
	src := string(source)
	s := scanner{file: file, src: src, line: 1, column: 1}
	for s.pos < len(src) {
		r, size := utf8.DecodeRuneInString(src[s.pos:])
		switch {
		case r == utf8.RuneError && size == 1:
			return s.problem(CodeBadText, fmt.Sprintf("byte 0x%02x is not UTF-8 text", src[s.pos]),
				"a policy that different readers read differently cannot be relied on", "save the file as UTF-8")
		case unprintable(r) && r != '\n' && r != '\r' && r != '\t':
			return s.problem(CodeBadText, fmt.Sprintf("invisible character U+%04X", r),
				"it can make the policy show otherwise than it is read", fmt.Sprintf(`remove it; inside a string write it as \u{%x}`, r))
		}
		s.next()
	}
	return nil
}

// unprintable tells whether a character shows as nothing, or changes how others
// show: control characters, byte order marks, changes of direction.
func unprintable(r rune) bool {
	return unicode.Is(unicode.Cc, r) || r == 0xfeff || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200e || r == 0x200f || r == 0x061c
}

func isWordRune(r rune, first bool) bool {
	return r == '_' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || !first && isDigit(r)
}

func isDigit(r rune) bool { return r >= '0' && r <= '9' }

// skipBlank passes white space and comments.
func (s *scanner) skipBlank() *Problem {
	for {
		switch r := s.peek(); {
		case r == ' ' || r == '\t' || r == '\n' || r == '\r':
			s.next()
		case r == '/' && s.pos+1 < len(s.src) && s.src[s.pos+1] == '/':
			for r := s.peek(); r >= 0 && r != '\n'; r = s.peek() {
				s.next()
			}
		case r == '/' && s.pos+1 < len(s.src) && s.src[s.pos+1] == '*':
			open := *s
			s.next()
			s.next()
			for before := rune(0); ; {
				r := s.next()
				if r < 0 {
					return open.problem(CodeSyntax, "comment is not closed", "everything after it would be ignored", "end it with */")
				}
				if before == '*' && r == '/' {
					break
				}
				before = r
			}
		default:
			return nil
		}
	}
}

// token reads one token; it returns nil, nil at the end.
func (s *scanner) token() (*Token, *Problem) {
	if p := s.skipBlank(); p != nil {
		return nil, p
	}
	t := &Token{Offset: s.pos, Line: s.line, Column: s.column}
	start := *s
	switch r := s.next(); {
	case r < 0:
		return nil, nil
	case isWordRune(r, true):
		t.Kind = Word
		for isWordRune(s.peek(), false) {
			s.next()
		}
	case isDigit(r):
		t.Kind = Number
		for isDigit(s.peek()) {
			s.next()
		}
	case r == '"':
		t.Kind = String
		for {
			r := s.next()
			if r == '\\' {
				r = s.next()
			} else if r == '"' {
				break
			}
			if r < 0 || r == '\n' {
				return nil, start.problem(CodeSyntax, "text is not closed", "it runs to the end of the line", `end it with "`)
			}
		}
	default:
		t.Kind = Mark
		if !s.mark(r) {
			return nil, start.problem(CodeSyntax, fmt.Sprintf("%q has no meaning here", r), "Cedar knows no such sign", markHint(r))
		}
	}
	t.Text = s.src[t.Offset:s.pos]
	return t, nil
}

// mark reads the rest of an operator that begins with r.
func (s *scanner) mark(r rune) bool {
	second := func(want rune) bool {
		if s.peek() == want {
			s.next()
			return true
		}
		return false
	}
	switch r {
	case '@', '.', ',', ';', '(', ')', '{', '}', '[', ']', '+', '-', '*':
		return true
	case ':':
		second(':')
		return true
	case '!', '<', '>':
		second('=')
		return true
	case '=', '|', '&':
		return second(r)
	}
	return false
}

func markHint(r rune) string {
	switch r {
	case '=':
		return "write == to compare"
	case '&':
		return "write && for and"
	case '|':
		return "write || for or"
	case '\'', '“', '”', '‘', '’', '«', '»':
		return `put texts between straight double quotes: "`
	case '#':
		return "begin a comment with //"
	case '%', '/':
		return "Cedar has + - * only"
	}
	if r >= utf8.RuneSelf {
		return "outside texts and comments only ASCII is allowed: it may be a look-alike of another letter"
	}
	return "remove it"
}
