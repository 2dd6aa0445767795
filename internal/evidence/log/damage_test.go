package log

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
	"github.com/writ-run/writ/internal/evidence/segment"
	"github.com/writ-run/writ/internal/model"
)

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func TestRollbackByRestoredSnapshotIsRefused(t *testing.T) {
	dir, opts := real(t)
	l := mustOpen(t, dir, opts)
	mustAppend(t, l, 0, 2)
	mustClose(t, l)
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	copyDir(t, dir, snapshot)
	l = mustOpen(t, dir, opts)
	mustAppend(t, l, 2, 1)
	mustClose(t, l)
	copyDir(t, snapshot, dir)
	if _, err := Open(dir, opts); !errors.Is(err, ErrBehind) {
		t.Fatalf("restored snapshot: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, opts); !errors.Is(err, ErrBehind) {
		t.Fatalf("removed log: %v", err)
	}
}

func TestForkIsRefused(t *testing.T) {
	dir, opts := real(t)
	for name, n := range map[string][2]int{"same size": {3, 3}, "longer": {2, 5}, "between checkpoints": {2, 3}} {
		os.RemoveAll(dir)
		os.RemoveAll(filepath.Dir(opts.SecondPlace))
		l := mustOpen(t, dir, opts)
		mustAppend(t, l, 0, n[0])
		mustClose(t, l)
		// The same signer makes another log of the same name.
		forked, other := real(t)
		l = mustOpen(t, forked, other)
		batch := testBatch(0, n[1])
		batch[0].Wall = 12345
		if _, err := l.Append(t.Context(), batch).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
		copyDir(t, forked, dir)
		if _, err := Open(dir, opts); !errors.Is(err, ErrFork) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLostSecondPlaceIsRefused(t *testing.T) {
	dir, opts := real(t)
	l := mustOpen(t, dir, opts)
	mustAppend(t, l, 0, 2)
	mustClose(t, l)
	good, err := os.ReadFile(opts.SecondPlace)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(c checkpoint.Checkpoint) []byte {
		b, err := checkpoint.Sign(c, opts.Signer)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, content := range map[string][]byte{
		"empty": {}, "cut": good[:40], "flipped": append([]byte("x"), good[1:]...),
		"other log": signed(checkpoint.Checkpoint{Origin: "example.test/log/other", Size: 2}),
	} {
		if err := os.WriteFile(opts.SecondPlace, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, opts); !errors.Is(err, ErrNoSecondPlace) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Remove(opts.SecondPlace); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, opts); !errors.Is(err, ErrNoSecondPlace) {
		t.Errorf("removed: %v", err)
	}
	if err := os.WriteFile(opts.SecondPlace, good, 0o600); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, dir, opts))
}

// TestDamageBeforeTheEndIsRefused flips bytes of acknowledged records: unlike a
// torn end, they must not be cut off in silence.
func TestDamageBeforeTheEndIsRefused(t *testing.T) {
	dir, opts := real(t)
	opts.SegmentSize, opts.SecondPlace = 2048, ""
	l := mustOpen(t, dir, opts)
	for i := range uint64(20) {
		mustAppend(t, l, 3*i, 3)
	}
	mustClose(t, l)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 3 {
		t.Fatalf("%d segments, %v", len(entries), err)
	}
	for i, e := range entries {
		path := filepath.Join(dir, e.Name())
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := append([]byte(nil), good...)
		bad[200] ^= 1 // in the first flush
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, opts); !errors.Is(err, ErrCorrupt) {
			t.Errorf("segment %d: %v", i, err)
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "stranger"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, opts); !errors.Is(err, ErrCorrupt) {
		t.Errorf("stranger: %v", err)
	}
	os.Remove(filepath.Join(dir, "stranger"))
	if err := os.WriteFile(filepath.Join(dir, segment.Name(60)+tmpSuffix), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, dir, opts))
	os.Remove(filepath.Join(dir, entries[1].Name()))
	if _, err := Open(dir, opts); !errors.Is(err, ErrCorrupt) {
		t.Errorf("missing segment: %v", err)
	}
}

// TestTornEndAtEveryByte cuts the last flush at each of its bytes, with zeros
// or nothing behind, and finds the flush before it.
func TestTornEndAtEveryByte(t *testing.T) {
	opts := testOptions(t)
	opts.SecondPlace, opts.SegmentSize = "", 4096
	machine := newDisk(1, 1)
	dir := machine.dir("log")
	reopen := func() *Log {
		t.Helper()
		l, err := open(dir, nil, opts)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := reopen()
	mustAppend(t, l, 0, 2)
	start := l.w.at
	mustAppend(t, l, 2, 2)
	end := l.w.at
	mustClose(t, l)
	whole := bytes.Clone(dir.cached[segment.Name(0)].cached)
	for at := start; at < end; at++ {
		for _, zeros := range []int{0, 1, 500} {
			torn := append(bytes.Clone(whole[:at]), make([]byte, zeros)...)
			dir.cached[segment.Name(0)] = &inode{dir: "log", cached: torn, durable: bytes.Clone(torn)}
			l := reopen()
			if r := l.Recovery(); r.Size != 2 || at > start && r.CutBytes == 0 {
				t.Fatalf("torn at byte %d of %d to %d: %+v", at, start, end, r)
			}
			mustAppend(t, l, 2, 1)
			mustClose(t, l)
			if left := (&crashed{t: t, disk: machine}).read(); len(left) != 3 {
				t.Fatalf("torn at byte %d: %d records are left, want 3", at, len(left))
			}
		}
	}
}

// TestForgedEndIsCut appends what only looks like a flush: signed by another
// key. It is no part of the log.
func TestForgedEndIsCut(t *testing.T) {
	dir, opts := real(t)
	l := mustOpen(t, dir, opts)
	mustAppend(t, l, 0, 2)
	mustClose(t, l)
	path := filepath.Join(dir, segment.Name(0))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var tree checkpoint.Tree
	for i := range uint64(3) {
		leaf := model.Encode(testRecord(i))
		hash, _ := checkpoint.LeafHash(leaf, nil)
		tree.Append(hash)
		if i == 2 {
			b = segment.AppendFrame(b, segment.FrameRecord, leaf)
		}
	}
	forged, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: opts.origin(), Size: 3, Root: tree.Root(), Previous: checkpoint.LinkTo(2, l.Checkpoint())}, opts.Signer)
	if err != nil {
		t.Fatal(err)
	}
	at := strings.LastIndex(string(forged), " ") + 40
	forged[at] ^= 1
	b = segment.AppendFrame(b, segment.FrameCheckpoint, forged)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, dir, opts)
	if r := l.Recovery(); r.Size != 2 || r.CutRecords != 1 {
		t.Fatalf("recovery: %+v", r)
	}
	mustClose(t, l)
}
