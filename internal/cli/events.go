package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/writ-run/writ/internal/evidence/log"
	"github.com/writ-run/writ/internal/governor/store"
	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/policy/text"
	"github.com/writ-run/writ/internal/problem"
)

// eventsCommand shows the evidence of an execution.
func (a *app) eventsCommand() *cobra.Command {
	var (
		f      format
		follow bool
		all    bool
		kinds  []string
		from   uint64
	)
	cmd := &cobra.Command{
		Use:   "events ID",
		Short: "Show what happened to an execution, from its evidence",
		Long: `Show what happened to an execution, record by record, from its evidence log.

The table leaves out the records that only say that all goes on: valid
observations, renewed leases, heartbeats, keys and artifacts. -a shows them.
json and jsonl always have every record, with its body decoded.`,
		Example: `  writ events last
  writ events last -f                    follow a running execution
  writ events last --kind decision,order
  writ events last -o jsonl | jq 'select(.kind == "decision")'`,
		Args:              exactly("the ID of an execution, or `last`", 1, 1),
		ValidArgsFunction: a.completeIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			wanted, err := parseKinds(kinds)
			if err != nil {
				return err
			}
			dir, err := a.openTidy(cmd.Context())
			if err != nil {
				return err
			}
			id, err := find(dir, args[0])
			if err != nil {
				return err
			}
			s := &selection{kinds: wanted, all: all || f != formatTable}
			p := &eventPrinter{out: a.out, format: f, follow: follow}
			if follow {
				ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
				defer stop()
				return followLog(ctx, dir, id, from, s, p)
			}
			if err := readEvents(dir, id, from, s, p.print); err != nil {
				return err
			}
			if err := p.close(); err != nil {
				return err
			}
			if s.leftOut > 0 && a.out.terminal {
				a.out.say("%d records that only say that all goes on are left out (-a shows them)", s.leftOut)
			}
			return nil
		},
	}
	formatFlag(cmd, &f)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on showing what comes, until the execution ends")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "leave nothing out of the table")
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "only records of these `kinds`: "+strings.Join(eventKinds(), ", "))
	cmd.Flags().Uint64Var(&from, "from", 0, "begin at the record with this `index`")
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(eventKinds(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// eventKinds lists what --kind takes: the kinds of records, of inputs and of
// effects.
func eventKinds() []string {
	var names []string
	for k := model.RecordInput; k.Valid(); k++ {
		names = append(names, k.String())
	}
	for k := model.InputSubmit; k <= model.InputAdopt; k++ {
		names = append(names, k.String())
	}
	for k := model.EffectRefuse; k <= model.EffectKill; k++ {
		names = append(names, k.String())
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func parseKinds(kinds []string) ([]string, error) {
	for _, k := range kinds {
		if !slices.Contains(eventKinds(), k) {
			return nil, problem.New(problem.BadValue, "there are no records of kind %q", k).
				WithWhy("--kind takes kinds of records, of inputs and of effects").WithFix(text.Suggest(k, eventKinds()))
		}
	}
	return kinds, nil
}

// selection chooses events.
type selection struct {
	kinds   []string
	all     bool
	leftOut int
}

func (s *selection) has(e event) bool {
	if len(s.kinds) > 0 {
		return slices.Contains(s.kinds, e.Kind.String()) || slices.Contains(s.kinds, e.finer())
	}
	if s.all || !e.routine() {
		return true
	}
	s.leftOut++
	return false
}

// finer is the kind of input or effect.
func (e event) finer() string {
	switch b := e.Body.(type) {
	case model.Input:
		return b.Kind.String()
	case model.Effect:
		return b.Kind.String()
	}
	return e.Kind.String()
}

// routine tells whether a record only says that all goes on.
func (e event) routine() bool {
	switch b := e.Body.(type) {
	case model.Input:
		switch b.Kind {
		case model.InputObserve:
			return b.Observation.Verdict == model.VerdictValid
		case model.InputOutcome:
			return b.Outcome.Done
		case model.InputReport:
			return b.Report.OK && b.Report.Effect != model.EffectArm
		}
		return b.Kind == model.InputTick
	case model.Effect:
		switch b.Kind {
		case model.EffectDecision:
			return b.Ruling.Decision.Allow && b.Ruling.Kind == model.ActionContinue
		case model.EffectCondition:
			return false
		case model.EffectArm, model.EffectStart:
			return true
		}
		return false
	case model.Outage:
		return false
	}
	return true
}

func readEvents(dir *store.Dir, id model.ExecutionID, from uint64, s *selection, each func(event) error) error {
	err := readLog(dir.Log(id), from, func(e log.Entry) error {
		ev, err := eventOf(e)
		if err != nil {
			return err
		}
		if !s.has(ev) {
			return nil
		}
		return each(ev)
	})
	if errors.Is(err, log.ErrNoLog) {
		return problem.New("evidence_missing", "execution %s has no evidence log", id).Because(err)
	}
	return err
}

// followEvery is how often a log is looked at for new records.
const followEvery = 100 * time.Millisecond

// followLog prints a log and what is added to it, until the execution has ended
// and its log was read to the end.
func followLog(ctx context.Context, dir *store.Dir, id model.ExecutionID, from uint64, s *selection, p *eventPrinter) error {
	look := time.NewTicker(followEvery)
	defer look.Stop()
	var r *log.Reader
	for {
		alive := dir.Governed(id) // before reading: what is written after it is read in the next turn
		if r == nil {
			opened, err := log.OpenReader(dir.Log(id), from)
			if err != nil && !(alive && errors.Is(err, log.ErrNoLog)) {
				return err
			}
			if err == nil {
				r = opened
				defer r.Close()
			}
		}
		ended, err := printNew(r, s, p)
		if err != nil {
			return err
		}
		if ended || !alive {
			return p.close()
		}
		select {
		case <-ctx.Done():
			return p.close()
		case <-look.C:
		}
	}
}

// printNew prints what r has and tells whether the execution has ended.
func printNew(r *log.Reader, s *selection, p *eventPrinter) (ended bool, err error) {
	if r == nil {
		return false, nil
	}
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return ended, nil
		}
		if err != nil {
			return ended, err
		}
		ev, err := eventOf(e)
		if err != nil {
			return ended, err
		}
		if f, ok := ev.Body.(model.Effect); ok && f.Kind == model.EffectPhase && f.Phase.Final() {
			ended = true
		}
		if s.has(ev) {
			if err := p.print(ev); err != nil {
				return ended, err
			}
		}
	}
}

// eventPrinter prints events as they come; json waits for the last.
type eventPrinter struct {
	out    *output
	format format
	follow bool
	rows   [][]cell
	events []event
	last   time.Time
}

func (p *eventPrinter) print(e event) error {
	switch p.format {
	case formatJSONL:
		return p.out.jsonl(e)
	case formatJSON:
		p.events = append(p.events, e)
		return nil
	}
	text, c := e.words()
	local := e.Time.Local()
	if y, m, d := local.Date(); p.last.IsZero() || p.last.Day() != d || p.last.Month() != m || p.last.Year() != y {
		p.rows = append(p.rows, []cell{{}, {text: local.Format("2006-01-02"), colour: faint}})
	}
	p.last = local
	p.rows = append(p.rows, []cell{{text: fmt.Sprintf("%6d", e.Index)}, {text: local.Format("15:04:05.000")}, {text: text, colour: c}})
	if p.follow {
		p.flush()
	}
	return nil
}

func (p *eventPrinter) flush() {
	p.out.table(nil, p.rows)
	p.rows = nil
}

func (p *eventPrinter) close() error {
	if p.format == formatJSON {
		if p.events == nil {
			p.events = []event{}
		}
		return p.out.json(p.events)
	}
	p.flush()
	return nil
}
