package verify_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/writ-run/writ/internal/evidence/testlog"
	"github.com/writ-run/writ/internal/evidence/verify"
	"github.com/writ-run/writ/internal/model"
)

// forger changes the records of a life before they are signed: what a governor
// could do that holds all the keys and is wrong, or lies.
type forger struct {
	t    *testing.T
	keys testlog.Keys
	all  []model.Record
	// starts are the indices at which a flush begins.
	starts []int
}

func newForger(t *testing.T, l *testlog.Life, keys testlog.Keys) *forger {
	f := &forger{t: t, keys: keys}
	for _, b := range l.Batches {
		f.starts = append(f.starts, len(f.all))
		f.all = append(f.all, slices.Clone(b)...)
	}
	return f
}

// find returns the index of the nth record (from 0) that matches.
func (f *forger) find(nth int, match func(model.Record) bool) int {
	f.t.Helper()
	for i, r := range f.all {
		if match(r) {
			if nth == 0 {
				return i
			}
			nth--
		}
	}
	f.t.Fatal("no such record")
	return 0
}

func kind(k model.RecordKind) func(model.Record) bool {
	return func(r model.Record) bool { return r.Kind == k }
}

func input(k model.InputKind) func(model.Record) bool {
	return func(r model.Record) bool {
		if r.Kind != model.RecordInput {
			return false
		}
		in, err := model.Decode[model.Input](r.Body)
		return err == nil && in.Kind == k
	}
}

func (f *forger) drop(i int) {
	f.all = slices.Delete(f.all, i, i+1)
	for j := range f.starts {
		if f.starts[j] > i {
			f.starts[j]--
		}
	}
}

func (f *forger) insert(i int, r model.Record) {
	f.all = slices.Insert(f.all, i, r)
	for j := range f.starts {
		if f.starts[j] > i {
			f.starts[j]++
		}
	}
}

func change[T any](f *forger, i int, edit func(*T)) {
	f.t.Helper()
	v, err := model.Decode[T](f.all[i].Body)
	if err != nil {
		f.t.Fatal(err)
	}
	edit(&v)
	f.all[i].Body = model.Encode(v)
}

// lease changes a lease and signs it again.
func (f *forger) lease(i int, edit func(*model.Lease)) {
	f.t.Helper()
	change(f, i, func(s *model.SignedLease) {
		l := *s.Effect.Lease
		edit(&l)
		s.Effect.Lease = &l
		var err error
		if s.Signature, err = f.keys.Governor.Signer.Sign(model.Encode(l)); err != nil {
			f.t.Fatal(err)
		}
	})
}

// write numbers the records and writes them as a signed log.
func (f *forger) write() (path string) {
	f.t.Helper()
	var batches [][]model.Record
	for i := range f.all {
		f.all[i].Seq = uint64(i)
		if slices.Contains(f.starts, i) {
			batches = append(batches, nil)
		}
		batches[len(batches)-1] = append(batches[len(batches)-1], f.all[i])
	}
	path = filepath.Join(f.t.TempDir(), "log")
	l := testlog.New(f.t, f.keys)
	l.Batches = batches
	l.Write(path, f.keys.LogOptions(""))
	return path
}

