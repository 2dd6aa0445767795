package policy

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-run/writ/internal/policy/text"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// golden compares a text with a file, or writes the file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); if it should, run with -rewrite:\n%s", file, diff)
	}
}

// loadErr loads sources that must be bad.
func loadErr(t *testing.T, sources ...Source) Problems {
	t.Helper()
	b, err := NewBundle(sources, nil)
	if err == nil {
		_, err = Load(b)
	}
	ps, ok := errors.AsType[Problems](err)
	if !ok {
		t.Fatalf("loaded, or failed without problems: %v", err)
	}
	for _, p := range ps {
		if p.What == "" || p.Why == "" || p.Fix == "" || p.Code == "" {
			t.Errorf("a problem lacks its code, what, why or fix: %+v", p)
		}
	}
	return ps
}

// TestBadPolicies holds the whole text of every error that a policy's author can
// see, and that it is the same in every run.
func TestBadPolicies(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.cedar")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(strings.TrimSuffix(name, ".cedar"), func(t *testing.T) {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			ps := loadErr(t, Source{Name: name, Text: source})
			for range 20 {
				if again := loadErr(t, Source{Name: name, Text: source}); again.Error() != ps.Error() {
					t.Fatalf("another text the second time:\n%v\n\n%v", ps, again)
				}
			}
			var b strings.Builder
			for _, p := range ps {
				fmt.Fprintf(&b, "%s\n%s\n", p.Code, p.Error())
			}
			golden(t, strings.TrimSuffix(file, ".cedar")+".golden", b.String())
		})
	}
}

func TestBounds(t *testing.T) {
	permit := `permit (principal, action == Writ::Action::"exec", resource) when { `
	nested := func(open, inner, shut string, n int) Source {
		return policies(permit + strings.Repeat(open, n) + inner + strings.Repeat(shut, n) + " };")
	}
	many := func(n int, line string) string { return strings.Repeat(line+"\n", n) }
	tests := []struct {
		name   string
		source Source
		code   text.Code
	}{
		{"brackets", nested("(", "true", ")", 257), text.CodeTooDeep},
		{"a million brackets", nested("(", "true", ")", 20_000), text.CodeTooDeep},
		{"open brackets only", nested("(", "true", "", 30_000), text.CodeTooDeep},
		{"nots", nested("!", "true", "", 20_000), text.CodeTooDeep},
		{"minus", policies(permit + "0 < " + strings.Repeat("-", 20_000) + "1 };"), text.CodeTooDeep},
		{"sets", nested("[", "1", "]", 5000), text.CodeTooDeep},
		{"records", nested("{a:", "1", "}", 5000), text.CodeTooDeep},
		{"ifs", nested("if true then true else ", "true", "", 2000), text.CodeTooDeep},
		{"ifs first", nested("if ", "true", " then true else true", 1000), text.CodeTooDeep},
		{"mixed", nested("!(if true then [", "true", "].contains(true) else false)", 100), text.CodeTooDeep},
		{"ors", policies(permit + "true" + strings.Repeat(" || true", 2000) + " };"), text.CodeTooLarge},
		{"attributes", policies(permit + "resource" + strings.Repeat(".a", 3000) + " };"), text.CodeTooLarge},
		{"64 KiB", policies(permit + `resource.name == "` + strings.Repeat("x", 65<<10) + `" };`), text.CodeTooLarge},
		{"64 KiB of comment", policies(permit + "true // " + strings.Repeat("x", 65<<10) + "\n};"), text.CodeTooLarge},
		{"1 MiB file", policies("// " + strings.Repeat("x", 1<<20)), text.CodeTooLarge},
		{"10,001 policies", policies(many(MaxPolicies+1, `permit(principal,action==Writ::Action::"start",resource);`)), text.CodeTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if ps := loadErr(t, tt.source); !ps.Has(tt.code) {
				t.Errorf("no %s in:\n%.500s", tt.code, ps)
			}
		})
	}

	t.Run("just within", func(t *testing.T) {
		load(t, nested("(", "true", ")", 255))
		load(t, nested("!", "true", "", 254))
		load(t, policies(permit+"true"+strings.Repeat(" || true", 1000)+" };"))
		load(t, policies(permit+`resource.name == "`+strings.Repeat("x", 65_000)+`" };`))
	})
}

