package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/writ-run/writ/internal/evidence/log"
	"github.com/writ-run/writ/internal/evidence/replay"
	"github.com/writ-run/writ/internal/evidence/verify/offline"
	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/policy"
	"github.com/writ-run/writ/internal/problem"
)

// replayCommand runs recorded inputs through the core again.
func (a *app) replayCommand() *cobra.Command {
	var f format
	cmd := &cobra.Command{
		Use:   "replay ID|DIR",
		Short: "Decide recorded inputs again and compare, byte for byte",
		Long: `Feed the recorded inputs of an execution to this program's engine, under the
policies in the record, and compare every decision and effect with what was
recorded, byte for byte. Signatures are not looked at: see writ evidence verify.`,
		Example:           "  writ replay last",
		Args:              exactly("the ID of an execution, or the directory of a log", 1, 1),
		ValidArgsFunction: a.completeIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.evidenceOf(cmd.Context(), args[0], "")
			if err != nil {
				return err
			}
			r, err := runReplay(e.dir)
			if err != nil {
				return err
			}
			if err := single(a.out, f, r, func() { a.out.table(nil, replayRows(e, r)) }); err != nil {
				return err
			}
			if r.Difference != nil {
				return problem.New("replay_differs", "the replay of %s differs: %v", e.dir, r.Difference)
			}
			return nil
		},
	}
	formatFlag(cmd, &f)
	return cmd
}

func runReplay(dir string) (replay.Result, error) {
	r, err := log.OpenReader(dir, 0)
	if err != nil {
		return replay.Result{}, err
	}
	defer r.Close()
	return replay.Run(func() (model.Record, error) {
		e, err := r.Next()
		if err != nil && err != io.EOF {
			err = problem.New("log_damaged", "%v", err).Because(err)
		}
		return e.Record, err
	}, offline.Load)
}

func replayRows(e evidenceLog, r replay.Result) [][]cell {
	verdict := cell{"the same, byte for byte", green}
	if r.Difference != nil {
		verdict = cell{fmt.Sprintf("differs at record %d", r.Difference.Index), red}
	}
	rows := [][]cell{{{text: "replay"}, verdict}, plain("log", e.dir), plain("records", fmt.Sprint(r.Records)),
		plain("inputs", fmt.Sprintf("%d replayed", r.Inputs)), plain("effects", fmt.Sprintf("%d compared", r.Effects))}
	if r.Status != nil && r.Status.Phase != 0 {
		rows = append(rows, plain("phase", r.Status.Phase.String()))
	}
	for _, engine := range r.Engines {
		if engine != policy.EngineDigest().String() {
			engine += " (not this program's: " + policy.EngineDigest().String() + ")"
		}
		rows = append(rows, plain("engine", engine))
	}
	if r.LoadError != "" {
		rows = append(rows, plain("policies", r.LoadError))
	}
	if d := r.Difference; d != nil {
		rows = append(rows, plain("recorded", string(d.Recorded)), plain("replayed", string(d.Replayed)))
	}
	return rows
}
