package log

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkRecorded has callers each wait for one record after the other to be
// durable and checkpointed, numbered under one lock as a governor does.
func BenchmarkRecorded(b *testing.B) {
	for _, callers := range []int{1, 16, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			dir, opts := real(b)
			l := mustOpen(b, dir, opts)
			defer mustClose(b, l)
			var (
				mu   sync.Mutex
				next uint64
				left atomic.Int64
				all  sync.WaitGroup
			)
			left.Store(int64(b.N))
			b.ResetTimer()
			for range callers {
				all.Go(func() {
					for left.Add(-1) >= 0 {
						mu.Lock()
						f := l.Append(b.Context(), testBatch(next, 1))
						next++
						mu.Unlock()
						if _, err := f.Wait(b.Context()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkBatches appends batches of what a busy governor appends at once.
func BenchmarkBatches(b *testing.B) {
	dir, opts := real(b)
	l := mustOpen(b, dir, opts)
	defer mustClose(b, l)
	const size, ahead = 64, 16
	var futures []*Future
	var next uint64
	for b.Loop() {
		futures = append(futures, l.Append(b.Context(), testBatch(next, size)))
		next += size
		if len(futures) == ahead {
			if _, err := futures[0].Wait(b.Context()); err != nil {
				b.Fatal(err)
			}
			futures = futures[1:]
		}
	}
	for _, f := range futures {
		if _, err := f.Wait(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(next)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkLatency submits 10,000 records a second, whatever becomes of them,
// and tells how long each takes until it is durable and checkpointed.
func BenchmarkLatency(b *testing.B) {
	const rate = 10_000
	dir, opts := real(b)
	l := mustOpen(b, dir, opts)
	defer mustClose(b, l)
	took := make([]time.Duration, b.N)
	var all sync.WaitGroup
	b.ResetTimer()
	start := time.Now()
	for i := range b.N {
		due := start.Add(time.Duration(i) * time.Second / rate)
		time.Sleep(time.Until(due))
		f := l.Append(b.Context(), testBatch(uint64(i), 1))
		all.Go(func() {
			if _, err := f.Wait(b.Context()); err != nil {
				b.Error(err)
			}
			took[i] = time.Since(due)
		})
	}
	all.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
	b.ReportMetric(float64(took[len(took)-1].Microseconds()), "µs-max")
}