func TestSignedLies(t *testing.T) {
	keys := testlog.NewKeys(1)
	type lie struct {
		name    string
		forge   func(f *forger) (index int)
		code    string
		without bool // replay is not needed to see it
	}
	for _, lie := range []lie{
		{"an effect left out", func(f *forger) int { i := f.find(2, kind(model.RecordEffect)); f.drop(i); return i }, verify.ReplayDiffers, false},
		{"the last effect of a step left out", func(f *forger) int {
			i := f.find(0, kind(model.RecordLease))
			for f.all[i+1].Kind != model.RecordInput {
				i++
			}
			f.drop(i)
			return i
		}, verify.ReplayDiffers, false},
		{"an effect more", func(f *forger) int {
			i := f.find(0, input(model.InputOutcome))
			e := f.all[f.find(0, kind(model.RecordEffect))]
			e.Mono, e.Wall = f.all[i].Mono, f.all[i].Wall
			f.insert(i+1, e)
			last, _ := model.Decode[model.Effect](f.all[i-1].Body)
			change(f, i+1, func(e *model.Effect) { e.Number = last.Number + 1 })
			return i + 1
		}, "", false},
		{"a denial turned into an allow", func(f *forger) int {
			i := f.find(0, func(r model.Record) bool {
				e, err := model.Decode[model.Effect](r.Body)
				return r.Kind == model.RecordDecision && err == nil && !e.Ruling.Decision.Allow
			})
			change(f, i, func(e *model.Effect) { e.Ruling.Decision.Allow = true })
			return i
		}, verify.ReplayDiffers, false},
		{"an allow with a lost condition", func(f *forger) int {
			i := f.find(3, kind(model.RecordDecision))
			change(f, i, func(e *model.Effect) {
				e.Ruling.Decision.Allow = true
				e.Ruling.Conditions = []model.ConditionState{{Condition: model.Policy, Standing: model.Lost}}
			})
			return i
		}, verify.AllowedWhileLost, true},
		{"an action changed after it was decided", func(f *forger) int {
			i := f.find(1, input(model.InputAsk))
			change(f, i, func(in *model.Input) { in.Action.Resource.ID = "/bin/true" })
			return i + 1
		}, verify.ReplayDiffers, false},
		{"an outcome left out", func(f *forger) int {
			f.drop(f.find(0, input(model.InputOutcome)))
			change(f, f.find(0, kind(model.RecordOutage)), func(o *model.Outage) { o.LastSeq-- })
			return len(f.all) - 1
		}, verify.MissingOutcome, true},
		{"a lease by another key", func(f *forger) int {
			i := f.find(0, kind(model.RecordLease))
			change(f, i, func(s *model.SignedLease) {
				s.Signature, _ = testlog.NewKeys(2).Governor.Signer.Sign(model.Encode(*s.Effect.Lease))
			})
			return i
		}, verify.BadLeaseSign, true},
		{"a lease by the log's key", func(f *forger) int {
			i := f.find(0, kind(model.RecordLease))
			change(f, i, func(s *model.SignedLease) { s.Signature, _ = f.keys.Log.Signer.Sign(model.Encode(*s.Effect.Lease)) })
			return i
		}, verify.BadLeaseSign, true},
		{"a lease out of the chain", func(f *forger) int {
			i := f.find(1, kind(model.RecordLease))
			f.lease(i, func(l *model.Lease) { l.Previous[3] ^= 1 })
			return i
		}, verify.BadLease, true},
		{"a lease that skips one", func(f *forger) int {
			i := f.find(1, kind(model.RecordLease))
			f.lease(i, func(l *model.Lease) { l.Seq++ })
			return i
		}, verify.BadLease, true},
		{"a lease that lasts too long", func(f *forger) int {
			i := f.find(1, kind(model.RecordLease))
			f.lease(i, func(l *model.Lease) { l.Deadline++; l.KillAt++ })
			return i
		}, verify.BadLease, true},
		{"a lease that kills too late", func(f *forger) int {
			i := f.find(1, kind(model.RecordLease))
			f.lease(i, func(l *model.Lease) { l.KillAt++ })
			return i
		}, verify.BadLease, true},
		{"a lease of another time", func(f *forger) int {
			i := f.find(1, kind(model.RecordLease))
			f.lease(i, func(l *model.Lease) { l.IssuedAt-- })
			return i
		}, verify.BadLease, true},
		{"a lease that is replayed otherwise", func(f *forger) int {
			i := f.find(0, kind(model.RecordLease))
			f.lease(i, func(l *model.Lease) { l.Conditions[0] ^= 1 })
			return i
		}, verify.ReplayDiffers, false},
		{"the clock back", func(f *forger) int {
			i := f.find(3, kind(model.RecordInput))
			f.all[i].Mono = f.all[i-1].Mono - 1
			change(f, i, func(in *model.Input) { in.Mono = f.all[i].Mono })
			return i
		}, verify.TimeBack, true},
		{"an input of another time", func(f *forger) int {
			i := f.find(3, kind(model.RecordInput))
			f.all[i].Mono++
			return i
		}, verify.BadInput, true},
		{"an effect of another time", func(f *forger) int {
			i := f.find(0, kind(model.RecordDecision))
			f.all[i].Wall++
			return i
		}, verify.BadEffect, true},
		{"silence", func(f *forger) int {
			i := f.find(1, kind(model.RecordHeartbeat))
			change(f, i, func(h *model.Heartbeat) { h.Every = 1 })
			return i + 1
		}, verify.Silence, true},
		{"a heartbeat that promises nothing", func(f *forger) int {
			i := f.find(0, kind(model.RecordHeartbeat))
			change(f, i, func(h *model.Heartbeat) { h.Every = 0 })
			return i
		}, verify.BadHeartbeat, true},
		{"a heartbeat of another lease", func(f *forger) int {
			i := f.find(0, kind(model.RecordHeartbeat))
			change(f, i, func(h *model.Heartbeat) { h.Lease-- })
			return i
		}, verify.BadHeartbeat, true},
		{"another boot", func(f *forger) int {
			i := f.find(3, kind(model.RecordInput))
			for j := i; j < len(f.all); j++ {
				f.all[j].Boot = "other"
			}
			return i
		}, verify.OtherBoot, true},
		{"no boot", func(f *forger) int {
			for j := range f.all {
				f.all[j].Boot = ""
			}
			return 0
		}, verify.OtherBoot, true},
		{"another engine in the middle", func(f *forger) int {
			i := f.find(3, kind(model.RecordInput))
			for j := i; j < len(f.all); j++ {
				f.all[j].Engine[0] ^= 1
			}
			return i
		}, verify.OtherEngine, true},
		{"an outage that leaves out", func(f *forger) int {
			i := f.find(0, kind(model.RecordOutage))
			change(f, i, func(o *model.Outage) { o.LastSeq-- })
			return i
		}, verify.BadOutage, true},
		{"an outage of another time", func(f *forger) int {
			i := f.find(0, kind(model.RecordOutage))
			change(f, i, func(o *model.Outage) { o.FromWall++ })
			return i
		}, verify.BadOutage, true},
		{"no policy artifact", func(f *forger) int {
			f.drop(f.find(0, kind(model.RecordArtifact)))
			return f.find(0, input(model.InputSubmit))
		}, verify.MissingArtifact, true},
		{"another policy artifact", func(f *forger) int {
			change(f, f.find(0, kind(model.RecordArtifact)), func(a *model.Artifact) { a.Content = append(a.Content, '\n') })
			return f.find(0, input(model.InputSubmit))
		}, verify.MissingArtifact, true},
		{"dependencies left out", func(f *forger) int {
			i := f.find(2, kind(model.RecordDecision))
			f.all[i].Deps = nil
			return i
		}, verify.BadDependencies, true},
		{"dependencies added", func(f *forger) int {
			i := f.find(0, input(model.InputTick))
			f.all[i].Deps = f.all[f.find(0, kind(model.RecordDecision))].Deps
			return i
		}, verify.BadDependencies, true},
		{"no governor key", func(f *forger) int {
			f.drop(f.find(1, kind(model.RecordKey)))
			return f.find(0, input(model.InputSubmit))
		}, verify.BadKey, true},
		{"no log key", func(f *forger) int { f.drop(0); return f.find(0, input(model.InputSubmit)) }, verify.BadKey, true},
		{"a key twice", func(f *forger) int { f.insert(2, f.all[1]); return 2 }, verify.BadKey, true},
		{"a key of another role", func(f *forger) int {
			change(f, 1, func(k *model.KeyEvent) { k.Role = "operator" })
			return 1
		}, verify.BadKey, true},
		{"a key of no role", func(f *forger) int {
			change(f, 1, func(k *model.KeyEvent) { k.Role = "king" })
			return 1
		}, verify.BadKey, true},
		{"a key that is none", func(f *forger) int {
			change(f, 1, func(k *model.KeyEvent) { k.Verifier = "example.test/governor+x" })
			return 1
		}, verify.BadKey, true},
		{"a late key", func(f *forger) int {
			k := f.all[1]
			change(f, 1, func(*model.KeyEvent) {})
			i := f.find(0, input(model.InputTick))
			k.Mono, k.Wall = f.all[i].Mono, f.all[i].Wall
			f.insert(i, k)
			return i
		}, verify.BadKey, true},
		{"an input before the submission", func(f *forger) int {
			i := f.find(0, input(model.InputSubmit))
			f.insert(i, f.all[i])
			f.all[i].Deps = nil
			f.all[i].Body = model.Encode(model.Input{Kind: model.InputTick, Mono: f.all[i].Mono, Wall: f.all[i].Wall})
			return i
		}, verify.BadInput, true},
		{"a submission of another execution", func(f *forger) int {
			i := f.find(0, input(model.InputSubmit))
			change(f, i, func(in *model.Input) { in.Submission.Execution = "01ARZ3NDEKTSV4RRFFQ69G5FAW" })
			return i
		}, verify.OtherExecution, true},
		{"a submission of another boot", func(f *forger) int {
			i := f.find(0, input(model.InputSubmit))
			change(f, i, func(in *model.Input) { in.Submission.Boot = "x" })
			return i
		}, verify.OtherBoot, true},
		{"a record behind the end", func(f *forger) int {
			h := f.all[f.find(0, kind(model.RecordHeartbeat))]
			h.Mono = f.all[len(f.all)-1].Mono
			f.all = append(f.all, h)
			return len(f.all) - 1
		}, verify.AfterEnd, true},
		{"no closing record", func(f *forger) int {
			for f.all[len(f.all)-1].Kind != model.RecordInput {
				f.all = f.all[:len(f.all)-1]
			}
			f.all = f.all[:len(f.all)-1]
			return len(f.all)
		}, verify.NotClosed, true},
		{"a step torn apart by a checkpoint", func(f *forger) int {
			i := f.find(2, kind(model.RecordDecision))
			f.starts = append(f.starts, i)
			return i
		}, "", true},
		{"a phase out of order", func(f *forger) int {
			i := f.find(0, func(r model.Record) bool {
				e, err := model.Decode[model.Effect](r.Body)
				return r.Kind == model.RecordEffect && err == nil && e.Phase == model.Arming
			})
			change(f, i, func(e *model.Effect) { e.Phase = model.Completed })
			return i
		}, verify.BadPhase, true},
		{"an effect under the wrong kind", func(f *forger) int {
			i := f.find(0, kind(model.RecordDecision))
			f.all[i].Kind = model.RecordEffect
			return i
		}, verify.BadEffect, true},
		{"a decision under the wrong kind", func(f *forger) int {
			i := f.find(0, kind(model.RecordEffect))
			f.all[i].Kind = model.RecordDecision
			return i
		}, verify.BadEffect, true},
		{"a body that is not canonical", func(f *forger) int {
			i := f.find(2, kind(model.RecordInput))
			f.all[i].Body = append(slices.Clone(f.all[i].Body), 0)
			return i
		}, verify.NotCanonical, true},
		{"a body of another kind", func(f *forger) int {
			i := f.find(0, kind(model.RecordHeartbeat))
			f.all[i].Kind = model.RecordInput
			return i
		}, verify.NotCanonical, true},
		{"no kind", func(f *forger) int {
			i := f.find(0, kind(model.RecordHeartbeat))
			f.all[i].Kind = 99
			return i
		}, verify.NotCanonical, true},
	} {
		t.Run(strings.ReplaceAll(lie.name, " ", "_"), func(t *testing.T) {
			life := testlog.New(t, keys)
			life.Start()
			life.Ask("/bin/ls")
			life.Ask(testlog.Forbidden)
			life.Renew()
			life.Beat()
			life.Outage()
			life.Beat()
			life.Ask("/bin/cat")
			life.Step(model.Input{Kind: model.InputOrder, Order: &model.Order{Kind: model.OrderKill, Operator: "op"}})
			life.Step(model.Input{Kind: model.InputReport, Report: &model.Report{Effect: model.EffectKill, OK: true}})
			f := newForger(t, life, keys)
			truth := f.write()
			if r := verify.Log(truth, options(keys)); r.Verdict != verify.Valid || r.Phase != model.Terminated {
				t.Fatal(show(t, r))
			}
			index := lie.forge(f)
			path := f.write()
			r := verify.Log(path, options(keys))
			if r.Verdict != verify.Invalid || *r.Index != uint64(index) || lie.code != "" && r.Reason != lie.code {
				t.Fatalf("want %s at %d, got %s", lie.code, index, show(t, r))
			}
			if lie.code == verify.ReplayDiffers && r.Difference == nil {
				t.Fatalf("no difference shown: %s", show(t, r))
			}
			if !lie.without {
				return
			}
			opts := options(keys)
			opts.Load = nil
			if again := verify.Log(path, opts); again.Verdict != verify.Invalid || *again.Index != uint64(index) {
				t.Fatalf("without replay, want %s at %d, got %s", lie.code, index, show(t, again))
			}
		})
	}
}
