package cli

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/spf13/cobra"

	"github.com/writ-run/writ/internal/governor"
	"github.com/writ-run/writ/internal/governor/store"
	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/problem"
)

// adoptFlags are the flags of `writ adopt`.
type adoptFlags struct {
	all, force, quiet, verbose bool
}

// adoptCommand takes over an execution whose governor died.
func (a *app) adoptCommand() *cobra.Command {
	f := &adoptFlags{}
	cmd := &cobra.Command{
		Use:   "adopt [flags] [ID]",
		Short: "Take over an execution whose governor died",
		Long: `Take over an execution whose governor died, and govern it until it ends. Its state
is rebuilt from the evidence, by replay; the workload does not notice.

There is time until the lease lapses: then the guard stops the workload, as it
does when nobody comes, and what is left is ended. ` + "`writ run --restart`" + ` does all
this by itself.

Without an ID it takes the newest that can be had. Exit codes are those of a run.`,
		Example: `  writ adopt
  writ adopt --all
  writ adopt 01K9 --force     end its governor first, which is stopped or hangs`,
		Args:              exactly("at most one ID of an execution", 0, 1),
		ValidArgsFunction: a.completeIDs,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.adopt(cmd.Context(), f, args) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&f.all, "all", false, "take over all that can be had")
	flags.BoolVar(&f.force, "force", false, "end its governor first, if it has one")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "say nothing while it runs")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "say when it is taken over and ends, also where no terminal is")
	return cmd
}

func (a *app) adopt(ctx context.Context, f *adoptFlags, args []string) error {
	dir, err := a.open()
	if err != nil {
		return err
	}
	if f.all {
		return a.adoptAll(ctx, dir, f)
	}
	id, err := adoptee(dir, args, f.force)
	if err != nil {
		return err
	}
	return a.adoptOne(ctx, dir, f, id, os.Stdin)
}

// adoptee finds the execution that is meant.
func adoptee(dir *store.Dir, args []string, force bool) (model.ExecutionID, error) {
	if len(args) == 1 && args[0] != "last" {
		return find(dir, args[0])
	}
	if force {
		return findAlive(dir, "last")
	}
	orphans, err := governor.Orphans(dir)
	if err != nil {
		return "", err
	}
	if len(orphans) == 0 {
		return "", problem.New("adopt_nothing_left", "no execution waits for a governor")
	}
	return orphans[len(orphans)-1], nil
}

func (a *app) adoptOne(ctx context.Context, dir *store.Dir, f *adoptFlags, id model.ExecutionID, stdin *os.File) error {
	w := newWatcher(a.out, f.quiet, f.verbose)
	result, err := governor.Adopt(ctx, governor.Adoption{
		StateDir: dir.Root(), Execution: id, Stdin: stdin, Force: f.force, Notify: a.keeper.notices(w.notice),
	})
	w.close()
	if err != nil {
		return err
	}
	return w.ending(result)
}

// adoptAll governs all orphans there are, each to its end.
func (a *app) adoptAll(ctx context.Context, dir *store.Dir, f *adoptFlags) error {
	if f.force {
		return problem.New(problem.BadValue, "--all and --force do not go together").
			WithWhy("a governor that only looks hung would be ended, with all others").WithFix("name the execution: `writ adopt ID --force`")
	}
	orphans, err := governor.Orphans(dir)
	if err != nil {
		return err
	}
	if len(orphans) == 0 {
		return problem.New("adopt_nothing_left", "no execution waits for a governor")
	}
	ends := make([]error, len(orphans))
	var wait sync.WaitGroup
	for i, id := range orphans {
		wait.Go(func() { ends[i] = a.adoptOne(ctx, dir, f, id, nil) })
	}
	wait.Wait()
	var failed []error
	for i, err := range ends {
		if code, is := err.(exitCode); is {
			err = nil
			a.out.say("execution %s ended with exit code %d", orphans[i], int(code))
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("execution %s: %w", orphans[i], err))
		}
	}
	return several(a.out, failed, len(orphans))
}
