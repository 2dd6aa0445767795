package governor

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/writ-run/writ/internal/evidence/segment"
	"github.com/writ-run/writ/internal/governor/store"
	"github.com/writ-run/writ/internal/model"
)

// orphan starts the busy workload and kills its governor.
func (h host) orphan(t *testing.T) (model.ExecutionID, *store.Dir) {
	t.Helper()
	cmd, _ := h.running(t)
	dir, _ := h.open(t)
	id := h.only(t)
	h.untilRenewed(t, id)
	_ = cmd.Process.Kill()
	await(t, "death of the governor", func() bool { return !dir.Governed(id) })
	return id, dir
}

// refused runs an adopter that must not take over, and say why.
func (h host) refused(t *testing.T, id model.ExecutionID, why error) {
	t.Helper()
	cmd := h.adopter(id)
	cmd.Stderr = nil
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), why.Error()) || strings.Contains(string(out), string(NoticeAdopted)) {
		t.Fatalf("not refused for %q: %v\n%s", why, err, out)
	}
}

// ended demands that the execution was ended and that the log says so.
func (h host) ended(t *testing.T) {
	t.Helper()
	h.stands(t)
	h.verified(t)
	h.leavesNothing(t)
}

// endsBy has a governor that took over end the execution.
func (h host) endsBy(t *testing.T, next *exec.Cmd, id model.ExecutionID) {
	t.Helper()
	h.untilRenewed(t, id)
	before := h.progress()
	await(t, "progress under the new governor", func() bool { return h.progress() > before })
	if code, p := h.order(t, id, model.OrderKill); code != 200 {
		t.Fatalf("kill: %d %+v", code, p)
	}
	_ = next.Wait()
	h.ended(t)
}

func TestAdoptionComesTooLate(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	id, dir := h.orphan(t)
	await(t, "end of the lease", func() bool { return !adoptable(dir, id) })
	h.refused(t, id, ErrTooLate)
	h.ended(t)
	h.refused(t, id, ErrNothingLeft)
}

// Of those who come at the same time one governs, and the others do no harm.
func TestOneOfManyAdopts(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.patient()
	id, _ := h.orphan(t)
	var all []*exec.Cmd
	said := make(chan *exec.Cmd, 8)
	for range 4 {
		cmd := h.adopter(id)
		kinds := events(t, cmd)
		all = append(all, cmd)
		go func() {
			for kind := range kinds {
				if kind == string(NoticeAdopted) {
					said <- cmd
				}
			}
		}()
	}
	winner := <-said
	for _, cmd := range all {
		if cmd != winner {
			if err := cmd.Wait(); err == nil {
				t.Error("a second governor governed")
			}
		}
	}
	if len(said) > 0 {
		t.Fatal("a second governor took over")
	}
	h.endsBy(t, winner, id)
}

// A governor that is stopped holds what it has; forced, it is ended first, and
// there is nothing left of it that could wake up.
func TestStoppedGovernorIsFenced(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.patient()
	cmd, _ := h.running(t)
	dir, _ := h.open(t)
	id := h.only(t)
	h.untilRenewed(t, id)
	if err := cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	h.refused(t, id, ErrGoverned)
	// Nor does it help to take the lock's file away: the guard asks the kernel.
	lock := filepath.Join(dir.Execution(id), "lock")
	if err := os.Rename(lock, lock+".gone"); err != nil {
		t.Fatal(err)
	}
	h.refused(t, id, ErrGoverned)
	if err := os.Rename(lock+".gone", lock); err != nil {
		t.Fatal(err)
	}
	if !adoptable(dir, id) {
		t.Fatal("being refused ended the execution")
	}
	next := h.adopter(id)
	next.Env = append(next.Env, "WRIT_TEST_FORCE=1")
	untilGoverned(t, events(t, next))
	if err := cmd.Process.Signal(unix.SIGCONT); err == nil {
		// Killed and not waited for it can still be signalled: it must be dead.
		if b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "stat")); err == nil && !strings.Contains(string(b), ") Z ") {
			t.Errorf("the governor before lives: %s", b)
		}
	}
	h.endsBy(t, next, id)
}

// A log that was changed since is not gone on with.
func TestTamperedLogIsNotAdopted(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.patient()
	id, dir := h.orphan(t)
	path := filepath.Join(dir.Log(id), segment.Name(0))
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[2000] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := h.adopter(id)
	cmd.Stderr = nil
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "damaged") {
		t.Fatalf("adopted: %v\n%s", err, out)
	}
	h.stands(t)
	h.leavesNothing(t)
}

func TestForeignEvidenceIsNotAdopted(t *testing.T) {
	engine := model.DigestOf([]byte("engine"))
	sub := model.Submission{Execution: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Boot: "boot"}
	for _, c := range []struct {
		p    past
		want error
	}{
		{past{engine: engine}, ErrNothingLeft},
		{past{sub: &sub, engine: model.DigestOf([]byte("another"))}, ErrOtherEngine},
		{past{sub: &sub}, ErrOtherEngine}, // of several engines
		{past{sub: &model.Submission{Execution: sub.Execution, Boot: "before"}, engine: engine}, ErrOtherBoot},
		{past{sub: &sub, engine: engine}, nil},
	} {
		if err := c.p.goesOn(sub.Execution, "boot", engine); !errors.Is(err, c.want) {
			t.Errorf("got %v, want %v", err, c.want)
		}
	}
	if err := (&past{sub: &sub, engine: engine}).goesOn("01ARZ3NDEKTSV4RRFFQ69G5FAW", "boot", engine); err == nil {
		t.Error("the evidence of another execution was taken")
	}
}

// How the workload ended while nobody governed it, the guard knows.
func TestEndWithoutGovernor(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.patient()
	cmd := h.command("sh", "-c", "echo > begun; while ! [ -e stop ]; do :; done; exit 5")
	kinds := events(t, cmd)
	untilGoverned(t, kinds)
	id := h.only(t)
	await(t, "workload", func() bool { return h.exists("begun") })
	h.untilRenewed(t, id)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err := os.WriteFile(filepath.Join(h.work, "stop"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir, _ := h.open(t)
	await(t, "end of the workload", func() bool {
		o, err := openOrphan(dir, id)
		if err != nil {
			t.Fatal("the guard did not wait: ", err)
		}
		defer o.Close()
		return o.Ended()
	})
	next := h.adopter(id)
	_ = next.Run()
	if code := next.ProcessState.ExitCode(); code != 5 {
		t.Errorf("exit code %d, want 5", code)
	}
	h.ended(t)
}

// A pause goes on under another governor, and ends by its order.
func TestPausedIsAdopted(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.patient()
	cmd, _ := h.running(t)
	dir, _ := h.open(t)
	id := h.only(t)
	if code, p := h.order(t, id, model.OrderPause); code != 200 {
		t.Fatalf("pause: %d %+v", code, p)
	}
	await(t, "pause", func() bool { return h.phase(t, id) == model.Paused })
	_ = cmd.Process.Kill()
	await(t, "death of the governor", func() bool { return !dir.Governed(id) })
	h.stands(t)
	next := h.adopter(id)
	untilGoverned(t, events(t, next))
	h.stands(t)
	if code, p := h.order(t, id, model.OrderResume); code != 200 {
		t.Fatalf("resume: %d %+v", code, p)
	}
	await(t, "resumption", func() bool { return h.phase(t, id) == model.Running })
	h.endsBy(t, next, id)
}
