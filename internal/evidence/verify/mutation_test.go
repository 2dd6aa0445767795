package verify_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
	"github.com/writ-run/writ/internal/evidence/segment"
	"github.com/writ-run/writ/internal/evidence/testlog"
	"github.com/writ-run/writ/internal/evidence/verify"
	"github.com/writ-run/writ/internal/model"
)

// part is a header or frame of a log, and what of the log it is. The mutation
// tests reckon the first bad index from it, and not with the verifier's code.
type part struct {
	bytes  []byte
	kind   string // "header", "record", "checkpoint"
	index  uint64 // of the record; of a checkpoint, its size
	first  uint64 // of the flush: the first record that its checkpoint adds
	header segment.Header
}

// small is a whole life in few flushes.
func small(t testing.TB, keys testlog.Keys) *testlog.Life {
	l := testlog.New(t, keys)
	l.Start()
	l.Ask("/bin/ls")
	l.Ask(testlog.Forbidden)
	l.Renew()
	l.Exit()
	var merged [][]model.Record
	for i, b := range l.Batches {
		if i%4 != 0 && len(merged) > 0 {
			merged[len(merged)-1] = append(merged[len(merged)-1], b...)
		} else {
			merged = append(merged, b)
		}
	}
	l.Batches = merged
	return l
}

// dissect writes a life and takes the segments apart.
func dissect(t testing.TB, l *testlog.Life, keys testlog.Keys, segmentSize int64) (segments [][]part) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	opts := keys.LogOptions("")
	opts.SegmentSize = segmentSize
	l.Write(dir, opts)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	index, first := uint64(0), uint64(0)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		scan, err := segment.NewScanner(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		parts := []part{{bytes: b[:scan.Offset()], kind: "header", index: index, first: index, header: scan.Header}}
		for at := scan.Offset(); at < int64(len(b)); at = scan.Offset() {
			f, err := scan.Next()
			if err != nil {
				t.Fatal(err)
			}
			p := part{bytes: b[f.Offset:f.End], kind: "record", index: index, first: first}
			if f.Kind == segment.FrameCheckpoint {
				p.kind = "checkpoint"
				first = index
			} else {
				index++
			}
			parts = append(parts, p)
		}
		segments = append(segments, parts)
	}
	return segments
}

func (p part) payload() []byte { return p.bytes[segment.FrameOverhead:] }

// mutants writes mutated logs into one directory and verifies them.
type mutants struct {
	t    *testing.T
	dir  string
	opts verify.Options
	n    int
}

func newMutants(t *testing.T, keys testlog.Keys) *mutants {
	return &mutants{t: t, dir: t.TempDir(), opts: options(keys)}
}

