package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/writ-run/writ/client"
	"github.com/writ-run/writ/internal/evidence/log"
	"github.com/writ-run/writ/internal/governor/store"
	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/problem"
)

// history is what the evidence log of an execution says has become of it.
type history struct {
	id         model.ExecutionID
	submission *model.Submission // nil where the log does not say
	submitted  time.Time
	phase      model.Phase
	reason     string
	since      time.Time // when the phase began
	lease      uint64
	actions    uint64
	records    uint64
	exit       *model.Exit
	conditions [model.NumConditions]model.ConditionState
}

// readHistory folds the records of an execution. A log that is damaged at some
// place tells what it told up to there, and the error.
func readHistory(dir *store.Dir, id model.ExecutionID) (*history, error) {
	h := newHistory(id)
	err := readLog(dir.Log(id), 0, func(e log.Entry) error {
		ev, err := eventOf(e)
		if err != nil {
			return err
		}
		h.take(ev)
		return nil
	})
	if errors.Is(err, log.ErrNoLog) {
		return h, problem.New("evidence_missing", "execution %s has no evidence log", id).Because(err)
	}
	return h, err
}

func newHistory(id model.ExecutionID) *history {
	h := &history{id: id}
	for i, c := range model.AllConditions() {
		h.conditions[i].Condition = c
	}
	return h
}

// take adds the next record.
func (h *history) take(e event) {
	h.records = e.Index + 1
	switch b := e.Body.(type) {
	case model.Input:
		switch b.Kind {
		case model.InputSubmit:
			h.submission, h.submitted = b.Submission, e.Time
		case model.InputAsk:
			h.actions = max(h.actions, b.Action.Number)
		}
	case model.SignedLease:
		if b.Effect.Lease != nil {
			h.lease = b.Effect.Lease.Seq
		}
	case model.Effect:
		switch b.Kind {
		case model.EffectPhase:
			h.phase, h.reason, h.since = b.Phase, b.Reason, e.Time
			if b.Exit != nil {
				h.exit = b.Exit
			}
		case model.EffectCondition:
			if c := b.Condition; c.Condition.Valid() {
				h.conditions[c.Condition-1] = *c
			}
		}
	}
}

const (
	// patience is how long a governor may take to carry out an order.
	patience = 3 * time.Second
	// glance is how long it may take to say how it stands; then the log tells.
	glance = 500 * time.Millisecond
)

// dial returns a client for the governor of an execution, and tells whether one
// is alive.
func dial(dir *store.Dir, id model.ExecutionID) (*client.Client, bool) {
	return client.Dial(dir.Socket(id)), dir.Governed(id)
}

// find resolves what a user calls an execution.
func find(dir *store.Dir, text string) (model.ExecutionID, error) {
	id, err := dir.Find(text)
	switch {
	case err == nil:
		return id, nil
	case text == "last":
		return "", problem.New("no_execution", "nothing has been run yet in %s", dir.Root()).Because(err)
	case errors.Is(err, store.ErrNotFound):
		p := problem.New("no_such_execution", "there is no execution %q in %s", text, dir.Root()).Because(err)
		if len(text) < 4 {
			p.WithWhy("an ID may be cut, but not to less than four characters")
		}
		return "", p
	}
	return "", err
}

// liveStatus asks the governor of an execution, if one is alive.
func liveStatus(ctx context.Context, dir *store.Dir, id model.ExecutionID) (client.Status, error) {
	c, alive := dial(dir, id)
	defer c.Close()
	if !alive {
		return client.Status{}, fmt.Errorf("execution %s: %w", id, client.ErrGone)
	}
	ctx, cancel := context.WithTimeout(ctx, glance)
	defer cancel()
	return c.Status(ctx)
}
