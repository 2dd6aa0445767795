package vectors

import (
	"fmt"
	"io"
	"time"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
	"github.com/writ-run/writ/internal/evidence/segment"
	"github.com/writ-run/writ/internal/evidence/verify"
	"github.com/writ-run/writ/internal/grant"
	"github.com/writ-run/writ/internal/keys"
	"github.com/writ-run/writ/internal/model"
)

// checkpoints returns the signed checkpoints of files, with the first record
// that each adds.
func checkpoints(files map[string][]byte, m *material) (signed []string, firsts []uint64) {
	first := uint64(0)
	for _, name := range (Original{Files: files}).Names() {
		scan, err := segment.NewScanner(reader(files[name]))
		if err != nil {
			m.t.Fatal(err)
		}
		for {
			f, err := scan.Next()
			if err != nil {
				break
			}
			if f.Kind == segment.FrameCheckpoint {
				signed, firsts = append(signed, string(f.Payload)), append(firsts, first)
				c, _, _, err := checkpoint.Peek(f.Payload)
				if err != nil {
					m.t.Fatal(err)
				}
				first = c.Size
			}
		}
	}
	return signed, firsts
}

type reader []byte

func (r reader) ReadAt(b []byte, off int64) (int, error) {
	if off >= int64(len(r)) {
		return 0, io.EOF
	}
	n := copy(b, r[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// onHistory cuts, forks and rewrites logs as whoever has all the keys can. What
// no log can tell by itself is listed too, with what tells it.
func (m *material) onHistory() []mutation {
	var out []mutation
	own, firsts := checkpoints(m.original.Files, m)
	final := string(m.original.Checkpoint)

	// Cut clean, at a checkpoint.
	flushes := m.forger().starts
	for n := 1; n < len(own); n += 3 {
		f := m.forger()
		f.all = f.all[:flushes[n]]
		files, end := f.write(), uint64(flushes[n])
		out = append(out, invalid(fmt.Sprintf("cut-at-%03d", end), "truncate", "all behind a checkpoint cut off clean", files, end, verify.NotClosed))
		back := invalid(fmt.Sprintf("rollback-to-%03d", end), "rollback", "set back to an earlier checkpoint, and said to be running; a later checkpoint is known elsewhere", files, end, verify.RolledBack)
		back.Open, back.Checkpoint = true, final
		out = append(out, back)
		if n == 1 {
			out = append(out, undetected("cut-and-said-to-run", "set back to an earlier checkpoint, and said to be running", files,
				"a log that was cut at a checkpoint is the log as it was then", back.Name, true))
		}
	}
	// Forked: another history, signed by the same key, was shown elsewhere.
	fork := m.forger()
	for i := range fork.all {
		fork.all[i].Engine[0] ^= 1
	}
	forked, _ := checkpoints(fork.write(), m)
	for n := 0; n < len(forked); n += 3 {
		v := invalid(fmt.Sprintf("fork-seen-at-%03d", firsts[n]), "fork", "a checkpoint of another history by the same key was seen elsewhere", m.original.Files, firsts[n], verify.Forked)
		v.Checkpoint = forked[n]
		out = append(out, v)
	}
	// Rewritten as a whole.
	last := firsts[len(firsts)-1]
	for _, rewrite := range []struct {
		name, what, why string
		do              func(*forger) bool
	}{
		{"rewritten-times", "all wall times moved by a second", "wall times are the host's own; nothing else depends on them", func(f *forger) bool {
			for i := range f.all {
				f.all[i].Wall += int64(time.Second)
				switch f.all[i].Kind {
				case model.RecordInput:
					change(f, i, func(in *model.Input) { in.Wall += int64(time.Second) })
				case model.RecordOutage:
					change(f, i, func(o *model.Outage) { o.FromWall += int64(time.Second) })
				}
			}
			return true
		}},
		{"rewritten-outcome", "an outcome told otherwise", "an outcome is what the gate told the governor; nothing follows from it", func(f *forger) bool {
			at := f.find(input(model.InputOutcome))
			if len(at) > 0 {
				change(f, at[0], func(in *model.Input) { o := *in.Outcome; o.Done, o.Errno = false, 13; in.Outcome = &o })
			}
			return len(at) > 0
		}},
		{"rewritten-engine", "another engine said to have decided", "a log says itself which engine wrote it", func(f *forger) bool {
			for i := range f.all {
				f.all[i].Engine[0] ^= 1
			}
			return true
		}},
	} {
		f := m.forger()
		if !rewrite.do(f) {
			continue
		}
		files := f.write()
		seen := invalid(rewrite.name+"-seen", "fork", rewrite.what+", all signed anew; the true last checkpoint is known elsewhere", files, last, verify.Forked)
		seen.Checkpoint = final
		out = append(out, seen, undetected(rewrite.name, rewrite.what+", all signed anew", files, "whoever has all the keys can write a log that verifies: "+rewrite.why, seen.Name, false))
	}
	return out
}

// undetected is a mutation that leaves the log VALID.
func undetected(name, what string, files map[string][]byte, why, by string, open bool) mutation {
	return mutation{Vector{Name: name, Class: "undetected", What: what, Undetected: why, FoundBy: by, Open: open, Expect: Expect{Verdict: string(verify.Valid)}}, files}
}

// onScope widens the grant of a child beyond its parent's.
func (m *material) onScope() []mutation {
	var out []mutation
	for _, w := range []struct {
		name string
		edit func(*grant.Grant)
	}{
		{"any-command", func(g *grant.Grant) { g.Run = grant.Run{Any: true, Argv: []string{}, Dir: g.Run.Dir} }},
		{"any-directory", func(g *grant.Grant) { g.Run.Dir = "" }},
		{"more-actions", func(g *grant.Grant) { g.Actions = grant.Consequential() }},
		{"unlimited-actions", func(g *grant.Grant) { g.Budget.Actions = 0 }},
		{"more-time", func(g *grant.Grant) { g.Budget.Wall *= 2 }},
		{"later-end", func(g *grant.Grant) { g.Expires = g.Expires.Add(time.Hour) }},
		{"earlier-beginning", func(g *grant.Grant) { g.NotBefore = g.NotBefore.Add(-time.Hour) }},
		{"more-delegations", func(g *grant.Grant) { g.Delegations = 3 }},
		{"another-operator", func(g *grant.Grant) { g.Operator = "mallory" }},
		{"a-later-epoch", func(g *grant.Grant) { g.Epoch++ }},
		{"no-parent", func(g *grant.Grant) { g.Parent, g.ParentDigest = "", model.Digest{} }},
	} {
		f := m.forger()
		submit := f.find(input(model.InputSubmit))[0]
		index := f.find(kind(model.RecordArtifact))[0]
		var below grant.Grant
		a, err := model.Decode[model.Artifact](f.all[index].Body)
		if err != nil {
			m.t.Fatal(err)
		}
		if _, err := keys.Unseal(a.Content, m.ring.Trust(), grant.Predicate, &below, keys.Governor); err != nil {
			m.t.Fatal(err)
		}
		w.edit(&below)
		envelope, err := keys.Seal(m.ring.Key(keys.Governor), grant.Predicate, keys.Subject{Name: "writ:grant/" + below.ID, Digest: model.DigestOf([]byte(below.ID))}, below)
		if err != nil {
			m.t.Fatal(err)
		}
		was, is := a.Digest(), model.DigestOf(envelope)
		change(f, index, func(a *model.Artifact) { a.Content = envelope })
		change(f, submit, func(in *model.Input) { s := *in.Submission; s.Grant = is; in.Submission = &s })
		for i := range f.all {
			for j, d := range f.all[i].Deps {
				if d == was {
					f.all[i].Deps[j] = is
				}
			}
		}
		out = append(out, invalid("widen-"+w.name, "authority", "the child's grant signed anew with more than its parent's: "+w.name, f.write(), uint64(submit), verify.BadGrant))
	}
	for _, w := range []struct {
		name, what string
		edit       func(*model.Submission)
	}{
		{"exceed-budget", "the child runs with more time than its grant allows", func(s *model.Submission) { s.Settings.Budget.Wall = 0 }},
		{"exceed-actions", "the child may ask for actions that its grant withholds", func(s *model.Submission) { s.Withheld = nil }},
		{"exceed-parent", "the child runs on behalf of an execution whose submission is not in the log", func(s *model.Submission) {
			s.Parent, s.ParentRecord = "01ARZ3NDEKTSV4RRFFQ69G5FA0", model.DigestOf(nil)
		}},
	} {
		f := m.forger()
		submit := f.find(input(model.InputSubmit))[0]
		change(f, submit, func(in *model.Input) { s := *in.Submission; w.edit(&s); in.Submission = &s })
		out = append(out, invalid(w.name, "authority", w.what, f.write(), uint64(submit), verify.BadGrant))
	}
	return out
}
