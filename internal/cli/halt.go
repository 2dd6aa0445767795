package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/writ-run/writ/internal/problem"
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
		RunE: func(cmd *cobra.Command, _ []string) error { return a.setMode(cmd.Context(), true, reason) },
	}
	cmd.Flags().StringVar(&reason, "reason", "", "a `text` to be recorded with it")
	return cmd
}

// setMode signs the governance mode and has all governors look at it.
func (a *app) setMode(ctx context.Context, halted bool, reason string) error {
	return problem.New(problem.Internal, "not wired yet")
}
