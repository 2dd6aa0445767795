package enforce

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/writ-run/writ/internal/model"
)

// What passes through as if Writ were not there.
func TestPassesThrough(t *testing.T) {
	eachTier(t, func(t *testing.T, tier model.Tier) {
		t.Run("arguments and environment", func(t *testing.T) {
			s := spec(t, tier, "/bin/sh", "-c", `printf '%s|' "$0" "$@" "$ODD"`, "zero", "", "a b", "\xff\xfe", "*\n'\"")
			s.Env = append(s.Env, "ODD=\xf0\x28")
			if o := run(t, s); o.out != "zero||a b|\xff\xfe|*\n'\"|\xf0\x28|" {
				t.Errorf("%q", o.out)
			}
		})
		t.Run("limits and masks", func(t *testing.T) {
			const script = "ulimit -n; ulimit -s; ulimit -f; umask; grep -E 'SigBlk|SigIgn' /proc/self/status"
			want, err := exec.Command("/bin/sh", "-c", script).Output()
			if err != nil {
				t.Fatal(err)
			}
			if out := sh(t, spec(t, tier), script); out != string(want) {
				t.Errorf("inside:\n%soutside:\n%s", out, want)
			}
		})
		t.Run("ignored hang-up", func(t *testing.T) {
			signal.Ignore(unix.SIGHUP)
			defer signal.Reset(unix.SIGHUP)
			if out := sh(t, spec(t, tier), "kill -HUP $$; echo alive"); out != "alive\n" {
				t.Errorf("%q", out)
			}
		})
		t.Run("stdin", func(t *testing.T) {
			s := spec(t, tier, "/bin/cat")
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			go func() { fmt.Fprint(w, strings.Repeat("line\n", 50000)); w.Close() }()
			s.Stdin = r
			if o := run(t, s); len(o.out) != 250000 {
				t.Errorf("%d bytes of 250000", len(o.out))
			}
			r.Close()
		})
		t.Run("streams end with the workload", func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			s := spec(t, tier, "/bin/sh", "-c", "echo out; (setsid sleep 1000 &)")
			s.Stdout = w
			sb := arm(t, s)
			w.Close()
			sb.SetDeadline(In(time.Minute), In(time.Minute))
			if err := sb.Release(testContext(t)); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 100)
			n, _ := r.Read(b)
			if m, err := r.Read(b[n:]); string(b[:n]) != "out\n" || m != 0 || err == nil {
				t.Errorf("%q, then %d, %v", b[:n], m, err)
			}
		})
	})
}

func init() {
	// armer ID TIER DIR: arms, says so, and releases nothing.
	helpers["armer"] = func(args []string) {
		var tier model.Tier
		if tier.UnmarshalText([]byte(args[1])) != nil {
			os.Exit(97)
		}
		sb, err := Arm(context.Background(), specIn(args[0], tier, args[2], "/bin/sh", "-c", "echo > ran"))
		if err != nil {
			fmt.Println("error", err)
			os.Exit(97)
		}
		sb.SetDeadline(In(time.Hour), In(time.Hour))
		fmt.Println("armed", sb.GuardPID())
		select {}
	}
}

// A governor that dies before the release takes the workload with it, with the
// deadline an hour away; the execve that it never gets to would be let through.
func TestGovernorKilledBeforeRelease(t *testing.T) {
	eachTier(t, func(t *testing.T, tier model.Tier) {
		s := spec(t, tier)
		cmd := exec.Command("/proc/self/exe", "helper:armer", s.ID, tier.String(), s.Dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var guard int
		if _, err := fmt.Fscanf(out, "armed %d", &guard); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		await(t, "no process is left", func() bool { return len(processesOf(s.ID)) == 0 })
		await(t, "control groups are gone", func() bool { return !hasGroups(s.ID) })
		if _, err := os.Stat(filepath.Join(s.Dir, "ran")); err == nil {
			t.Error("it ran")
		}
	})
}

// The guard costs little while nothing happens.
func TestGuardIsIdle(t *testing.T) {
	eachTier(t, func(t *testing.T, tier model.Tier) {
		sb := arm(t, spec(t, tier, "/bin/sleep", "1000"))
		sb.SetDeadline(In(time.Minute), In(time.Minute))
		if err := sb.Release(testContext(t)); err != nil {
			t.Fatal(err)
		}
		ticks := func() (sum int) {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", sb.GuardPID()))
			if err != nil {
				t.Fatal(err)
			}
			f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')'):]))
			var u, s int
			fmt.Sscan(f[12], &u)
			fmt.Sscan(f[13], &s)
			return u + s
		}
		await(t, "it runs", func() bool { return strings.HasPrefix(cmdline(sb.MainPID()), "/bin/sleep") })
		before := ticks()
		for range 200 { // renewing costs it nothing
			sb.SetDeadline(In(time.Minute), In(time.Minute))
			<-time.After(2 * time.Millisecond)
		}
		if spent := ticks() - before; spent > 3 {
			t.Errorf("%d ticks of 10 ms", spent)
		}
		status, err := fields(fmt.Sprintf("/proc/%d/status", sb.GuardPID()))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("guard: resident %s, of which anonymous %s, locked %s, threads %s", status["VmRSS"], status["RssAnon"], status["VmLck"], status["Threads"])
	})
}
