package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/writ-run/writ/internal/keys"
	"github.com/writ-run/writ/internal/observe/governance"
)

// haltCommand halts everything on the host.
func (a *app) haltCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "halt",
		Short: "Halt all executions, and admit none, until resumed",
		Long: `Halt everything under this state directory: the governance mode becomes halted, all
executions lose their governance condition at once (the built-in policy pauses
them, and ends them after ten minutes), and none is admitted, until ` + "`writ resume`" + `
without an ID lifts it.`,
		Example: `  writ halt --reason "looking into an alarm"
  writ resume`,
		Args: exactly("", 0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.setMode(cmd.Context(), governance.Halted, reason) },
	}
	cmd.Flags().StringVar(&reason, "reason", "", "a `text` to be recorded with it")
	return cmd
}

// setMode signs the governance mode and has all governors look at it.
func (a *app) setMode(ctx context.Context, mode governance.Mode, reason string) error {
	if err := singleLine("--reason", reason); err != nil {
		return err
	}
	dir, err := a.open()
	if err != nil {
		return err
	}
	ring, err := keys.Open(dir.Root())
	if err != nil {
		return err
	}
	state, err := governance.SetMode(ring, mode, whoAmI(), reason, time.Now())
	if err != nil {
		return err
	}
	a.poke(ctx, dir)
	a.out.print("%s  since %s, by %s%s (epoch %d)", state.Mode, stamp(state.At), state.Operator, after(": ", state.Why), state.Epoch)
	return nil
}
