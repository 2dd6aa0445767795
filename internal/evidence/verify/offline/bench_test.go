package offline_test

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/writ-run/writ/internal/evidence/testlog"
	"github.com/writ-run/writ/internal/evidence/verify"
	"github.com/writ-run/writ/internal/evidence/verify/offline"
	"github.com/writ-run/writ/internal/model"
)

// BenchmarkReplay verifies a log with every decision made again by the real
// engine.
func BenchmarkReplay(b *testing.B) {
	s := testlog.Real(b, b.TempDir(), nil)
	life := testlog.NewIn(b, s)
	life.Start()
	for range 20_000 {
		life.Ask("/usr/bin/git")
	}
	life.Exit()
	life.Batches = [][]model.Record{slices.Concat(life.Batches...)}
	path := filepath.Join(b.TempDir(), "log")
	life.Write(path, s.Keys.LogOptions(""))
	before := cpuTime(b)
	b.ReportAllocs()
	for b.Loop() {
		if r := verify.Log(path, offline.Options(s.Keys.Trust())); r.Verdict != verify.Valid {
			b.Fatal(r)
		}
	}
	records := float64(life.Book.Next) * float64(b.N)
	b.ReportMetric(records/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(records/(cpuTime(b)-before).Seconds(), "records/cpu-s")
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
