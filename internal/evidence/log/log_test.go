package log

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
	"github.com/writ-run/writ/internal/evidence/segment"
	"github.com/writ-run/writ/internal/model"
)

// real returns the place of a log on the real file system.
func real(t testing.TB) (dir string, opts Options) {
	t.Helper()
	top := t.TempDir()
	opts = testOptions(t)
	opts.SecondPlace = filepath.Join(top, "elsewhere", "checkpoint")
	return filepath.Join(top, "a", "log"), opts
}

func mustOpen(t testing.TB, dir string, opts Options) *Log {
	t.Helper()
	l, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustAppend(t testing.TB, l *Log, first uint64, n int) Receipt {
	t.Helper()
	r, err := l.Append(t.Context(), testBatch(first, n)).Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// wantRecords reads the whole log and checks that it has n records.
func wantRecords(t testing.TB, dir string, n uint64) {
	t.Helper()
	r, err := OpenReader(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range n {
		e, err := r.Next()
		if err != nil || e.Index != i || string(e.Leaf) != string(model.Encode(testRecord(i))) || e.Record.Seq != i {
			t.Fatalf("entry %d: %+v, %v", i, e, err)
		}
	}
	if e, err := r.Next(); err != io.EOF {
		t.Fatalf("after %d records: %+v, %v", n, e, err)
	}
}

func TestAppendCloseReopen(t *testing.T) {
	dir, opts := real(t)
	l := mustOpen(t, dir, opts)
	r := mustAppend(t, l, 0, 3)
	c, err := checkpoint.Open(r.Checkpoint, opts.Verifier)
	if err != nil || r.First != 0 || r.Size != 3 || c.Size != 3 || c.Origin != "example.test/log/"+string(testExecution) {
		t.Fatalf("receipt %+v, checkpoint %+v, %v", r, c, err)
	}
	if l.Size() != 3 || string(l.Checkpoint()) != string(r.Checkpoint) || l.Err() != nil || !l.Recovery().Clean {
		t.Fatalf("size %d, recovery %+v, err %v", l.Size(), l.Recovery(), l.Err())
	}
	info, err := os.Stat(filepath.Join(dir, segment.Name(0)))
	if err != nil || info.Size() != defaultSegment {
		t.Fatalf("an open segment is not preallocated: %v, %v", info, err)
	}
	mustClose(t, l)
	if f := l.Append(t.Context(), testBatch(3, 1)); !errors.Is(f.err, ErrClosed) {
		t.Fatalf("append after close: %v", f.err)
	}
	if err := l.Close(); !errors.Is(err, ErrClosed) {
		t.Fatalf("second close: %v", err)
	}
	if info, _ := os.Stat(filepath.Join(dir, segment.Name(0))); info.Size() > 4096 {
		t.Fatalf("a closed segment has %d bytes", info.Size())
	}
	if b, err := os.ReadFile(opts.SecondPlace); err != nil || string(b) != string(r.Checkpoint) {
		t.Fatalf("second place: %q, %v", b, err)
	}
	for _, path := range []string{dir, filepath.Dir(opts.SecondPlace)} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
			t.Fatalf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	l = mustOpen(t, dir, opts)
	if got := l.Recovery(); !got.Clean || got.Size != 3 || got.CutBytes != 0 || string(got.Checkpoint) != string(r.Checkpoint) {
		t.Fatalf("recovery %+v", got)
	}
	mustAppend(t, l, 3, 2)
	mustClose(t, l)
	wantRecords(t, dir, 5)
}

func TestBatchesThatDoNotFollowAreRefused(t *testing.T) {
	dir, opts := real(t)
	l := mustOpen(t, dir, opts)
	defer mustClose(t, l)
	mustAppend(t, l, 0, 2)
	other := testBatch(2, 1)
	other[0].Execution = "01ARZ3NDEKTSV4RRFFQ69G5FAW"
	mixed := testBatch(2, 2)
	mixed[1].Execution = other[0].Execution
	gap := testBatch(2, 2)
	gap[1].Seq = 4
	for name, batch := range map[string][]model.Record{
		"gap": testBatch(3, 1), "again": testBatch(1, 1), "empty": nil, "other execution": other, "mixed": mixed, "gap inside": gap,
	} {
		if _, err := l.Append(t.Context(), batch).Wait(t.Context()); !errors.Is(err, ErrOrder) {
			t.Errorf("%s: %v", name, err)
		}
	}
	large := testBatch(2, 1)
	large[0].Body = make([]byte, model.MaxEncoded)
	if _, err := l.Append(t.Context(), large).Wait(t.Context()); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large record: %v", err)
	}
	large = testBatch(2, 5)
	for i := range large {
		large[i].Body = make([]byte, model.MaxEncoded-1000)
	}
	if _, err := l.Append(t.Context(), large).Wait(t.Context()); !errors.Is(err, ErrTooLarge) {
		t.Errorf("large batch: %v", err)
	}
	mustAppend(t, l, 2, 1)
	wantRecords(t, dir, 3)
}

func TestBatchLargerThanASegment(t *testing.T) {
	dir, opts := real(t)
	opts.SegmentSize = 4096
	l := mustOpen(t, dir, opts)
	mustAppend(t, l, 0, 200)
	mustAppend(t, l, 200, 1)
	mustAppend(t, l, 201, 200)
	mustAppend(t, l, 401, 1)
	mustClose(t, l)
	wantRecords(t, dir, 402)
	l = mustOpen(t, dir, opts)
	mustAppend(t, l, 402, 1)
	mustClose(t, l)
	wantRecords(t, dir, 403)
}

// TestConcurrentCallers has many callers, each numbering under one lock as a
// governor does, and checks that every batch is contiguous where its receipt
// says, across many segments.
func TestConcurrentCallers(t *testing.T) {
	dir, opts := real(t)
	opts.SegmentSize, opts.Queue = 1<<15, 4
	l := mustOpen(t, dir, opts)
	var (
		mu   sync.Mutex
		next uint64
		all  sync.WaitGroup
	)
	for caller := range 32 {
		all.Go(func() {
			for i := range 50 {
				n := 1 + (caller+i)%5
				mu.Lock()
				first := next
				next += uint64(n)
				f := l.Append(t.Context(), testBatch(first, n))
				mu.Unlock()
				r, err := f.Wait(t.Context())
				if err != nil || r.First != first || r.Size < first+uint64(n) || l.Size() < first+uint64(n) {
					t.Errorf("batch at %d: %+v, %v", first, r, err)
				}
			}
		})
	}
	all.Wait()
	mustClose(t, l)
	wantRecords(t, dir, next)
	if size, err := l.SecondPlace(); size != next || err != nil {
		t.Fatalf("second place: %d, %v", size, err)
	}
}

func TestSecondOpenerIsRefused(t *testing.T) {
	dir, opts := real(t)
	l := mustOpen(t, dir, opts)
	if _, err := Open(dir, opts); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("second opener: %v", err)
	}
	mustAppend(t, l, 0, 1)
	mustClose(t, l)
	mustClose(t, mustOpen(t, dir, opts))
}

func TestOptionsAreChecked(t *testing.T) {
	dir, good := real(t)
	for name, change := range map[string]func(*Options){
		"no signer":     func(o *Options) { o.Signer = nil },
		"no verifier":   func(o *Options) { o.Verifier = nil },
		"no execution":  func(o *Options) { o.Execution = "" },
		"negative size": func(o *Options) { o.SegmentSize = -1 },
		"second place a directory": func(o *Options) {
			o.SecondPlace = filepath.Join(t.TempDir(), "file", "checkpoint")
			os.WriteFile(filepath.Dir(o.SecondPlace), nil, 0o600)
		},
	} {
		opts := good
		change(&opts)
		if l, err := Open(dir, opts); err == nil {
			mustClose(t, l)
			t.Errorf("%s: opened", name)
		}
	}
	// A failed Open holds no lock.
	mustClose(t, mustOpen(t, dir, good))
}

func TestFullDiskIsSeenAtOnceAndLosesNothing(t *testing.T) {
	opts := testOptions(t)
	d := newDisk(1, 1)
	d.room = 6000
	opts.SegmentSize = 8192
	if _, err := open(d.dir("log"), d.dir("second"), opts); !errors.Is(err, errFull) {
		t.Fatalf("opening with too little room: %v", err)
	}
	d = newDisk(1, 1)
	d.room, opts.SegmentSize = 6000, 2048
	l, err := open(d.dir("log"), d.dir("second"), opts)
	if err != nil {
		t.Fatal(err)
	}
	var acked uint64
	for err == nil {
		_, err = l.Append(t.Context(), testBatch(acked, 2)).Wait(t.Context())
		if err == nil {
			acked += 2
		}
	}
	if !errors.Is(err, ErrFatal) || !errors.Is(err, errFull) || acked == 0 {
		t.Fatalf("after %d records: %v", acked, err)
	}
	if _, again := l.Append(t.Context(), testBatch(acked, 1)).Wait(t.Context()); !errors.Is(again, ErrFatal) || l.Err() == nil {
		t.Fatalf("append after a fatal error: %v, %v", again, l.Err())
	}
	if err := l.Close(); !errors.Is(err, ErrFatal) {
		t.Fatalf("close after a fatal error: %v", err)
	}
	d.room = 1 << 20
	l, err = open(d.dir("log"), d.dir("second"), opts)
	if err != nil || l.Size() != acked {
		t.Fatalf("with room again: %v", err)
	}
	mustAppend(t, l, acked, 1)
	mustClose(t, l)
}

// TestFullQueueBlocks holds the disk still: the queue fills, the next append
// waits, gives up with its context and is not queued, and nothing is lost.
func TestFullQueueBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := testOptions(t)
		opts.Queue = 2
		d := newDisk(1, 1)
		l, err := open(d.dir("log"), d.dir("second"), opts)
		if err != nil {
			t.Fatal(err)
		}
		d.hold = make(chan struct{})
		var futures []*Future
		for i := range uint64(3) { // one in the sequencer's hands, two in the queue
			futures = append(futures, l.Append(t.Context(), testBatch(i, 1)))
			synctest.Wait()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		gaveUp := l.Append(ctx, testBatch(3, 1))
		if !errors.Is(gaveUp.err, context.DeadlineExceeded) {
			t.Fatalf("append to a full queue: %v", gaveUp.err)
		}
		if _, err := futures[0].Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("acknowledged although the disk stands still: %v", err)
		}
		waiting := make(chan *Future)
		go func() { waiting <- l.Append(t.Context(), testBatch(3, 1)) }()
		synctest.Wait()
		select {
		case <-waiting:
			t.Fatal("append to a full queue did not block")
		default:
		}
		close(d.hold)
		for _, f := range append(futures, <-waiting) {
			if _, err := f.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if l.Size() != 4 {
			t.Fatalf("%d records", l.Size())
		}
		mustClose(t, l)
	})
}

