package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/writ-run/writ/internal/problem"
)

// demoCommand shows what Writ does, by doing it.
func (a *app) demoCommand() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work, in under a minute",
		Long: `See Writ work, in under a minute, without root and without a network: an allowed
action, a denied one with its why, a revoked grant stopping a busy process, a
governor killed with its workload stopping too, evidence verified, and a tampered
copy refused.

Each step is really done, by this program, in a temporary directory, and checked:
the exit code is 1 if one does not show what it claims.`,
		Example: "  writ demo\n  writ demo --keep",
		Args:    exactly("", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return a.demo(ctx, keep)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the temporary directory behind, to look around")
	return cmd
}

func (a *app) demo(ctx context.Context, keep bool) error {
	started := time.Now()
	d, err := newDemo(a.out)
	if err != nil {
		return err
	}
	if !keep {
		defer os.RemoveAll(d.dir)
	}
	ctx, cancel := context.WithTimeout(ctx, demoPatience)
	defer cancel()
	for i, step := range d.steps() {
		a.out.write([]byte("\n" + a.out.paint(bold, fmt.Sprintf("%d. %s", i+1, step.title)) + "\n"))
		if err := step.show(ctx); err != nil {
			a.out.print("   %s", a.out.paint(red, "this failed"))
			if p, ok := err.(*problem.Problem); ok && p.Code == "demo_failed" {
				return p
			}
			return problem.New("demo_failed", "step %d (%s): %v", i+1, step.title, err).Because(err)
		}
	}
	a.out.print("\nall of it really happened, in %s.", time.Since(started).Round(100*time.Millisecond))
	if keep {
		a.out.print("look around with:  export WRIT_STATE=%s  and  writ ps -a", d.state)
	} else {
		a.out.print("now yours:  writ run -- COMMAND")
	}
	return nil
}

// demoPatience is how long the demonstration may take; it takes a few seconds.
const demoPatience = time.Minute

// demoStep is one thing that is shown.
type demoStep struct {
	title string
	show  func(context.Context) error
}

func (d *demo) steps() []demoStep {
	return []demoStep{
		{"An allowed action", d.allowed},
		{"A denied action, and why", d.denied},
		{"A revoked grant stops a busy process", d.revoked},
		{"A killed governor takes its workload with it", d.governorKilled},
		{"The evidence is verified", d.verified},
		{"A tampered copy is refused", d.tampered},
	}
}

// newDemo makes the temporary directory. It must not be one that only its owner
// can enter from above: a governed process works in it.
func newDemo(out *output) (*demo, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	dir, err := os.MkdirTemp("", "writ-demo-")
	if err != nil {
		return nil, fmt.Errorf("making a temporary directory: %w", err)
	}
	d := &demo{out: out, self: self, dir: dir, state: filepath.Join(dir, "state"), work: filepath.Join(dir, "work")}
	return d, os.Mkdir(d.work, 0o700)
}
