//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// program is a whole workload.
type program struct {
	name   string
	budget float64 // at most so many times as long
	needs  []string
	setup  func(ctx context.Context, p *place) error
	// before changes what must be new in each run.
	before func(p *place, run int) error
	argv   []string
}

// place is where a program runs, governed and not: the same directory, command
// and environment.
type place struct {
	dir  string
	env  []string
	runs int
}

var workloads = []program{
	{name: "compiling a Go module", budget: 1.05, needs: []string{"go"}, setup: makeModule, before: changeModule,
		argv: []string{"go", "build", "-o", "out", "."}},
	{name: "git on a repository", budget: 1.05, needs: []string{"git"}, setup: makeRepository, argv: []string{"sh", "git.sh"}},
	{name: "file-heavy Python", budget: 1.05, needs: []string{"python3"}, setup: makePython, argv: []string{"python3", "files.py"}},
	{name: "shell script of 1,000 short programs", budget: 1.15, setup: makeScript, argv: []string{"sh", "short.sh"}},
}

// programs runs whole workloads governed and not, in turn, and compares each
// pair. A governed run also has a start and an end of its own, which weigh the
// less the longer the workload: they are given by themselves, and the ratio
// without them.
func programs(ctx context.Context, b *bench) error {
	s, err := b.newState()
	if err != nil {
		return err
	}
	var starts sample
	for i, w := range workloads {
		f := figure{What: w.name + ", governed against not", Budget: fmt.Sprintf("at most %.2f times", w.budget)}
		if missing := absent(w.needs); missing != "" {
			f.Text, f.Verdict = "there is no "+missing+" in "+plainPath, notMeasured
			b.add(f)
			continue
		}
		r, err := b.pairs(ctx, s, w, len(workloads)-1-i)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		whole, inside := median(r.whole), median(r.inside)
		f.N, f.Verdict = len(r.whole), atMost(whole, w.budget)
		f.Text = fmt.Sprintf("%.2f times (%s to %s; without start and end %.2f)", whole, human(r.governed.p50()), human(r.plain.p50()), inside)
		f.Values = map[string]float64{"ratio": whole, "ratio_without_start": inside, "governed_ms": us(r.governed.p50()) / 1e3, "ungoverned_ms": us(r.plain.p50()) / 1e3}
		b.add(f)
		starts = append(starts, r.starts...)
	}
	if len(starts) > 0 {
		b.add(figure{What: "start and end of a governed run", Text: starts.text(), Values: starts.values(), N: len(starts)})
	}
	return nil
}

// plainPath is where the workloads' programs are: what is elsewhere would not be
// there in a governed run. Go's toolchain is where this program's was.
const plainPath = "/usr/local/bin:/usr/bin:/bin"

func searchPath() string { return filepath.Join(goRoot(), "bin") + ":" + plainPath }

func goRoot() string {
	if out, err := exec.Command("go", "env", "GOROOT").Output(); err == nil {
		return strings.TrimSpace(string(out))
	}
	return "/usr/local/go"
}

// absent returns the first program that is not there, or "".
func absent(needs []string) string {
	for _, name := range needs {
		found := false
		for dir := range strings.SplitSeq(searchPath(), ":") {
			if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode()&0o111 != 0 {
				found = true
			}
		}
		if !found {
			return name
		}
	}
	return ""
}

// paired is what pairs of runs took.
type paired struct {
	whole, inside   []float64 // governed over not, for each pair
	governed, plain sample
	starts          sample // what a governed run took beside its command
}

// pairs runs a program by turns ungoverned and governed. The first pair warms
// up and does not count, unless it is the only one. others are the programs still to come.
func (b *bench) pairs(ctx context.Context, s *state, w program, others int) (paired, error) {
	var r paired
	p, err := b.newPlace(ctx, w)
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(p.dir)
	flags := []string{"--clear-env", "--exec", goRoot()}
	for _, e := range p.env {
		flags = append(flags, "--env", e)
	}
	one := func(governed bool) (whole, inside time.Duration, err error) {
		return b.timed(ctx, w, p, func(argv []string) *exec.Cmd {
			if !governed {
				return nil
			}
			return b.command(ctx, s.path, p.dir, flags, argv...)
		})
	}
	for i := range b.turns(b.times(6, 1), b.times(2, 1), others) {
		plain, plainInside, err := one(false)
		if err != nil {
			return r, err
		}
		governed, governedInside, err := one(true)
		if err != nil {
			return r, err
		}
		if i == 0 && !b.short {
			continue
		}
		r.whole = append(r.whole, governed.Seconds()/plain.Seconds())
		r.inside = append(r.inside, governedInside.Seconds()/plainInside.Seconds())
		r.governed, r.plain = append(r.governed, governed), append(r.plain, plain)
		r.starts = append(r.starts, governed-governedInside)
	}
	return r, nil
}

// newPlace makes a place for a program.
func (b *bench) newPlace(ctx context.Context, w program) (*place, error) {
	dir, err := b.workdir("program")
	if err != nil {
		return nil, err
	}
	p := &place{dir: dir, env: []string{
		"PATH=" + searchPath(), "HOME=" + dir, "LANG=C.UTF-8", "GOENV=off", "GOTOOLCHAIN=local", "GOFLAGS=-mod=mod", "GOPROXY=off",
		"CGO_ENABLED=0", "GOTELEMETRY=off", "GOROOT=" + goRoot(), "GOCACHE=" + filepath.Join(dir, "cache"), "GOPATH=" + filepath.Join(dir, "gopath"),
		"GOTMPDIR=" + dir, "GIT_CONFIG_NOSYSTEM=1", "PYTHONDONTWRITEBYTECODE=1", "GOMAXPROCS=" + strconv.Itoa(runtime.NumCPU()),
	}}
	if err := w.setup(ctx, p); err != nil {
		return nil, fmt.Errorf("setting up: %w", err)
	}
	return p, nil
}

// timed runs a program in its place, by the command that wrap makes of it or, if
// that is nil, as it is.
func (b *bench) timed(ctx context.Context, w program, p *place, wrap func(argv []string) *exec.Cmd) (whole, inside time.Duration, err error) {
	took := filepath.Join(p.dir, "took")
	argv := append([]string{b.helper(), helperWord, "timed", took}, w.argv...)
	p.runs++
	if w.before != nil {
		if err := w.before(p, p.runs); err != nil {
			return 0, 0, err
		}
	}
	cmd := wrap(argv)
	if cmd == nil {
		cmd = exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Env = p.env
	} else if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Dir = p.dir
	begun := time.Now()
	if _, err := output(cmd); err != nil {
		return 0, 0, err
	}
	whole = time.Since(begun)
	text, err := os.ReadFile(took)
	if err != nil {
		return 0, 0, err
	}
	ns, err := strconv.ParseInt(string(text), 10, 64)
	return whole, time.Duration(ns), err
}
