package text

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cedar-policy/cedar-go"
)

func TestSplit(t *testing.T) {
	source := "// one; two\n@id(\"a;b\")\npermit (principal);\n/* ; */ forbid /* ; */ (\"\\\";\");  x y"
	statements, problems := Split("f.cedar", []byte(source))
	if len(problems) > 0 || len(statements) != 3 {
		t.Fatalf("%v %v", statements, problems)
	}
	for i, want := range []struct {
		text         string
		line, column int
	}{{"@id(\"a;b\")\npermit (principal);", 3, 1}, {"forbid /* ; */ (\"\\\";\");", 4, 9}, {"x y", 4, 34}} {
		if k := statements[i].Keyword(); statements[i].Text != want.text || k.Line != want.line || k.Column != want.column {
			t.Errorf("%d: %q at %d:%d", i, statements[i].Text, k.Line, k.Column)
		}
	}
}

func TestColumnsCountCharacters(t *testing.T) {
	statements, _ := Split("f", []byte("/* é€😀 */ permit;"))
	if k := statements[0].Keyword(); k.Column != 11 {
		t.Errorf("column %d", k.Column)
	}
}

func TestQuote(t *testing.T) {
	for _, s := range []string{"", "a", `"`, `\`, `\"`, "\n", "\x7f", "é", "\u202e", "*", `\u{0}`, "'", "😀"} {
		var uid cedar.EntityUID
		if err := uid.UnmarshalCedar([]byte("A::" + Quote(s))); err != nil || string(uid.ID) != s {
			t.Errorf("%q: %s is read as %q, %v", s, Quote(s), uid.ID, err)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"start", "continue", "exec", "connect", "open"}
	for word, want := range map[string]string{"strat": "start", "START": "start", "conect": "connect", "opne": "open", "opens": "open", "xyz": "", "": "", "contineu": "continue", strings.Repeat("x", 1000): ""} {
		if got := Nearest(word, words); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}

func TestProblems(t *testing.T) {
	if (Problems{}).Err() != nil {
		t.Error("no problems are an error")
	}
	var ps Problems
	for i := range 200 {
		ps = append(ps, &Problem{File: "b", Line: 200 - i, What: "evil \x1b[31m\u202e\xff"})
	}
	ps = append(ps, &Problem{File: "a", Line: 1000, What: "first"}, &Problem{File: "a", Line: 1000, What: "first"})
	got := ps.Err().(Problems)
	if len(got) != MaxProblems || got[0].What != "first" || got[1].Line != 1 {
		t.Errorf("%d problems, %v", len(got), got[:2])
	}
	if strings.ContainsAny(got[1].What, "\x1b\u202e") || !utf8.ValidString(got[1].What) {
		t.Errorf("%q", got[1].What)
	}
}

// FuzzSplit holds our scanner against cedar-go's, through its parser: a source
// that it parses has as many policies for us, at the same places, within bounds.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{
		"permit (principal, action, resource);", "@a(\"x\") permit(principal,action,resource)when{\"a;b\"==\"\\\"\"};forbid(principal,action,resource);",
		"/* */ // x\npermit(principal,action,resource);", "permit(principal,action,resource)when{1>-2&&!!true||a::b::\"c\" in [x]};", "/*/ permit(principal,action,resource); /*/", "/**/permit(principal,action,resource);",
		"permit(principal,action,resource)when{\"\\u{1F600}\" like \"\\*\"};",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		statements, problems := Split("f.cedar", []byte(source))
		for _, s := range statements {
			if len(s.Tokens) == 0 || len(s.Text) > MaxStatement || s.Keyword().Line < 1 {
				t.Fatalf("a bad statement: %+v", s)
			}
		}
		if len(problems) > 0 || deep(source) {
			return
		}
		list, err := cedar.NewPolicyListFromBytes("f.cedar", []byte(source))
		if err != nil {
			return
		}
		if len(list) != len(statements) {
			t.Fatalf("cedar-go finds %d policies, we %d", len(list), len(statements))
		}
		for i, p := range list {
			at, first := p.Position(), statements[i].Tokens[0]
			if at.Offset != first.Offset || at.Line != first.Line || at.Column != first.Column {
				t.Errorf("policy %d: cedar-go at %+v, we at %+v", i, at, first)
			}
		}
	})
}

// deep tells whether a source could exhaust the stack of a parser without limit,
// however its tokens are read.
func deep(source string) bool {
	return strings.Count(source, "(")+strings.Count(source, "[")+strings.Count(source, "{")+strings.Count(source, "if")+strings.Count(source, "!")+strings.Count(source, "-") > 10_000
}
