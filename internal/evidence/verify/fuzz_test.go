package verify_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/writ-run/writ/internal/evidence/canon"
	"github.com/writ-run/writ/internal/evidence/segment"
	"github.com/writ-run/writ/internal/evidence/testlog"
	"github.com/writ-run/writ/internal/evidence/verify"
	"github.com/writ-run/writ/internal/model"
)

// FuzzLog gives the verifier any bytes as a segment: only the original, and
// what has nothing but zeros behind it, may be valid.
func FuzzLog(f *testing.F) {
	keys := testlog.NewKeys(1)
	original := join(dissect(f, small(f, keys), keys, 0))[0]
	f.Add(original)
	f.Add(original[:len(original)/2])
	f.Add(append(bytes.Clone(original), 0, 0))
	path := filepath.Join(f.TempDir(), "segment")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r := verify.Log(path, options(keys))
		if r.Verdict == verify.Valid && !bytes.Equal(bytes.TrimRight(b, "\x00"), bytes.TrimRight(original, "\x00")) {
			t.Fatal(show(t, r))
		}
	})
}

// TestAnySignedRecords changes bytes of records so that they stay canonical,
// and signs the log again with the right key: whatever a governor that holds
// all the keys writes, the verifier answers.
func TestAnySignedRecords(t *testing.T) {
	keys := testlog.NewKeys(1)
	segments := dissect(t, testlog.Whole(t, keys), keys, 0)
	var frames []int
	for j, p := range segments[0] {
		if p.kind == "record" {
			frames = append(frames, j)
		}
	}
	m := newMutants(t, keys)
	rng := rand.New(rand.NewPCG(1, 2))
	form := canon.Of[model.Record]()
	verdicts := map[verify.Verdict]int{}
	for tries := 0; tries < 1500; {
		j := frames[rng.IntN(len(frames))]
		p := segments[0][j]
		b := bytes.Clone(p.payload())
		for range 1 + rng.IntN(3) {
			b[rng.IntN(len(b))] = byte(rng.IntN(256))
		}
		if form.Check(b) != nil {
			continue
		}
		tries++
		p.bytes = segment.AppendFrame(nil, segment.FrameRecord, b)
		m.clear()
		m.write(join(resign(t, edit(segments, 0, j, p), keys.Log, 0)))
		for _, load := range []bool{true, false} {
			opts := m.opts
			if !load {
				opts.Load = nil
			}
			r := verify.Log(m.dir, opts)
			if r.Verdict == verify.Invalid && (*r.Index < p.index && r.Reason != verify.BadSignature || *r.Index > segments[0][len(segments[0])-1].index) {
				t.Fatalf("record %d changed: %s", p.index, show(t, r))
			}
			verdicts[r.Verdict]++
		}
	}
	t.Log(verdicts)
	if verdicts[verify.Invalid] < 2000 {
		t.Error("too few are refused")
	}
}

// TestPipeInALog must not keep the verifier waiting for a writer.
func TestPipeInALog(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, segment.Name(0)), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := verify.Log(dir, options(testlog.NewKeys(1))); r.Verdict != verify.Invalid || r.Reason != verify.BadSegment {
		t.Fatal(show(t, r))
	}
}
