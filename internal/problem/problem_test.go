package problem

import (
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "write the reference page anew")

const reference = "../../docs/reference/problems.md"

// Every entry says what a person needs, in the house's form.
func TestEntriesAreComplete(t *testing.T) {
	code := regexp.MustCompile(`^[a-z][a-z_]*[a-z]$`)
	seen := map[string]bool{}
	for _, e := range All() {
		if !code.MatchString(e.Code) || seen[e.Code] {
			t.Errorf("%q: not a code, or not the only one", e.Code)
		}
		seen[e.Code] = true
		for name, text := range map[string]string{"title": e.Title, "why": e.Why, "fix": e.Fix} {
			if strings.TrimSpace(text) == "" || strings.HasSuffix(text, ".") || strings.Contains(text, "\n") {
				t.Errorf("%s: %s %q: want one line without a full stop", e.Code, name, text)
			}
		}
		if http.StatusText(e.Status) == "" || e.Status < 200 {
			t.Errorf("%s: HTTP status %d", e.Code, e.Status)
		}
		if strings.Count(e.Fix, "`")%2 != 0 || strings.Count(e.Why, "`")%2 != 0 {
			t.Errorf("%s: a backquote is not closed", e.Code)
		}
	}
}

func TestReferenceIsCurrent(t *testing.T) {
	if *rewrite {
		if err := os.WriteFile(reference, []byte(Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	page, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Markdown(), string(page)); diff != "" {
		t.Errorf("%s is not current; run go generate ./internal/problem\n%s", reference, diff)
	}
}

func TestText(t *testing.T) {
	p := New("no_such_execution", "no execution %q in %s", "01AB", "/state")
	want := "writ: no execution \"01AB\" in /state\n" +
		"  why: the state directory has none with this ID\n" +
		"  fix: `writ ps -a` lists all of them; an ID may be cut to its first or last four or more characters; `last` is the newest\n" +
		"  see: docs/reference/problems.md#no_such_execution\n"
	if diff := cmp.Diff(want, p.Text()); diff != "" {
		t.Error(diff)
	}
}

func TestTextOfSeveral(t *testing.T) {
	p := New("policy_syntax", "expected an action")
	p.Where = "my.cedar:3:1"
	for range maxAlso + 2 {
		p.Also = append(p.Also, New("policy_type", "wrong").WithWhy("w").WithFix("f"))
	}
	text := p.Text()
	if !strings.HasPrefix(text, "writ: my.cedar:3:1: expected an action\n") {
		t.Error(text)
	}
	if got := strings.Count(text, "writ: wrong\n"); got != maxAlso {
		t.Errorf("%d further problems are shown, want %d", got, maxAlso)
	}
	if !strings.Contains(text, "writ: and 2 more\n") {
		t.Error("it does not say how many are left out")
	}
}

// What a workload chose must not steer the operator's terminal.
func TestTextCannotSteerTheTerminal(t *testing.T) {
	p := New("denied", "exec \x1b]0;title\x07 \u202egnp.sh \u009b2J\ttab")
	if strings.ContainsAny(p.Text(), "\x1b\x07\u202e\u009b\t") {
		t.Errorf("%q", p.Text())
	}
}

func TestUnknownCodeIsAFaultOfOurs(t *testing.T) {
	p := New("no_such_code", "what %d", 1)
	if p.Code != Internal || !strings.Contains(p.What, "what 1 (no_such_code)") {
		t.Errorf("%+v", p)
	}
}

func TestDocumentRoundTrips(t *testing.T) {
	cause := errors.New("cause")
	p := New("order_refused", "too old").Because(cause).WithFix("hurry")
	p.Also = []*Problem{New("denied", "")}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var d Document
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	back := FromDocument(d)
	if diff := cmp.Diff(p.Text(), back.Text()); diff != "" {
		t.Error(diff)
	}
	if d.Type != "https://github.com/writ-run/writ/blob/main/docs/reference/problems.md#order_refused" || d.Status != http.StatusForbidden {
		t.Errorf("%+v", d)
	}
	if !errors.Is(p, cause) {
		t.Error("the cause is lost")
	}
}

func TestFromADocumentOfANewerVersion(t *testing.T) {
	p := FromDocument(Document{Code: "of_the_future", Title: "new", Status: 418, Fix: "update"})
	if p.Code != "of_the_future" || p.What != "new" || p.Fix != "update" || p.ExitCode() != 1 || p.RunCode() != 125 {
		t.Errorf("%+v", p)
	}
}
