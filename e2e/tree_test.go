//go:build linux

package e2e

import (
	_ "embed"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

//go:embed testdata/tree.py
var treeScript string

const treeSize = 200

// startTree starts the tree and waits until all of it has made progress.
func startTree(p *place, args ...string) *process {
	p.t.Helper()
	p.write("tree.py", treeScript)
	r := p.start(command{argv: append([]string{python, "tree.py"}, args...)})
	p.await("200 processes at work", func() bool { return len(progress(p)) == treeSize })
	return r
}

// progress returns how far each process of the tree has come.
func progress(p *place) map[string]int64 {
	p.t.Helper()
	all := map[string]int64{}
	entries, err := os.ReadDir(filepath.Join(p.dir, "progress"))
	if err != nil && !os.IsNotExist(err) {
		p.t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Size() > 0 {
			all[e.Name()] = info.Size()
		}
	}
	return all
}

// awaitProgress waits until every process has gone on since before.
func awaitProgress(p *place, before map[string]int64) {
	p.t.Helper()
	p.await("every process to go on", func() bool {
		now := progress(p)
		for name, size := range before {
			if now[name] <= size {
				return false
			}
		}
		return true
	})
}

// checkStill wants no process to make progress for a while.
func checkStill(p *place, what string) {
	p.t.Helper()
	before := progress(p)
	time.Sleep(500 * time.Millisecond) // what must not happen cannot be awaited
	for name, size := range progress(p) {
		if size != before[name] {
			p.t.Errorf("%s: process %s went on by %d", what, name, size-before[name])
		}
	}
}

func TestTree(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		r := startTree(p)
		awaitProgress(p, progress(p))
		p.write("stop", "")
		if code := r.wait(); code != 0 {
			t.Errorf("exit code %d\nstderr: %s", code, r.stderr.String())
		}
	})
}

func TestTreePauseResumeKill(t *testing.T) {
	governed(t, func(t *testing.T, p *place) {
		r := startTree(p)
		id := p.running().ID
		p.must("pause", id)
		p.await("the pause", func() bool { return phase(p, id) == "paused" })
		checkStill(p, "paused")
		before := progress(p)
		p.must("resume", id)
		awaitProgress(p, before)
		p.must("kill", id)
		if code := r.wait(); code != 137 {
			t.Errorf("killed by order: exit code %d, want 137\nstderr: %s", code, r.stderr.String())
		}
		checkStill(p, "killed")
		if got := phase(p, id); got != "terminated" {
			t.Errorf("the phase is %q, want terminated", got)
		}
	})
}

func TestTreeRevoked(t *testing.T) {
	governed(t, func(t *testing.T, p *place) {
		r := startTree(p)
		p.must("grant", "revoke", p.running().Grant)
		if code := r.wait(); code != 137 {
			t.Errorf("revoked: exit code %d, want 137\nstderr: %s", code, r.stderr.String())
		}
		checkStill(p, "revoked")
	})
}

// Processes that the main one abandoned end with it: they are part of the
// execution, wherever they fled to.
func TestTreeAbandoned(t *testing.T) {
	governed(t, func(t *testing.T, p *place) {
		if code := startTree(p, "abandon").wait(); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		checkStill(p, "abandoned")
	})
}

// A governor that is killed takes its workload along.
func TestTreeGovernorKilled(t *testing.T) {
	governed(t, func(t *testing.T, p *place) {
		r := startTree(p)
		if err := r.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		r.wait()
		p.await("the workload to end", func() bool { return len(descendants()) == 0 })
		checkStill(p, "without a governor")
		// The next run finds the state directory in order.
		p.succeed(command{argv: []string{"true"}})
	})
}

func phase(p *place, id string) string {
	p.t.Helper()
	for _, e := range p.ps(true) {
		if strings.EqualFold(e.ID, id) {
			return e.Phase
		}
	}
	return ""
}
