package log

import (
	"fmt"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
	"github.com/writ-run/writ/internal/evidence/segment"
	"github.com/writ-run/writ/internal/model"
)

// pending is a batch on its way: encoded and hashed by its caller, so that the
// sequencer does neither.
type pending struct {
	execution model.ExecutionID
	first     uint64
	frames    []byte
	leaves    []model.Digest
	future    *Future
}

func newPending(batch []model.Record, f *Future) (*pending, error) {
	if len(batch) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrOrder)
	}
	p := &pending{
		execution: batch[0].Execution, first: batch[0].Seq, future: f,
		leaves: make([]model.Digest, len(batch)),
	}
	var scratch []byte
	for i := range batch {
		if batch[i].Execution != p.execution || batch[i].Seq != p.first+uint64(i) {
			return nil, fmt.Errorf("%w: its records do not follow each other", ErrOrder)
		}
		leaf := model.Encode(batch[i])
		if len(leaf) > segment.MaxPayload {
			return nil, fmt.Errorf("%w: record %d has %d bytes", ErrTooLarge, batch[i].Seq, len(leaf))
		}
		p.leaves[i], scratch = checkpoint.LeafHash(leaf, scratch)
		p.frames = segment.AppendFrame(p.frames, segment.FrameRecord, leaf)
		if len(p.frames) > MaxBatch {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxBatch)
		}
	}
	return p, nil
}

// sequence is the total order of the log. It returns when the queue is closed
// and empty.
func (l *Log) sequence() {
	defer close(l.ended)
	var group []*pending
	for p := range l.queue {
		group = l.gather(append(group[:0], p))
		if fatal := l.Err(); fatal != nil {
			fail(group, fatal)
			continue
		}
		group = l.w.inOrder(group)
		if len(group) == 0 {
			continue
		}
		if err := l.w.flush(group); err != nil {
			// What was written may be on the disk or not: only opening the log
			// again tells, so it is not answered for.
			fatal := fmt.Errorf("%w: %w", ErrFatal, err)
			now := *l.state.Load()
			now.fatal = fatal
			l.state.Store(&now)
			fail(group, fatal)
			continue
		}
		l.state.Store(&state{size: l.w.tree.Size(), checkpoint: l.w.signed})
		for _, p := range group {
			p.future.resolve(Receipt{First: p.first, Size: l.w.tree.Size(), Checkpoint: l.w.signed}, nil)
		}
		l.second.offer(l.w.tree.Size(), l.w.signed)
	}
}

// gather takes what else is queued, as far as one flush is good for.
func (l *Log) gather(group []*pending) []*pending {
	for size := len(group[0].frames); size < maxFlush; {
		select {
		case p, ok := <-l.queue:
			if !ok {
				return group
			}
			group = append(group, p)
			size += len(p.frames)
		default:
			return group
		}
	}
	return group
}

func fail(group []*pending, err error) {
	for _, p := range group {
		p.future.resolve(Receipt{}, err)
	}
}

// writer is the end of the log on disk. It belongs to the sequencer.
type writer struct {
	opts      Options
	dir       storage
	file      file
	at        int64 // where the next flush goes
	allocated int64 // size of file
	tree      checkpoint.Tree
	root      model.Digest // of tree
	signed    []byte       // checkpoint over tree
	buf       []byte
}

// inOrder answers for the batches that do not follow on the log, and returns
// the others.
func (w *writer) inOrder(group []*pending) []*pending {
	kept, next := group[:0], w.tree.Size()
	for _, p := range group {
		switch {
		case p.execution != w.opts.Execution:
			p.future.resolve(Receipt{}, fmt.Errorf("%w: it is of execution %q, the log of %q", ErrOrder, p.execution, w.opts.Execution))
		case p.first != next:
			p.future.resolve(Receipt{}, fmt.Errorf("%w: it starts with record %d, the log needs %d", ErrOrder, p.first, next))
		default:
			kept = append(kept, p)
			next += uint64(len(p.leaves))
		}
	}
	return kept
}

