package kernel

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkGate measures what the gate adds with an asker that answers at once:
// the same calls with it (gated-us) and without (plain-us), and the processor
// time that the gate takes for each (gate-cpu-us), which other load on the host
// changes less.
func BenchmarkGate(b *testing.B) {
	for _, what := range []string{"exec", "missing", "udp", "unix"} {
		b.Run(what, func(b *testing.B) {
			prog := compile(b, "bench", "-static")
			n := fmt.Sprint(max(b.N, 100))
			us := func(out string) float64 {
				v, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
				if err != nil {
					b.Fatal(out)
				}
				return v
			}
			plain, err := exec.Command(prog, what, n).Output()
			if err != nil {
				b.Fatal(err)
			}
			begun := processorTime()
			out, _ := underGate(b, nil, prog, what, n).do()
			b.ReportMetric(float64((processorTime()-begun).Microseconds())/float64(max(b.N, 100)), "gate-cpu-us")
			b.ReportMetric(us(string(plain)), "plain-us")
			b.ReportMetric(us(out), "gated-us")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func processorTime() time.Duration {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
