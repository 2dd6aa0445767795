package text

import "fmt"

// Bounds on sources (DESIGN section 7).
const (
	MaxSource    = 1 << 20  // bytes of one file
	MaxStatement = 64 << 10 // bytes of one policy, comments inside it included
	MaxNesting   = 256      // brackets, ifs and signs open at once
	MaxChain     = 1024     // operators in one policy: && || + - * . and so on
)

// Statement is one policy: all tokens up to and with its semicolon.
type Statement struct {
	Tokens []Token // never empty
	Text   string  // the source from the first token to the last
}

// Keyword returns the permit or forbid, or else the first token.
func (s Statement) Keyword() Token {
	for i, t := range s.Tokens {
		if t.Kind == Word && (t.Text == "permit" || t.Text == "forbid") && (i == 0 || s.Tokens[i-1].Text != "@") {
			return t
		}
	}
	return s.Tokens[0]
}

// Split cuts a source into its statements. Statements beyond a bound are left
// out and reported; after a text that cannot be cut at all, nothing is
// returned.
func Split(file string, source []byte) ([]Statement, Problems) {
	if len(source) > MaxSource {
		return nil, Problems{{Code: CodeTooLarge, File: file, What: fmt.Sprintf("the file has %d bytes", len(source)),
			Why: fmt.Sprintf("a policy file has at most %d", MaxSource), Fix: "divide it into several files"}}
	}
	if p := Check(file, source); p != nil {
		return nil, Problems{p}
	}
	src := string(source)
	var (
		statements []Statement
		problems   Problems
		tokens     []Token
	)
	s := scanner{file: file, src: src, line: 1, column: 1}
	for {
		t, p := s.token()
		if p != nil {
			return nil, append(problems, p)
		}
		if t != nil {
			tokens = append(tokens, *t)
			if t.Text != ";" {
				continue
			}
		}
		if len(tokens) > 0 {
			st := Statement{Tokens: tokens, Text: src[tokens[0].Offset:end(tokens)]}
			if p := st.bounds(file); p != nil {
				problems = append(problems, p)
			} else {
				statements = append(statements, st)
			}
			tokens = nil
		}
		if t == nil {
			return statements, problems
		}
	}
}

func end(tokens []Token) int {
	last := tokens[len(tokens)-1]
	return last.Offset + len(last.Text)
}

// bounds checks size, nesting and length of chains. Nesting is counted on the
// safe side: an if is taken to last until the bracket around it closes, and a
// run of signs (!!!!x) counts one level a sign.
func (s Statement) bounds(file string) *Problem {
	at := s.Keyword()
	problem := func(code Code, t Token, what, why, fix string) *Problem {
		return &Problem{Code: code, File: file, Line: t.Line, Column: t.Column, What: what, Why: why, Fix: fix}
	}
	if len(s.Text) > MaxStatement {
		return problem(CodeTooLarge, at, fmt.Sprintf("the policy has %d bytes", len(s.Text)),
			fmt.Sprintf("one policy has at most %d", MaxStatement), "divide it into several policies")
	}
	var (
		outer  []int // nesting outside each open bracket
		depth  int
		signs  int
		chain  int
		nested = func(t Token) *Problem {
			return problem(CodeTooDeep, t, fmt.Sprintf("nested deeper than %d", MaxNesting),
				"evaluating it could exhaust the stack, which nothing can recover from", "divide the condition into several policies")
		}
	)
	for _, t := range s.Tokens {
		if t.Kind == Mark && (t.Text == "!" || t.Text == "-") {
			signs++
		} else {
			signs = 0
		}
		switch t.Text {
		case "(", "[", "{":
			outer = append(outer, depth)
			depth++
		case ")", "]", "}":
			if len(outer) > 0 {
				depth, outer = outer[len(outer)-1], outer[:len(outer)-1]
			}
		case "if":
			depth++
		case ".", "&&", "||", "+", "-", "*", "!", "has", "like", "is", "in", "==", "!=", "<", "<=", ">", ">=":
			chain++
		}
		if depth+signs > MaxNesting {
			return nested(t)
		}
		if chain > MaxChain {
			return problem(CodeTooLarge, t, fmt.Sprintf("more than %d operators in one policy", MaxChain),
				"each adds a level to the expression and time to every decision", "divide it into several policies, or name a directory instead of its files")
		}
	}
	return nil
}
