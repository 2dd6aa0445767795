package main

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"time"

	"github.com/writ-run/writ/internal/evidence/verify"
)

// writeTable writes the answer for people. Texts out of the log are quoted: it
// may be anybody's.
func writeTable(out io.Writer, path string, r verify.Result) error {
	var b bytes.Buffer
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintln(&b, r.Verdict)
	if r.Verdict == verify.Invalid {
		row("record", "%d", *r.Index)
		row("reason", "%s: %s", r.Reason, plain(r.Detail))
		place := r.Segment
		if r.Offset != nil {
			place += ", byte " + strconv.FormatInt(*r.Offset, 10)
		}
		if r.Segment != "" {
			row("place", "%s", plain(place))
		}
	}
	for _, m := range r.Missing {
		row("missing", "%s", plain(m))
	}
	if r.Difference != nil {
		row("recorded", "%s", r.Difference.Recorded)
		row("replayed", "%s", r.Difference.Replayed)
	}
	row("log", "%s", plain(filepath.Clean(path)))
	if r.Execution != "" {
		row("execution", "%s", r.Execution)
	}
	row("records", "%d under %d checkpoints", r.Records, r.Checkpoints)
	if r.Checkpoints > 0 {
		row("root", "%s", r.Root)
	}
	if r.Phase != 0 {
		row("phase", "%s", r.Phase)
	}
	row("leases", "%d", r.Leases)
	row("actions", "%d allowed", r.Actions)
	if r.FirstWall != 0 {
		row("from", "%s", time.Unix(0, r.FirstWall).UTC().Format(time.RFC3339Nano))
		row("until", "%s", time.Unix(0, r.LastWall).UTC().Format(time.RFC3339Nano))
	}
	untrusted := false
	for _, k := range r.Keys {
		trust := "trusted"
		if !k.Trusted {
			trust, untrusted = "not trusted", true
		}
		row(k.Role+" key", "%s (%s)", plain(k.Verifier), trust)
	}
	for _, e := range r.Engines {
		row("engine", "%s", e)
	}
	row("replayed", "%t", r.Replayed)
	for _, n := range r.Notes {
		row("note", "%s", plain(n))
	}
	if untrusted && r.Verdict == verify.Unverifiable {
		row("fix", "get the host's keys by a way you trust, and give them with --trust FILE or --key VKEY")
	}
	_, err := out.Write(b.Bytes())
	return err
}

// plain shows a text as it is if that is harmless on a terminal, else quoted.
func plain(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	return s
}
