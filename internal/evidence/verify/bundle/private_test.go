package bundle_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/writ-run/writ/internal/evidence/export"
	"github.com/writ-run/writ/internal/evidence/testlog"
	"github.com/writ-run/writ/internal/evidence/verify"
	"github.com/writ-run/writ/internal/evidence/verify/bundle"
	"github.com/writ-run/writ/internal/keys"
	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/redact"
)

// newPrivateStage is a stage whose log has two redacted values.
func newPrivateStage(t *testing.T) (*stage, []redact.Opening) {
	t.Helper()
	dir := t.TempDir()
	setting := testlog.Real(t, dir, nil)
	a, b := redact.Hide("action/1", "hunter2"), redact.Hide("action/1", "swordfish")
	l := testlog.NewIn(t, setting)
	l.Start()
	l.Step(model.Input{Kind: model.InputAsk, Action: &model.Action{
		Number: 1, Kind: model.ActionExec, Gate: "kernel", Process: model.Process{PID: 1, Executable: "/bin/sh"},
		Resource: model.Resource{Kind: model.ResourceExecutable, ID: "/bin/x", Zones: []model.Zone{model.ZoneSystem}},
		Args:     []string{"x", "--password=" + redact.Marker(a.Commitment), redact.Marker(b.Commitment)},
	}})
	l.Step(model.Input{Kind: model.InputOutcome, Outcome: &model.Outcome{Number: 1, Done: true}})
	l.Exit()
	log := filepath.Join(dir, "log")
	l.Write(log, setting.Keys.LogOptions(""))
	ring, err := keys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return &stage{t: t, dir: dir, ring: ring, life: l, trust: setting.Keys.Trust(), log: export.Execution{ID: testlog.Execution, Log: log}}, []redact.Opening{a, b}
}

func lines(t *testing.T, openings ...redact.Opening) []byte {
	t.Helper()
	var b []byte
	for _, o := range openings {
		line, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		b = append(append(b, line...), '\n')
	}
	return b
}

func TestOpeningsAndErasures(t *testing.T) {
	s, openings := newPrivateStage(t)
	said := func(r bundle.Result, what string) bool {
		return strings.Contains(strings.Join(r.NotChecked, "\n"), what)
	}

	if r := s.verify(s.export(s.log), nil); r.Verdict != verify.Valid || !said(r, "2 redacted values: their openings are not in the bundle") {
		t.Fatal(show(r))
	}
	e := s.log
	e.Openings = lines(t, openings...)
	if r := s.verify(s.export(e), nil); r.Verdict != verify.Valid || r.Executions[0].Openings != 2 || !r.Custody.Openings || said(r, "redacted") {
		t.Fatal(show(r))
	}
	// An opening with another value, of another log, and one that a crash cut off.
	forged := openings[0]
	forged.Value = "hunter3"
	e.Openings = lines(t, forged)
	if r := s.verify(s.export(e), nil); r.Verdict != verify.Invalid || r.Reason != bundle.BadOpening {
		t.Fatal(show(r))
	}
	e.Openings = lines(t, openings[0], redact.Hide("action/1", "elsewhere"))
	if r := s.verify(s.export(e), nil); r.Verdict != verify.Valid || r.Executions[0].Openings != 1 || len(r.Notes) != 1 {
		t.Fatal(show(r))
	}
	e.Openings = append(lines(t, openings...), `{"of":"x`...)
	if r := s.verify(s.export(e), nil); r.Verdict != verify.Valid || r.Executions[0].Openings != 2 {
		t.Fatal(show(r))
	}

	erasure := redact.Erasure{Execution: testlog.Execution, Operator: "op", Commitments: []model.Digest{openings[0].Commitment}}
	sign := func(x redact.Erasure, role keys.Role) []byte {
		b, err := x.Seal(s.ring.Key(role))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	e = s.log
	e.Erasures = [][]byte{sign(erasure, keys.Operator)}
	if r := s.verify(s.export(e), nil); r.Verdict != verify.Valid || r.Executions[0].Erasures != 1 || !said(r, "1 redacted values: their openings were erased") || !said(r, "1 redacted values: their openings are not in the bundle") {
		t.Fatal(show(r))
	}
	other := erasure
	other.Execution = "01ARZ3NDEKTSV4RRFFQ69G5FAX"
	changed := []byte(strings.Replace(string(sign(erasure, keys.Operator)), `"sig":"`, `"sig":"A`, 1))
	for name, statement := range map[string][]byte{"of another execution": sign(other, keys.Operator), "by the governor": sign(erasure, keys.Governor), "changed": changed} {
		e.Erasures = [][]byte{statement}
		if r := s.verify(s.export(e), nil); r.Verdict != verify.Invalid || r.Reason != bundle.BadErasure {
			t.Errorf("%s: %s", name, show(r))
		}
	}
}
