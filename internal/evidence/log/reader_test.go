package log

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/writ-run/writ/internal/evidence/segment"
	"github.com/writ-run/writ/internal/model"
)

func TestReaderFromAnIndex(t *testing.T) {
	dir, opts := real(t)
	opts.SegmentSize = 2048
	l := mustOpen(t, dir, opts)
	for i := range uint64(30) {
		mustAppend(t, l, 3*i, 3)
	}
	mustClose(t, l)
	for from := range uint64(93) {
		r, err := OpenReader(dir, from)
		if err != nil {
			t.Fatal(err)
		}
		e, err := r.Next()
		if from < 90 && (err != nil || e.Index != from || !bytes.Equal(e.Leaf, model.Encode(testRecord(from)))) {
			t.Fatalf("from %d: %+v, %v", from, e, err)
		}
		if from >= 90 && err != io.EOF {
			t.Fatalf("from %d: %+v, %v", from, e, err)
		}
		if from < 90 {
			f, err := os.Open(filepath.Join(dir, e.Segment))
			if err != nil {
				t.Fatal(err)
			}
			frame := segment.AppendFrame(nil, segment.FrameRecord, e.Leaf)
			got := make([]byte, len(frame))
			if _, err := f.ReadAt(got, e.Offset); err != nil || !bytes.Equal(got, frame) {
				t.Fatalf("record %d is not at byte %d of %s", from, e.Offset, e.Segment)
			}
			f.Close()
		}
		r.Close()
	}
	if _, err := OpenReader(t.TempDir(), 0); !errors.Is(err, ErrNoLog) {
		t.Fatalf("empty directory: %v", err)
	}
	if _, err := OpenReader(filepath.Join(dir, "nowhere"), 0); !errors.Is(err, ErrNoLog) {
		t.Fatalf("no directory: %v", err)
	}
}

// TestReaderFollows reads a log while it is written, across segments, and never
// sees a record twice, out of order, torn, or before its flush is whole.
func TestReaderFollows(t *testing.T) {
	dir, opts := real(t)
	opts.SegmentSize = 1 << 14
	l := mustOpen(t, dir, opts)
	early, err := OpenReader(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	late, err := OpenReader(dir, 2500)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	const n = 5000
	done := make(chan struct{})
	go func() {
		defer close(done)
		for next := uint64(0); next < n; next += 5 {
			if _, err := l.Append(t.Context(), testBatch(next, 5)).Wait(t.Context()); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for want, ended := uint64(0), false; want < n; {
		select {
		case <-done:
			ended = true
		default:
		}
		e, err := early.Next()
		if err == io.EOF && !ended {
			continue
		}
		if err != nil || e.Index != want || e.Record.Seq != want {
			t.Fatalf("want %d: %+v, %v", want, e, err)
		}
		want++
	}
	<-done
	for want := uint64(2500); want < n; want++ {
		if e, err := late.Next(); err != nil || e.Index != want {
			t.Fatalf("want %d: %+v, %v", want, e, err)
		}
	}
	mustClose(t, l)
	if _, err := late.Next(); err != io.EOF {
		t.Fatalf("at the end: %v", err)
	}
	// A log that is opened again goes on for its readers.
	l = mustOpen(t, dir, opts)
	mustAppend(t, l, n, 1)
	if e, err := late.Next(); err != nil || e.Index != n {
		t.Fatalf("after reopening: %+v, %v", e, err)
	}
	mustClose(t, l)
}

func TestReaderSaysWhatIsDamaged(t *testing.T) {
	dir, opts := real(t)
	l := mustOpen(t, dir, opts)
	mustAppend(t, l, 0, 3)
	mustAppend(t, l, 3, 3)
	mustClose(t, l)
	path := filepath.Join(dir, segment.Name(0))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 3 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	var damage *segment.DamageError
	if _, err := r.Next(); !errors.As(err, &damage) {
		t.Fatalf("damaged flush: %v", err)
	}
}
