package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Event is one record of the evidence, its body decoded.
type Event struct {
	Index     uint64          `json:"index"`
	Execution string          `json:"execution"`
	Time      time.Time       `json:"time"`
	Mono      int64           `json:"mono"` // nanoseconds of CLOCK_BOOTTIME
	Kind      string          `json:"kind"` // "input", "decision", "effect", "lease", ...
	Body      json.RawMessage `json:"body"`
	Digest    string          `json:"digest"` // of the record's canonical bytes
}

// maxEvent bounds one event of a stream: records are at most 16 MiB, and their
// JSON is longer.
const maxEvent = 64 << 20

// Events calls each with the records from an index on, in order, as they are
// recorded, and returns nil when the stream ends: with the execution, or with its
// governor. Status then tells which, or ErrGone. An error of each ends it and is
// returned.
func (c *Client) Events(ctx context.Context, from uint64, each func(Event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.send(ctx, http.MethodGet, "/v1/events?from="+strconv.FormatUint(from, 10), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	err = readStream(resp.Body, each)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("following the evidence: %w", context.Cause(ctx))
	}
	return err
}

// readStream reads server-sent events (WHATWG HTML section 9.2): the fields
// "data" of one event, joined, are one record.
func readStream(r io.Reader, each func(Event) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	var data strings.Builder
	for lines.Scan() {
		line := lines.Text()
		if value, ok := strings.CutPrefix(line, "data:"); ok {
			if data.Len()+len(value) > maxEvent {
				return errors.New("following the evidence: an event is too long")
			}
			data.WriteString(strings.TrimPrefix(value, " "))
			data.WriteByte('\n')
			continue
		}
		if line != "" || data.Len() == 0 {
			continue // another field, a comment, or an event without data
		}
		var e Event
		if err := json.Unmarshal([]byte(data.String()), &e); err != nil {
			return fmt.Errorf("following the evidence: reading a record: %w", err)
		}
		data.Reset()
		if err := each(e); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("following the evidence: %w", err)
	}
	return nil
}
