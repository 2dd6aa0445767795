package verify_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/writ-run/writ/internal/evidence/testlog"
	"github.com/writ-run/writ/internal/evidence/verify"
	"github.com/writ-run/writ/internal/model"
)

// BenchmarkLog verifies a log of many actions on one goroutine, with flushes of
// the sizes that a quiet and a busy governor writes.
func BenchmarkLog(b *testing.B) {
	keys := testlog.NewKeys(1)
	for _, flush := range []int{3, 64, 1024} {
		life := testlog.New(b, keys)
		life.Start()
		for range 20_000 {
			life.Ask("/usr/bin/git")
		}
		life.Exit()
		all := slices.Concat(life.Batches...)
		life.Batches = life.Batches[:0]
		for batch := []model.Record(nil); len(all) > 0; {
			batch = append(batch, all[0])
			all = all[1:]
			if len(all) == 0 || len(batch) >= flush && all[0].Kind == model.RecordInput {
				life.Batches = append(life.Batches, batch)
				batch = nil
			}
		}
		path := filepath.Join(b.TempDir(), "log")
		life.Write(path, keys.LogOptions(""))
		for _, replayed := range []bool{false, true} {
			b.Run(fmt.Sprintf("flush=%d/replay=%t", flush, replayed), func(b *testing.B) {
				opts := options(keys)
				if !replayed {
					opts.Load = nil
				}
				b.ReportAllocs()
				before := cpuTime(b)
				for b.Loop() {
					if r := verify.Log(path, opts); r.Verdict != verify.Valid {
						b.Fatal(r)
					}
				}
				records := float64(life.Book.Next) * float64(b.N)
				b.ReportMetric(records/b.Elapsed().Seconds(), "records/s")
				b.ReportMetric(records/(cpuTime(b)-before).Seconds(), "records/cpu-s")
			})
		}
	}
}

// cpuTime returns the processor time that this process has used: on a machine
// with other work it says more than the clock on the wall.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
