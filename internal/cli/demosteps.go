package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/writ-run/writ/internal/evidence/segment"
	"github.com/writ-run/writ/internal/evidence/verify"
)

// allowed: a command runs, and what it did was decided.
func (d *demo) allowed(ctx context.Context) error {
	r, err := d.shown(ctx, "run", "--", "sh", "-c", "echo hello > greeting && cat greeting")
	if err != nil {
		return err
	}
	if r.code != 0 || r.stdout != "hello\n" {
		return r.failed("it does not run")
	}
	id, err := d.newest(ctx)
	if err != nil {
		return err
	}
	var decisions []struct {
		Body struct {
			Ruling struct {
				Action   uint64
				Decision struct{ Allow bool }
			}
		}
	}
	if err := d.ask(ctx, &decisions, "events", id, "--kind", "decision", "-o", "json"); err != nil {
		return err
	}
	n := 0
	for _, x := range decisions {
		if x.Body.Ruling.Action > 0 && x.Body.Ruling.Decision.Allow {
			n++
		}
	}
	if n < 2 {
		return fmt.Errorf("%d actions were allowed, want at least 2", n)
	}
	var list []execution
	if err := d.ask(ctx, &list, "ps", "-a", "-o", "json"); err != nil {
		return err
	}
	d.proved("%d actions (programs to run) were decided and recorded before they happened; tier %s", n, list[0].Tier)
	return nil
}

// demoPolicy forbids what step 2 tries.
const demoPolicy = `// This agent may do what the built-in policy permits, but not delete files.
@id("no-deleting")
forbid (principal, action == Writ::Action::"exec", resource)
when { context.command like "rm *" };
`

// denied: a policy forbids an action, and why names it.
func (d *demo) denied(ctx context.Context) error {
	if err := os.WriteFile(filepath.Join(d.work, "no-deleting.cedar"), []byte(demoPolicy), 0o600); err != nil {
		return err
	}
	r, err := d.shown(ctx, "run", "--policy", "no-deleting.cedar", "--", "sh", "-c", "rm greeting")
	if err != nil {
		return err
	}
	if r.code == 0 || !exists(filepath.Join(d.work, "greeting")) {
		return r.failed("the file could be deleted")
	}
	if r, err = d.shown(ctx, "why", "last"); err != nil {
		return err
	}
	if r.code != 0 || !strings.Contains(r.stdout, "no-deleting at no-deleting.cedar:3:1") || !strings.Contains(r.stdout, `context.command like "rm *"`) {
		return r.failed("it does not name the policy")
	}
	d.proved("the file is still there; the policy that decided is named with file, line and text")
	return nil
}

// ticking is a process that never pauses: each line is progress.
const ticking = "while :; do echo tick >> "

// revoked: a grant is taken away from a process that is busy.
func (d *demo) revoked(ctx context.Context) error {
	b, err := d.busy(ctx, "revoked.ticks")
	if err != nil {
		return err
	}
	defer b.end()
	at := time.Now()
	r, err := d.shown(ctx, "grant", "revoke", b.id)
	if err != nil {
		return err
	}
	if r.code != 0 {
		return r.failed("the grant was not revoked")
	}
	code, err := b.wait(ctx)
	if err != nil {
		return err
	}
	if code != 137 {
		return fmt.Errorf("the run exited with %d, want 137: %s", code, b.stderr.String())
	}
	lines, stopped, err := b.stopped(ctx)
	if err != nil {
		return err
	}
	var w why
	if err := d.ask(ctx, &w, "why", b.id, "-o", "json"); err != nil {
		return err
	}
	reason := ""
	if w.Decision != nil {
		for _, c := range w.Decision.Lost {
			reason += c.Condition.String() + " " + c.Reason
		}
	}
	if !strings.Contains(reason, "authorization revoked") {
		return fmt.Errorf("it was stopped for another reason: %q", reason)
	}
	d.proved("it had written %d lines, the last %s after the revocation began, and not one since", lines, since(at, stopped))
	return nil
}

// governorKilled: the governor dies without a word, and the workload with it.
func (d *demo) governorKilled(ctx context.Context) error {
	b, err := d.busy(ctx, "orphan.ticks")
	if err != nil {
		return err
	}
	defer b.end()
	d.out.print("   $ kill -KILL %d        # the governor of %s", b.cmd.Process.Pid, b.id)
	at := time.Now()
	if err := b.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("killing the governor: %w", err)
	}
	if _, err := b.wait(ctx); err != nil {
		return err
	}
	if err := awaitGone(ctx, b.main); err != nil {
		return err
	}
	gone := time.Now()
	lines, stopped, err := b.stopped(ctx)
	if err != nil {
		return err
	}
	d.proved("it had written %d lines, the last %s after the kill; all its processes were gone after %s", lines, since(at, stopped), since(at, gone))
	return nil
}

// verified: all evidence of this demonstration convinces the verifier.
func (d *demo) verified(ctx context.Context) error {
	var list []execution
	if err := d.ask(ctx, &list, "ps", "-a", "-o", "json"); err != nil {
		return err
	}
	if len(list) < 4 {
		return fmt.Errorf("there are %d executions, want 4", len(list))
	}
	for _, e := range list {
		r, err := d.shown(ctx, "evidence", "verify", string(e.ID), "-o", "jsonl")
		if err != nil {
			return err
		}
		var v verify.Result
		if json.Unmarshal([]byte(r.stdout), &v) != nil || r.code != 0 || v.Verdict != verify.Valid || !v.Replayed {
			return r.failed("the evidence is not valid")
		}
		d.proved("VALID: %d records, %s; every decision replayed byte for byte", v.Records, e.Phase)
	}
	return nil
}

// tampered: one bit of one record is changed, in a copy.
func (d *demo) tampered(ctx context.Context) error {
	id, err := d.newest(ctx)
	if err != nil {
		return err
	}
	from, to := filepath.Join(d.state, "executions", id, "log"), filepath.Join(d.dir, "tampered")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return fmt.Errorf("copying the log: %w", err)
	}
	at, err := flipOneBit(filepath.Join(to, segment.Name(0)))
	if err != nil {
		return err
	}
	d.out.print("   one bit is flipped in byte %d of a copy of the last log", at)
	r, err := d.shown(ctx, "evidence", "verify", to, "-o", "jsonl")
	if err != nil {
		return err
	}
	var v verify.Result
	if json.Unmarshal([]byte(r.stdout), &v) != nil || r.code != 1 || v.Verdict != verify.Invalid || v.Index == nil {
		return r.failed("the tampered copy is not refused")
	}
	d.proved("INVALID from record %d on: %s", *v.Index, v.Reason)
	return nil
}

// flipOneBit changes a segment in the middle of what was written to it: the end
// is room that was laid out ahead.
func flipOneBit(path string) (at int, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("tampering: %w", err)
	}
	written := len(content)
	for written > 0 && content[written-1] == 0 {
		written--
	}
	if written == 0 {
		return 0, fmt.Errorf("tampering: %s holds nothing", path)
	}
	at = written / 2
	content[at] ^= 1
	return at, os.WriteFile(path, content, 0o600)
}

func since(from, to time.Time) string {
	return max(0, to.Sub(from)).Round(time.Millisecond).String()
}
