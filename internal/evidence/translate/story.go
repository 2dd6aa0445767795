package translate

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/writ-run/writ/internal/evidence/log"
	"github.com/writ-run/writ/internal/model"
)

// Source gives the records of one log in order, and io.EOF behind the last;
// *log.Reader is one.
type Source interface {
	Next() (log.Entry, error)
}

// At is the record that something was said in.
type At struct {
	Index  uint64
	Time   time.Time
	Digest model.Digest // of the record's encoding
}

// Acted is an action from its request to what became of it.
type Acted struct {
	Asked   At
	Decided At
	Ended   *At // nil where it was denied, or is still open
	Action  model.Action
	Ruling  model.Ruling
	Outcome *model.Outcome // with Ended
}

// Changed is something else that happened.
type Changed struct {
	At
	Effect model.Effect // of kind phase, condition, or a decision on start or continue
	Order  *model.Order // or an order
}

// Story is what a log tells, as it is read.
type Story struct {
	Submission model.Submission
	Submitted  At
	Last       At
	Engines    []model.Digest
	Phase      model.Phase
	Exit       *model.Exit
	Leases     uint64
	Allowed    uint64
	Denied     uint64
	Lost       []model.ConditionState // each loss, in order
	Heartbeats uint64

	open map[uint64]*Acted
	last model.Digest // engine
}

// Read goes through a log. acted is called once for each action, when it was
// denied or its outcome is known, and at the end for those that are open;
// changed for everything else that others want to hear of. Both may be nil. It
// holds the open actions in memory.
func Read(s Source, acted func(*Story, Acted) error, changed func(*Story, Changed) error) (*Story, error) {
	y := &Story{open: map[uint64]*Acted{}}
	if acted == nil {
		acted = func(*Story, Acted) error { return nil }
	}
	if changed == nil {
		changed = func(*Story, Changed) error { return nil }
	}
	for {
		e, err := s.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := y.record(e, acted, changed); err != nil {
			return nil, fmt.Errorf("record %d: %w", e.Index, err)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(y.open)) {
		if a := y.open[n]; a.Decided != (At{}) { // else it was held when the log ended
			if err := acted(y, *a); err != nil {
				return nil, err
			}
		}
	}
	return y, nil
}

func (y *Story) record(e log.Entry, acted func(*Story, Acted) error, changed func(*Story, Changed) error) error {
	r := e.Record
	at := At{Index: e.Index, Time: time.Unix(0, r.Wall).UTC(), Digest: model.DigestOf(e.Leaf)}
	y.Last = at
	if r.Engine != y.last {
		y.last = r.Engine
		y.Engines = append(y.Engines, r.Engine)
	}
	switch r.Kind {
	case model.RecordInput:
		in, err := model.Decode[model.Input](r.Body)
		if err != nil {
			return err
		}
		return y.input(at, in, acted, changed)
	case model.RecordDecision, model.RecordEffect:
		f, err := model.Decode[model.Effect](r.Body)
		if err != nil {
			return err
		}
		return y.effect(at, f, acted, changed)
	case model.RecordLease:
		y.Leases++
	case model.RecordHeartbeat:
		y.Heartbeats++
	}
	return nil
}

func (y *Story) input(at At, in model.Input, acted func(*Story, Acted) error, changed func(*Story, Changed) error) error {
	switch in.Kind {
	case model.InputSubmit:
		y.Submission, y.Submitted = *in.Submission, at
	case model.InputAsk:
		y.open[in.Action.Number] = &Acted{Asked: at, Action: *in.Action}
	case model.InputOutcome:
		a, ok := y.open[in.Outcome.Number]
		if !ok {
			return nil
		}
		delete(y.open, in.Outcome.Number)
		a.Ended, a.Outcome = &at, in.Outcome
		return acted(y, *a)
	case model.InputOrder:
		return changed(y, Changed{At: at, Order: in.Order})
	}
	return nil
}

func (y *Story) effect(at At, f model.Effect, acted func(*Story, Acted) error, changed func(*Story, Changed) error) error {
	switch f.Kind {
	case model.EffectDecision:
		if f.Ruling.Action == 0 {
			if f.Ruling.Kind == model.ActionContinue && f.Ruling.Decision.Allow {
				return nil // several a second, and each is a lease
			}
			return changed(y, Changed{At: at, Effect: f})
		}
		a, ok := y.open[f.Ruling.Action]
		if !ok {
			return nil
		}
		a.Decided, a.Ruling = at, *f.Ruling
		if f.Ruling.Decision.Allow {
			y.Allowed++
			return nil
		}
		y.Denied++
		delete(y.open, f.Ruling.Action)
		return acted(y, *a)
	case model.EffectPhase:
		y.Phase = f.Phase
		if f.Exit != nil {
			y.Exit = f.Exit
		}
		return changed(y, Changed{At: at, Effect: f})
	case model.EffectCondition:
		if f.Condition.Standing != model.Holds {
			y.Lost = append(y.Lost, *f.Condition)
		}
		return changed(y, Changed{At: at, Effect: f})
	}
	return nil
}