// write puts the segments under the names that their headers, if whole, say.
func (m *mutants) write(segments [][]byte) {
	m.t.Helper()
	old, err := os.ReadDir(m.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range old[min(len(segments), len(old)):] {
		os.Remove(filepath.Join(m.dir, e.Name()))
	}
	for i, s := range segments {
		name := segment.Name(uint64(i) * 1000)
		if h, err := segment.ParseHeader(s); err == nil {
			name = segment.Name(h.First)
		}
		if err := os.WriteFile(filepath.Join(m.dir, name), s, 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *mutants) clear() {
	m.t.Helper()
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(m.dir, e.Name())); err != nil {
			m.t.Fatal(err)
		}
	}
}

// invalid verifies what was written and wants it refused at the index.
func (m *mutants) invalid(name string, index uint64, codes ...string) {
	m.t.Helper()
	m.n++
	r := verify.Log(m.dir, m.opts)
	if r.Verdict != verify.Invalid || *r.Index != index || len(codes) > 0 && !slices.Contains(codes, r.Reason) {
		m.t.Fatalf("%s: want INVALID at %d as %v, got %s", name, index, codes, show(m.t, r))
	}
}

func join(segments [][]part) [][]byte {
	var out [][]byte
	for _, s := range segments {
		var b []byte
		for _, p := range s {
			b = append(b, p.bytes...)
		}
		out = append(out, b)
	}
	return out
}

func (m *mutants) try(name string, segments [][]part, index uint64, codes ...string) {
	m.t.Helper()
	m.clear()
	m.write(join(segments))
	m.invalid(name, index, codes...)
}

// at is where a damage of the part shows: a checkpoint's and a header's at the
// first record that is not vouched for, a record's at itself.
func (p part) at() uint64 {
	if p.kind == "checkpoint" {
		return p.first
	}
	return p.index
}

func TestOriginalOfTheMutantsIsValid(t *testing.T) {
	keys := testlog.NewKeys(1)
	for _, size := range []int64{0, 3000} {
		m := newMutants(t, keys)
		m.write(join(dissect(t, small(t, keys), keys, size)))
		if r := verify.Log(m.dir, m.opts); r.Verdict != verify.Valid || !r.Replayed {
			t.Fatal(show(t, r))
		}
	}
}

// TestEveryByteFlipped changes each byte of a log, each alone, in every bit on
// the way through.
func TestEveryByteFlipped(t *testing.T) {
	keys := testlog.NewKeys(1)
	segments := dissect(t, small(t, keys), keys, 6000)
	if len(segments) < 2 {
		t.Fatalf("%d segments", len(segments))
	}
	whole := join(segments)
	m := newMutants(t, keys)
	m.write(whole)
	for i, s := range segments {
		path := filepath.Join(m.dir, segment.Name(s[0].index))
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		at := int64(0)
		for _, p := range s {
			flips := []byte{0}
			for o := range p.bytes {
				flips[0] = 1 << ((o + i) % 8)
				if o < segment.FrameOverhead && p.index%7 == 0 {
					flips = []byte{1, 2, 4, 8, 16, 32, 64, 128, 0xff}
				} else {
					flips = flips[:1]
				}
				for _, flip := range flips {
					if _, err := f.WriteAt([]byte{p.bytes[o] ^ flip}, at); err != nil {
						t.Fatal(err)
					}
					m.invalid(fmt.Sprintf("segment %d byte %d xor %#x, in the %s of %d", i, at, flip, p.kind, p.index), p.at())
				}
				if _, err := f.WriteAt(p.bytes[o:o+1], at); err != nil {
					t.Fatal(err)
				}
				at++
			}
		}
		f.Close()
	}
	t.Logf("%d mutants", m.n)
}

// TestEveryTruncation cuts the log at each byte, and at each segment.
func TestEveryTruncation(t *testing.T) {
	keys := testlog.NewKeys(1)
	segments := dissect(t, small(t, keys), keys, 6000)
	whole := join(segments)
	m := newMutants(t, keys)
	for i := len(segments) - 1; i >= 0; i-- {
		m.clear()
		m.write(whole[:i+1])
		path := filepath.Join(m.dir, segment.Name(segments[i][0].index))
		end := int64(len(whole[i]))
		for j := len(segments[i]) - 1; j >= 0; j-- {
			p := segments[i][j]
			for cut := len(p.bytes) - 1; cut >= 0; cut-- {
				end--
				if err := os.Truncate(path, end); err != nil {
					t.Fatal(err)
				}
				want := p.at()
				switch {
				case cut == 0 && p.kind == "record", cut < segment.FrameOverhead && p.kind != "header":
					want = p.first
				case p.kind == "header":
					want = p.index
				}
				m.invalid(fmt.Sprintf("segment %d cut at byte %d, in the %s of %d", i, end, p.kind, p.index), want)
			}
		}
	}
	for i := range segments {
		rest := slices.Delete(slices.Clone(segments), i, i+1)
		m.try(fmt.Sprintf("without segment %d", i), rest, segments[i][0].index)
	}
	t.Logf("%d mutants", m.n)
}

// edit returns the segments with part j of segment i replaced.
func edit(segments [][]part, i, j int, with ...part) [][]part {
	out := slices.Clone(segments)
	out[i] = slices.Concat(segments[i][:j], with, segments[i][j+1:])
	return out
}

// TestFramesDroppedDuplicatedReordered moves whole frames, whose checksums
// stay right.
func TestFramesDroppedDuplicatedReordered(t *testing.T) {
	keys := testlog.NewKeys(1)
	segments := dissect(t, small(t, keys), keys, 6000)
	m := newMutants(t, keys)
	for i, s := range segments {
		for j := 1; j < len(s); j++ {
			p := s[j]
			name := fmt.Sprintf("the %s of %d", p.kind, p.index)
			last := i == len(segments)-1 && j == len(s)-1
			switch {
			case p.kind == "record":
				m.try("without "+name, edit(segments, i, j), p.index, verify.OutOfSequence, verify.BadCheckpoint)
				m.try(name+" twice", edit(segments, i, j, p, p), p.index+1, verify.OutOfSequence)
			case last:
				m.try("without "+name, edit(segments, i, j), p.first, verify.UnsignedTail)
				m.try(name+" twice", edit(segments, i, j, p, p), p.index, verify.BadCheckpoint)
			case j == len(s)-1:
				m.try("without "+name, edit(segments, i, j), p.first, verify.UnsignedTail)
				m.try(name+" twice", edit(segments, i, j, p, p), p.index, verify.BadCheckpoint)
			default:
				m.try("without "+name, edit(segments, i, j), p.index, verify.MissingCheckpoint)
				m.try(name+" twice", edit(segments, i, j, p, p), p.index, verify.BadCheckpoint)
			}
			if j+1 < len(s) {
				q := s[j+1]
				swapped := edit(edit(segments, i, j, q), i, j+1, p)
				want := p.index
				m.try("swapped "+name+" and the next frame", swapped, want)
			}
		}
	}
	t.Logf("%d mutants", m.n)
}

// TestRecordsChanged changes every record in one place, keeping it canonical,
// with the checksum made right; with the checkpoints as they are, and with all
// made anew with another key.
func TestRecordsChanged(t *testing.T) {
	keys, others := testlog.NewKeys(1), testlog.NewKeys(2)
	segments := dissect(t, small(t, keys), keys, 0)
	m := newMutants(t, keys)
	for j, p := range segments[0] {
		if p.kind != "record" {
			continue
		}
		rec, err := model.Decode[model.Record](p.payload())
		if err != nil {
			t.Fatal(err)
		}
		rec.Wall++
		changed := p
		changed.bytes = segment.AppendFrame(nil, segment.FrameRecord, model.Encode(rec))
		mutant := edit(segments, 0, j, changed)
		m.try(fmt.Sprintf("record %d changed", p.index), mutant, p.first, verify.BadCheckpoint)
		m.try(fmt.Sprintf("record %d changed, signed by another key", p.index), resign(t, mutant, others.Log, p.first), p.first, verify.BadSignature)
		rec.Seq++
		changed.bytes = segment.AppendFrame(nil, segment.FrameRecord, model.Encode(rec))
		m.try(fmt.Sprintf("record %d renumbered", p.index), edit(segments, 0, j, changed), p.index, verify.OutOfSequence)
		loose := append(bytes.Clone(p.payload()), 0)
		changed.bytes = segment.AppendFrame(nil, segment.FrameRecord, loose)
		m.try(fmt.Sprintf("record %d not canonical", p.index), edit(segments, 0, j, changed), p.index, verify.NotCanonical)
	}
	for j, p := range segments[0] {
		if p.kind != "checkpoint" {
			continue
		}
		broken := p
		signed := bytes.Clone(p.payload())
		at := bytes.LastIndexByte(signed, ' ') + 30
		signed[at] = map[bool]byte{true: 'B', false: 'A'}[signed[at] == 'A']
		broken.bytes = segment.AppendFrame(nil, segment.FrameCheckpoint, signed)
		m.try(fmt.Sprintf("the signature at %d changed", p.index), edit(segments, 0, j, broken), p.first, verify.BadSignature)
		broken.bytes = segment.AppendFrame(nil, segment.FrameCheckpoint, signed[:len(signed)-1])
		m.try(fmt.Sprintf("the checkpoint at %d malformed", p.index), edit(segments, 0, j, broken), p.first, verify.BadCheckpoint)
	}
	m.try("all checkpoints by another key", resign(t, segments, others.Log, 0), 0, verify.BadSignature)
	t.Logf("%d mutants", m.n)
}

// resign makes the checkpoints of all flushes from the record first on anew,
// over the records as they stand, with a key.
func resign(t *testing.T, segments [][]part, by testlog.Key, first uint64) [][]part {
	t.Helper()
	out := slices.Clone(segments)
	var tree checkpoint.Tree
	var last []byte
	for i := range out {
		out[i] = slices.Clone(out[i])
		origin := ""
		for j, p := range out[i] {
			switch p.kind {
			case "header":
				origin = p.header.Origin
				h := p.header
				h.PreviousRoot = tree.Root()
				out[i][j].bytes = h.Append(nil)
			case "record":
				leaf, _ := checkpoint.LeafHash(p.payload(), nil)
				tree.Append(leaf)
			case "checkpoint":
				if p.first < first {
					last = p.payload()
					continue
				}
				c := checkpoint.Checkpoint{Origin: origin, Size: p.index, Root: tree.Root()}
				if last != nil {
					c.Previous = checkpoint.LinkTo(p.first, last)
				}
				signed, err := checkpoint.Sign(c, by.Signer)
				if err != nil {
					t.Fatal(err)
				}
				last = signed
				out[i][j].bytes = segment.AppendFrame(nil, segment.FrameCheckpoint, signed)
			}
		}
	}
	return out
}

// TestSegmentsMoved drops, swaps and splices whole segments.
func TestSegmentsMoved(t *testing.T) {
	keys := testlog.NewKeys(1)
	segments := dissect(t, small(t, keys), keys, 3000)
	m := newMutants(t, keys)
	if len(segments) < 3 {
		t.Fatalf("%d segments", len(segments))
	}
	// Two segments under each other's name.
	swapped := join(segments)
	m.clear()
	m.write(swapped)
	a, b := filepath.Join(m.dir, segment.Name(segments[1][0].index)), filepath.Join(m.dir, segment.Name(segments[2][0].index))
	for _, err := range []error{os.Rename(a, a+"x"), os.Rename(b, a), os.Rename(a+"x", b)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	m.invalid("two segments swapped", segments[1][0].index, verify.BadSegment)
	// The same segment once more, behind the end.
	m.clear()
	m.write(join(segments))
	if err := os.WriteFile(filepath.Join(m.dir, segment.Name(100000)), swapped[1], 0o600); err != nil {
		t.Fatal(err)
	}
	last := segments[len(segments)-1]
	m.invalid("a segment behind the end", last[len(last)-1].index, verify.MissingSegment)
	// A segment of another log by the same keys.
	other := small(t, keys)
	other.Batches[0][0].Wall--
	foreign := dissect(t, other, keys, 3000)
	for i := 1; i < len(segments); i++ {
		mutant := slices.Clone(segments)
		mutant[i] = foreign[i]
		m.try(fmt.Sprintf("segment %d of another log", i), mutant, segments[i][0].index, verify.BadSegment)
	}
	// Headers made anew.
	for name, change := range map[string]func(*segment.Header){
		"origin": func(h *segment.Header) { h.Origin += "x" },
		"root":   func(h *segment.Header) { h.PreviousRoot[0] ^= 1 },
		"first":  func(h *segment.Header) { h.First++ },
	} {
		for i, s := range segments {
			p := s[0]
			change(&p.header)
			p.bytes = p.header.Append(nil)
			m.clear()
			m.write(join(edit(segments, i, 0, p)))
			m.invalid(fmt.Sprintf("another %s in the header of segment %d", name, i), s[0].index)
		}
	}
}

// TestTail puts something behind the end.
func TestTail(t *testing.T) {
	keys := testlog.NewKeys(1)
	segments := dissect(t, small(t, keys), keys, 0)
	whole := join(segments)[0]
	end := segments[0][len(segments[0])-1].index
	m := newMutants(t, keys)
	zeros := append(bytes.Clone(whole), make([]byte, 50)...)
	m.write([][]byte{zeros})
	if r := verify.Log(m.dir, m.opts); r.Verdict != verify.Valid || len(r.Notes) == 0 {
		t.Fatalf("not closed: %s", show(t, r))
	}
	for i := range 50 {
		mutant := bytes.Clone(zeros)
		mutant[len(whole)+i] = 1
		m.write([][]byte{mutant})
		m.invalid(fmt.Sprintf("a byte %d behind the end", i), end, verify.TrailingBytes, verify.DamagedFrame)
	}
	m.write([][]byte{append(bytes.Clone(whole), 7)})
	m.invalid("a byte appended", end, verify.DamagedFrame)
}