func TestBundleBounds(t *testing.T) {
	ok := []byte(`permit (principal, action == Writ::Action::"start", resource);`)
	tests := []struct {
		name    string
		sources []Source
		code    text.Code
	}{
		{"none", nil, text.CodeEmpty},
		{"same name", []Source{{Name: "a.cedar", Text: ok}, {Name: "a.cedar", Text: ok}}, text.CodeDuplicate},
		{"absolute", []Source{{Name: "/a.cedar", Text: ok}}, text.CodeBadName},
		{"upwards", []Source{{Name: "../a.cedar", Text: ok}}, text.CodeBadName},
		{"unclean", []Source{{Name: "a//b.cedar", Text: ok}}, text.CodeBadName},
		{"other ending", []Source{{Name: "a.txt", Text: ok}}, text.CodeBadName},
		{"newline", []Source{{Name: "a\nb.cedar", Text: ok}}, text.CodeBadName},
		{"not UTF-8", []Source{{Name: "a\xffb.cedar", Text: ok}}, text.CodeBadName},
		{"bidi", []Source{{Name: "a\u202eb.cedar", Text: ok}}, text.CodeBadName},
		{"long", []Source{{Name: strings.Repeat("a", 300) + ".cedar", Text: ok}}, text.CodeBadName},
		{"ID twice", []Source{{Name: "a.cedar", Text: []byte("@id(\"x\")" + string(ok))}, {Name: "b.cedar", Text: []byte("@id(\"x\")" + string(ok))}}, text.CodeDuplicate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if ps := loadErr(t, tt.sources...); !ps.Has(tt.code) {
				t.Errorf("no %s in:\n%v", tt.code, ps)
			}
		})
	}
	var many []Source
	for i := range MaxSources + 1 {
		many = append(many, Source{Name: fmt.Sprintf("%d.cedar", i), Text: ok})
	}
	if ps := loadErr(t, many...); !ps.Has(text.CodeTooLarge) {
		t.Errorf("%d sources: %v", len(many), ps)
	}
	var large []Source
	for i := range 9 {
		large = append(large, Source{Name: fmt.Sprintf("%d.cedar", i), Text: append([]byte("// "+strings.Repeat("x", 1<<20-100)+"\n"), ok...)})
	}
	if ps := loadErr(t, large...); !ps.Has(text.CodeTooLarge) {
		t.Errorf("9 MiB: %v", ps)
	}
}

// TestHostileSources loads what was written to make loading take for ever. There
// is no clock here: what takes for ever runs into the time limit of the tests.
func TestHostileSources(t *testing.T) {
	head := `permit (principal, action == Writ::Action::"exec", resource) `
	set := func(element string, n int) string { return "[" + strings.Repeat(element+",", n) + element + "]" }
	numbered := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	conditions := strings.Repeat(`when { context.tier == "user" } `, 1900)
	for name, source := range map[string]string{
		"ors":                 head + `when { true` + strings.Repeat(` || context.tier == "kernel"`, 330) + ` };`,
		"tests for presence":  `permit (principal, action, resource is Writ::Host) when { true` + strings.Repeat(" && resource has ip", 500) + ` };`,
		"a large set":         head + `when { ` + set("1", 30_000) + `.contains(context.actions) };`,
		"bad entities":        strings.Repeat(`permit (principal, action == Writ::Action::"open", resource) when { resource in `+set(`Writ::File::"x"`, 4000)+" };\n", 15),
		"nested ifs":          head + `when { ` + strings.Repeat(`if context.tier == "kernel" then true else `, 250) + `true };`,
		"nested records":      head + `when { ` + strings.Repeat("{a:", 250) + "1" + strings.Repeat("}", 250) + ` == {} };`,
		"a wide record":       head + `when { {` + numbered(4000, "a%d: 1,") + `} == {} };`,
		"bad conditions":      head + strings.Repeat("when { 1 } ", 4000) + ";",
		"bad attributes":      head + numbered(1000, "when { context.a%d } ") + ";",
		"the same conditions": strings.Repeat(head+conditions+";\nforbid"+strings.TrimPrefix(head, "permit")+conditions+";\n", 7),
		"permits and forbids": strings.Repeat(head+`when { context.tier == "user" };`+"\n", 4000) + strings.Repeat("forbid"+strings.TrimPrefix(head, "permit")+`when { context.tier == "kernel" };`+"\n", 4000),
		"comments":            strings.Repeat("/**/", 200_000) + head + ";",
		"semicolons":          strings.Repeat("x;", 400_000),
		"a wild pattern":      head + `when { resource.path like "` + strings.Repeat("*a", 20_000) + `" };`,
	} {
		t.Run(name, func(t *testing.T) {
			b, err := NewBundle([]Source{{Name: "hostile.cedar", Text: []byte(source)}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			l, err := Load(b)
			if err != nil {
				if len(err.Error()) > 200_000 {
					t.Errorf("%d bytes of problems", len(err.Error()))
				}
				return
			}
			l.Decide(execRequest("/"+strings.Repeat("a", 4000), "a"))
		})
	}
}

// A forbid of the user's may overrule what is built in.
func TestOverrulingTheBuiltinIsNoContradiction(t *testing.T) {
	load(t, append(Builtin(), policies(`forbid (principal, action == Writ::Action::"exec", resource);`))...)
}

func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/bad/*.cedar")
	for _, file := range append(files, "builtin/builtin.cedar") {
		source, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(source)
	}
	requests := allKinds()
	f.Fuzz(func(t *testing.T, source []byte) {
		b, err := NewBundle([]Source{{Name: "fuzz.cedar", Text: source}}, nil)
		if err != nil {
			return
		}
		l, err := Load(b)
		if err != nil {
			for _, p := range err.(Problems) {
				if p.What == "" || p.Why == "" || p.Fix == "" {
					t.Errorf("incomplete: %+v", p)
				}
			}
			return
		}
		for _, i := range l.Policies() { // our scanner and cedar-go's agree on where policies are
			if !strings.HasPrefix(i.Text, "permit") && !strings.HasPrefix(i.Text, "forbid") && !strings.HasPrefix(i.Text, "@") {
				t.Errorf("policy %s does not begin as one: %q", i.Ref.ID, i.Text)
			}
		}
		for _, r := range requests {
			if d, all := l.decide(&r, true), l.decide(&r, false); cmp.Diff(d, all) != "" {
				t.Errorf("%s: the index changes the decision:\n%s", r.Kind, cmp.Diff(all, d))
			}
		}
	})
}
