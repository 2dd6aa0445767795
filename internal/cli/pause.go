package cli

import (
	"github.com/spf13/cobra"

	"github.com/writ-run/writ/internal/model"
)

// pauseCommand orders executions to be paused.
func (a *app) pauseCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "pause ID...",
		Short: "Freeze executions where they stand",
		Long: `Freeze executions where they stand, by a signed order.

All their processes stop at once and hold no lease. ` + "`writ resume`" + ` lets them go
on, once all seven conditions have been seen to hold again. A pause that lasts
longer than the settings' pause-limit ends in termination.`,
		Example: `  writ pause last
  writ pause 01K9 01KA --reason "looking into it"`,
		Args:              exactly(idOrLast, 1, -1),
		ValidArgsFunction: a.completeIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.orderEach(cmd.Context(), args, model.OrderPause, reason)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "a `text` to be recorded with the order")
	return cmd
}
