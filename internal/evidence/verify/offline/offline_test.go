package offline_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/writ-run/writ/internal/evidence/testlog"
	"github.com/writ-run/writ/internal/evidence/verify"
	"github.com/writ-run/writ/internal/evidence/verify/offline"
	"github.com/writ-run/writ/internal/grant"
	"github.com/writ-run/writ/internal/model"
)

func judge(t *testing.T, s testlog.Setting) (r verify.Result, text string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	testlog.WholeIn(t, s).Write(path, s.Keys.LogOptions(""))
	r = verify.Log(path, offline.Options(s.Keys.Trust()))
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return r, string(b)
}

func TestRealLogIsValid(t *testing.T) {
	r, text := judge(t, testlog.Real(t, t.TempDir(), nil))
	if r.Verdict != verify.Valid || !r.Replayed || r.Phase != model.Completed {
		t.Fatal(text)
	}
}

func TestGrantsThatDoNotFit(t *testing.T) {
	for want, s := range map[string]testlog.Setting{
		"it was good": testlog.Real(t, t.TempDir(), func(g *grant.Grant) {
			g.NotBefore, g.Expires = g.NotBefore.Add(-time.Hour), g.NotBefore
		}),
		"not_permitted": testlog.Real(t, t.TempDir(), func(g *grant.Grant) { g.Agent = "another" }),
		"another grant": func() testlog.Setting {
			s := testlog.Real(t, t.TempDir(), nil)
			s.Submission.GrantID = "g01ARZ3NDEKTSV4RRFFQ69G5FAV"
			return s
		}(),
		"not trusted": func() testlog.Setting {
			// A grant by the operator of another host.
			s, other := testlog.Real(t, t.TempDir(), nil), testlog.Real(t, t.TempDir(), nil)
			s.Artifacts[0], s.Submission.Grant, s.Submission.GrantID = other.Artifacts[0], other.Submission.Grant, other.Submission.GrantID
			return s
		}(),
	} {
		r, text := judge(t, s)
		if r.Verdict != verify.Invalid || r.Reason != verify.BadGrant || !strings.Contains(r.Detail, want) {
			t.Errorf("want %q: %s", want, text)
		}
	}
}

// TestBundleInParts: a bundle is named by its manifest, and the replay needs
// all that the manifest names.
func TestBundleInParts(t *testing.T) {
	s := testlog.Real(t, t.TempDir(), nil)
	s.Artifacts = s.Artifacts[:len(s.Artifacts)-1]
	r, text := judge(t, s)
	if r.Verdict != verify.Invalid || r.Reason != verify.ReplayDiffers {
		t.Fatal(text)
	}
}
