package cli

import (
	"github.com/spf13/cobra"

	"github.com/writ-run/writ/internal/model"
)

// killCommand orders executions to be killed.
func (a *app) killCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "kill ID...",
		Short: "End executions",
		Long: `End executions, by a signed order: all their processes are killed, and what was
done is kept as evidence.`,
		Example: `  writ kill last
  writ kill 01K9 --reason "wrong branch"`,
		Args:              exactly(idOrLast, 1, -1),
		ValidArgsFunction: a.completeIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.orderEach(cmd.Context(), args, model.OrderKill, reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "a `text` to be recorded with the order")
	return cmd
}