// flush makes the batches durable under one signed checkpoint. After an error
// the writer is of no use any more.
func (w *writer) flush(group []*pending) error {
	before := segment.Header{Origin: w.opts.origin(), First: w.tree.Size(), PreviousRoot: w.root}
	link := w.link()
	w.buf = w.buf[:0]
	for _, p := range group {
		w.buf = append(w.buf, p.frames...)
		for _, leaf := range p.leaves {
			w.tree.Append(leaf)
		}
	}
	w.root = w.tree.Root()
	signed, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: before.Origin, Size: w.tree.Size(), Root: w.root, Previous: link}, w.opts.Signer)
	if err != nil {
		return err
	}
	w.buf = segment.AppendFrame(w.buf, segment.FrameCheckpoint, signed)
	if err := w.makeRoom(before); err != nil {
		return err
	}
	if _, err := w.file.WriteAt(w.buf, w.at); err != nil {
		return fmt.Errorf("writing evidence: %w", err)
	}
	if err := w.file.datasync(); err != nil {
		return fmt.Errorf("flushing evidence: %w", err)
	}
	w.at += int64(len(w.buf))
	w.signed = signed
	if cap(w.buf) > 2*maxFlush {
		w.buf = nil
	}
	return nil
}

// link names the last checkpoint.
func (w *writer) link() checkpoint.Link {
	if w.signed == nil {
		return checkpoint.Link{}
	}
	return checkpoint.LinkTo(w.tree.Size(), w.signed)
}

// makeRoom sees to it that buf fits at the end of the segment.
func (w *writer) makeRoom(h segment.Header) error {
	need := int64(len(w.buf))
	if w.file != nil && w.at+need <= w.allocated {
		return nil
	}
	if w.file != nil && w.at == int64(h.Len()) {
		// The segment is empty, and still too small.
		w.allocated = w.at + need
		if err := w.file.allocate(w.allocated); err != nil {
			return fmt.Errorf("enlarging segment: %w", err)
		}
		return nil
	}
	if w.file != nil {
		if err := w.seal(); err != nil {
			return err
		}
		if err := w.file.Close(); err != nil {
			return fmt.Errorf("closing segment: %w", err)
		}
	}
	return w.create(h, max(w.opts.SegmentSize, int64(h.Len())+need))
}

// seal cuts the segment to its real end.
func (w *writer) seal() error {
	if w.file == nil {
		return nil
	}
	if err := w.file.truncate(w.at); err != nil {
		return fmt.Errorf("cutting segment: %w", err)
	}
	if err := w.file.datasync(); err != nil {
		return fmt.Errorf("flushing segment: %w", err)
	}
	w.allocated = w.at
	return nil
}

// create makes the next segment. It has its name only when its header is durable.
func (w *writer) create(h segment.Header, size int64) (err error) {
	name := segment.Name(h.First)
	doing := func(what string, err error) error { return fmt.Errorf("%s segment %s: %w", what, name, err) }
	w.file, err = w.dir.create(name + tmpSuffix)
	if err != nil {
		return doing("creating", err)
	}
	if err := w.file.allocate(size); err != nil {
		return doing("preallocating", err)
	}
	header := h.Append(nil)
	if _, err := w.file.WriteAt(header, 0); err != nil {
		return doing("writing", err)
	}
	if err := w.file.datasync(); err != nil {
		return doing("flushing", err)
	}
	if err := w.dir.rename(name+tmpSuffix, name); err != nil {
		return doing("naming", err)
	}
	if err := w.dir.sync(); err != nil {
		return doing("naming", err)
	}
	w.at, w.allocated = int64(len(header)), size
	return nil
}

func (w *writer) close() error {
	var err error
	if w.file != nil {
		err = w.file.Close()
	}
	if e := w.dir.close(); err == nil {
		err = e
	}
	return err
}
