package cli

import (
	"github.com/spf13/cobra"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/observe/governance"
)

// resumeCommand lets executions go on that an operator paused, or lifts a halt.
func (a *app) resumeCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "resume [ID...]",
		Short: "Let paused executions go on, or without an ID lift a halt",
		Long: `Let executions go on that an operator paused, by a signed order. They go on once
all seven conditions have been seen to hold since the pause.

Without an ID it lifts a halt: the governance mode is normal again, and what was
paused for it goes on.`,
		Example: `  writ resume last
  writ resume                # lift a halt`,
		Args:              exactly(idOrLast, 0, -1),
		ValidArgsFunction: a.completeIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.setMode(cmd.Context(), governance.Normal, reason)
			}
			return a.orderEach(cmd.Context(), args, model.OrderResume, reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "a `text` to be recorded with it")
	return cmd
}