func TestCloseRecordsWhatIsQueued(t *testing.T) {
	dir, opts := real(t)
	l := mustOpen(t, dir, opts)
	var futures []*Future
	for i := range uint64(100) {
		futures = append(futures, l.Append(t.Context(), testBatch(i, 1)))
	}
	mustClose(t, l)
	for i, f := range futures {
		if _, err := f.Wait(t.Context()); err != nil {
			t.Fatalf("batch %d: %v", i, err)
		}
	}
	wantRecords(t, dir, 100)
}

// TestSecondPlaceFailureIsToldAndNotFatal: the second place may lag.
func TestSecondPlaceFailureIsToldAndNotFatal(t *testing.T) {
	dir, opts := real(t)
	opts.CheckpointEvery = time.Nanosecond
	l := mustOpen(t, dir, opts)
	mustAppend(t, l, 0, 1)
	elsewhere := filepath.Dir(opts.SecondPlace)
	if err := os.Rename(elsewhere, elsewhere+".gone"); err != nil { // removing it would race with the log's writes to it
		t.Fatal(err)
	}
	for i := uint64(1); ; i++ {
		mustAppend(t, l, i, 1)
		if _, err := l.SecondPlace(); err != nil {
			break
		}
		if i > 100000 {
			t.Fatal("a second place that is gone is not told")
		}
	}
	if err := l.Close(); err == nil {
		t.Fatal("closed without a word about the second place")
	}
}
