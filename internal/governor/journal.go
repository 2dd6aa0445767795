package governor

import (
	"context"
	"fmt"

	"github.com/writ-run/writ/internal/evidence/log"
	"github.com/writ-run/writ/internal/evidence/record"
	"github.com/writ-run/writ/internal/model"
)

// logJournal is the journal in an evidence log. The loop's goroutine uses it.
type logJournal struct {
	log   *log.Log
	book  *record.Book
	clock func() (mono, wall int64)
}

// Append implements journal.
func (j *logJournal) Append(ctx context.Context, steps []step) error {
	var batch []model.Record
	for _, s := range steps {
		records, err := j.book.Step(s.input, s.effects)
		if err != nil {
			return err
		}
		batch = append(batch, records...)
	}
	return j.write(ctx, batch)
}

// Heartbeat implements journal.
func (j *logJournal) Heartbeat(ctx context.Context, b model.Heartbeat) error {
	return j.write(ctx, []model.Record{j.book.Heartbeat(j.at(), b)})
}

// Begin writes what the records of the execution will name by digest, and the
// keys that sign them.
func (j *logJournal) Begin(ctx context.Context, keys []model.KeyEvent, artifacts []model.Artifact) error {
	var batch []model.Record
	for _, k := range keys {
		batch = append(batch, j.book.Key(j.at(), k))
	}
	for _, a := range artifacts {
		batch = append(batch, j.book.Artifact(j.at(), a))
	}
	return j.write(ctx, batch)
}

// Outage writes that nothing could be recorded for a time.
func (j *logJournal) Outage(ctx context.Context, o model.Outage) error {
	return j.write(ctx, []model.Record{j.book.Outage(j.at(), o)})
}

func (j *logJournal) at() record.Time {
	mono, wall := j.clock()
	return record.Time{Mono: mono, Wall: wall}
}

func (j *logJournal) write(ctx context.Context, batch []model.Record) error {
	if len(batch) == 0 {
		return nil
	}
	if _, err := j.log.Append(ctx, batch).Wait(ctx); err != nil {
		return fmt.Errorf("appending to the evidence log: %w", err)
	}
	return nil
}
