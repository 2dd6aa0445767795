//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"
)

// peer is another program under which a workload can be run. None of them
// decides, records or holds a deadline; each holds something, and what that
// costs is what Writ is to be seen beside.
type peer struct {
	name string // the program
	what string // what it does here
	argv func(p *place) []string
}

var others = []peer{
	{"bwrap", "namespaces, and a root of bind mounts", func(p *place) []string {
		return []string{"bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--bind", p.dir, p.dir, "--unshare-all", "--die-with-parent", "--"}
	}},
	{"firejail", "namespaces, seccomp, no network", func(p *place) []string {
		return []string{"firejail", "--quiet", "--noprofile", "--seccomp", "--net=none", "--read-only=/", "--read-write=" + p.dir, "--"}
	}},
	{"strace", "every exec and connect of every process seen, by ptrace", func(p *place) []string {
		return []string{"strace", "-f", "-qq", "-o", "/dev/null", "--seccomp-bpf", "-e", "trace=execve,execveat,connect", "--"}
	}},
	{"strace", "every system call of every process seen", func(p *place) []string {
		return []string{"strace", "-f", "-qq", "-o", "/dev/null", "--"}
	}},
	{"systemd-run", "a scope of its own", func(p *place) []string { return []string{"systemd-run", "--scope", "--quiet", "--"} }},
	{"nsjail", "namespaces", func(p *place) []string {
		return []string{"nsjail", "-Mo", "-q", "--keep_env", "--disable_rlimits", "-R", "/", "-B", p.dir, "--cwd", p.dir, "--"}
	}},
}

// peers runs each workload as it is, governed, and under each of the others, in
// one place, by turns. Where there is time for more than one turn, the first warms up.
func peers(ctx context.Context, b *bench) error {
	s, err := b.newState()
	if err != nil {
		return err
	}
	for i, w := range workloads {
		if missing := absent(w.needs); missing != "" {
			continue // `programs` says so
		}
		if err := b.besides(ctx, s, w, len(workloads)-1-i); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

func (b *bench) besides(ctx context.Context, s *state, w program, left int) error {
	p, err := b.newPlace(ctx, w)
	if err != nil {
		return err
	}
	defer os.RemoveAll(p.dir)
	flags := []string{"--clear-env", "--exec", goRoot()}
	for _, e := range p.env {
		flags = append(flags, "--env", e)
	}
	type way struct {
		name string
		wrap func(argv []string) *exec.Cmd
		took sample
		err  error
	}
	ways := []*way{
		{name: "ungoverned", wrap: func([]string) *exec.Cmd { return nil }},
		{name: "writ, tier " + b.tier(), wrap: func(argv []string) *exec.Cmd { return b.command(ctx, s.path, p.dir, flags, argv...) }},
	}
	for _, o := range others {
		y := &way{name: fmt.Sprintf("%s (%s)", o.name, o.what)}
		if _, err := exec.LookPath(o.name); err != nil {
			y.err = fmt.Errorf("%s is not installed", o.name)
		}
		y.wrap = func(argv []string) *exec.Cmd {
			argv = slices.Concat(o.argv(p), argv)
			cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
			cmd.Env = p.env
			return cmd
		}
		ways = append(ways, y)
	}
	for i := range b.turns(b.times(4, 1), 1, left) {
		for _, y := range ways {
			if i == 1 {
				y.took = nil
			}
			if y.err != nil {
				continue
			}
			var whole time.Duration
			if whole, _, y.err = b.timed(ctx, w, p, y.wrap); y.err == nil {
				y.took = append(y.took, whole)
			}
		}
	}
	plain := ways[0]
	if plain.err != nil {
		return plain.err
	}
	for _, y := range ways {
		f := figure{What: w.name + ": " + y.name, N: len(y.took)}
		if y.err != nil {
			f.Text, f.Verdict = clip(y.err.Error()), notMeasured
		} else {
			ratio := y.took.p50().Seconds() / plain.took.p50().Seconds()
			f.Text = fmt.Sprintf("%s, %.2f times", human(y.took.p50()), ratio)
			f.Values = map[string]float64{"ms": us(y.took.p50()) / 1e3, "ratio": ratio}
		}
		b.add(f)
	}
	return nil
}

// clip bounds a text that goes into the table.
func clip(s string) string {
	const most = 120
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
