package offline_test

import (
	"strings"
	"testing"
	"time"

	"github.com/writ-run/writ/internal/evidence/testlog"
	"github.com/writ-run/writ/internal/evidence/verify"
	"github.com/writ-run/writ/internal/grant"
	"github.com/writ-run/writ/internal/keys"
	"github.com/writ-run/writ/internal/model"
)

const parentID = model.ExecutionID("01ARZ3NDEKTSV4RRFFQ69G5FA0")

// family is a setting whose execution runs on behalf of another one, under a
// grant beneath that one's.
func family(t *testing.T, edit func(s, parent *model.Submission)) testlog.Setting {
	t.Helper()
	dir := t.TempDir()
	s := testlog.Real(t, dir, func(g *grant.Grant) { g.Delegations = 1 })
	ring, err := keys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := grant.Check([][]byte{s.Artifacts[0].Content}, ring.Trust())
	if err != nil {
		t.Fatal(err)
	}
	above := chain.Leaf()
	want := above.Grant
	want.Delegations, want.NotBefore = 0, above.Grant.NotBefore.Add(time.Second)
	below, err := grant.Attenuate(ring.Key(keys.Operator), above, want)
	if err != nil {
		t.Fatal(err)
	}
	parent := s.Submission
	parent.Execution = parentID
	s.Submission.Grant, s.Submission.GrantID, s.Submission.Parent = below.Digest, below.Grant.ID, parentID
	s.Artifacts = append(s.Artifacts, model.Artifact{Name: "grant", MediaType: "application/json", Content: below.Envelope})
	if edit != nil {
		edit(&s.Submission, &parent)
	}
	leaf := model.Encode(model.Record{Execution: parent.Execution, Boot: parent.Boot, Kind: model.RecordInput,
		Body: model.Encode(model.Input{Kind: model.InputSubmit, Submission: &parent})})
	if s.Submission.ParentRecord.IsZero() {
		s.Submission.ParentRecord = model.DigestOf(leaf)
	}
	s.Artifacts = append(s.Artifacts, model.Artifact{Name: "lineage/" + string(parentID), MediaType: "application/vnd.writ.submission+cbor", Content: leaf})
	return s
}

func TestChildIsClosed(t *testing.T) {
	r, text := judge(t, family(t, nil))
	if r.Verdict != verify.Valid || !r.Replayed {
		t.Fatal(text)
	}
}

// TestLineageThatDoesNotClose: whoever holds the governor's key cannot give a
// child more than its parent has, nor a parent that is not above it.
func TestLineageThatDoesNotClose(t *testing.T) {
	for want, edit := range map[string]func(s, parent *model.Submission){
		"is not in the log":                  func(s, _ *model.Submission) { s.ParentRecord = model.DigestOf([]byte("another")) },
		"the record of its submission is of": func(_, p *model.Submission) { p.Execution = "01ARZ3NDEKTSV4RRFFQ69G5FA1" },
		"does not stand beneath that of":     func(_, p *model.Submission) { p.Grant = model.DigestOf([]byte("another")) },
		"with the digest": func(_, p *model.Submission) {
			p.Parent, p.ParentRecord = "01ARZ3NDEKTSV4RRFFQ69G5FA2", model.DigestOf(nil)
		},
		"is above itself":                       func(s, p *model.Submission) { p.Parent, p.ParentRecord = s.Execution, model.DigestOf(nil) },
		"may ask for other actions":             func(s, _ *model.Submission) { s.Withheld = []model.ActionKind{model.ActionConnect} },
		"it is of the operator":                 func(s, _ *model.Submission) { s.Operator = "another" },
		"asks for more than it allows: actions": nil,
	} {
		s := family(t, edit)
		if edit == nil {
			s = bounded(t)
		}
		r, text := judge(t, s)
		if r.Verdict != verify.Invalid || r.Reason != verify.BadGrant || !strings.Contains(r.Detail, want) {
			t.Errorf("want %q: %s", want, text)
		}
	}
}

// bounded is an execution without a budget under a grant with one.
func bounded(t *testing.T) testlog.Setting {
	return testlog.Real(t, t.TempDir(), func(g *grant.Grant) { g.Budget.Actions = 10 })
}
