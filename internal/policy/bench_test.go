package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/writ-run/writ/internal/model"
)

// sizedBundle is the built-in policy and as many more as make n: for files,
// hosts, programs and agents in turn, as a fleet's bundle would have them.
func sizedBundle(tb testing.TB, n int) *Loaded {
	tb.Helper()
	base := load(tb, Builtin()...)
	var b strings.Builder
	for i := len(base.rules); i < n; i++ {
		switch i % 5 {
		case 0:
			fmt.Fprintf(&b, "permit (principal, action == Writ::Action::\"exec\", resource in Writ::Directory::\"/opt/tool%d\");\n", i)
		case 1:
			fmt.Fprintf(&b, "@via(\"host\") permit (principal, action == Writ::Action::\"connect\", resource == Writ::Host::\"10.0.%d.%d\") when { resource.port == 443 };\n", i/256, i%256)
		case 2:
			fmt.Fprintf(&b, "permit (principal == Writ::Agent::\"agent%d\", action in [Writ::Action::\"exec\", Writ::Action::\"connect\"], resource) when { context.tier == \"kernel\" };\n", i)
		case 3:
			fmt.Fprintf(&b, "permit (principal, action == Writ::Action::\"connect\", resource is Writ::Host) when { resource.port == %d && resource.protocol == \"tcp\" };\n", 1024+i)
		case 4:
			fmt.Fprintf(&b, "forbid (principal, action == Writ::Action::\"exec\", resource == Writ::Executable::\"/usr/bin/bad%d\") unless { context.args.contains(\"--safe\") };\n", i)
		}
	}
	sources := Builtin()
	if b.Len() > 0 {
		sources = append(sources, Source{Name: "fleet.cedar", Text: []byte(b.String())})
	}
	l := load(tb, sources...)
	if len(l.rules) != max(n, len(base.rules)) {
		tb.Fatalf("%d policies, want %d", len(l.rules), n)
	}
	return l
}

func BenchmarkDecide(b *testing.B) {
	requests := []struct {
		name    string
		request model.Request
	}{
		{"exec", execRequest("/usr/bin/git", "git", "status")},
		{"connect", hostRequest("127.0.0.1", 8080)},
		{"denied", hostRequest("10.9.9.9", 443)},
		{"continue", lifeRequest(model.ActionContinue)},
		{"lost", lose(lifeRequest(model.ActionContinue), model.Governance, "halted")},
	}
	for _, n := range []int{10, 100, 1000} {
		l := sizedBundle(b, n)
		for _, r := range requests {
			b.Run(fmt.Sprintf("%s/%d", r.name, n), func(b *testing.B) {
				times := make([]time.Duration, 0, 1<<16)
				b.ReportAllocs()
				for b.Loop() {
					start := time.Now()
					l.Decide(r.request)
					if len(times) < cap(times) {
						times = append(times, time.Since(start))
					}
				}
				slices.Sort(times)
				b.ReportMetric(float64(times[len(times)*99/100])/1e3, "p99-us")
			})
		}
	}
}

// BenchmarkDecideAll shows what the index saves.
func BenchmarkDecideAll(b *testing.B) {
	l := sizedBundle(b, 1000)
	r := execRequest("/usr/bin/git", "git", "status")
	for b.Loop() {
		l.decide(&r, false)
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{100, 1000} {
		bundle := sizedBundle(b, n).Bundle()
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if _, err := Load(bundle); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
