package docs_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/observe"
	"github.com/writ-run/writ/internal/observe/authorization"
	"github.com/writ-run/writ/internal/observe/cryptography"
	"github.com/writ-run/writ/internal/observe/environment"
	"github.com/writ-run/writ/internal/observe/governance"
	"github.com/writ-run/writ/internal/observe/integrity"
	"github.com/writ-run/writ/internal/observe/policy"
	"github.com/writ-run/writ/internal/observe/scope"
)

var lossReasons = map[string][]observe.Reason{
	model.Scope.String():         scope.Reasons,
	model.Policy.String():        policy.Reasons,
	model.Authorization.String(): authorization.Reasons,
	model.Integrity.String():     integrity.Reasons,
	model.Cryptography.String():  cryptography.Reasons,
	model.Environment.String():   environment.Reasons,
	model.Governance.String():    governance.Reasons,
	"every":                      observe.Reasons,
}

// reasonTable lists the codes with which a condition is lost.
func reasonTable(t *testing.T, condition string) string {
	reasons := lossReasons[condition]
	if len(reasons) == 0 {
		t.Fatalf("no reasons are known of the condition %q", condition)
	}
	var b strings.Builder
	b.WriteString("| code | what happened | can hold again |\n| --- | --- | --- |\n")
	for _, r := range reasons {
		again := "no"
		if r.Returns {
			again = "yes"
		}
		fmt.Fprintf(&b, "| [`%s`](problems.md#%s) | %s | %s |\n", r.Code, r.Code, r.Title, again)
	}
	return b.String()
}

// TestEveryConditionIsDescribed makes sure that the page on the conditions has
// a section for each, in their order.
func TestEveryConditionIsDescribed(t *testing.T) {
	text := read(t, "docs/reference/conditions.md")
	at := 0
	for _, c := range model.AllConditions() {
		i := strings.Index(text[at:], "\n## "+c.String()+"\n")
		if i < 0 {
			t.Fatalf("docs/reference/conditions.md has no section on %s behind those before it", c)
		}
		at += i + 1
	}
}
