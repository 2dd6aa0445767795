package governor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/writ-run/writ/internal/model"
)

// asAdopter makes the test binary a governor that adopts the execution in its
// arguments.
const asAdopter = "WRIT_TEST_ADOPTER"

func beAdopter(state, id string) int {
	os.Unsetenv(asAdopter)
	r, err := Adopt(context.Background(), Adoption{
		StateDir: state, Execution: model.ExecutionID(id), Stdin: os.Stdin, Force: os.Getenv("WRIT_TEST_FORCE") != "",
		Notify: func(n Notice) { fmt.Fprintf(os.Stderr, "notice: %+v\n", n) },
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	if r.Phase != model.Completed {
		fmt.Fprintln(os.Stderr, r.Phase, r.Reason)
		return 137
	}
	return int(r.Exit.Code)
}

func (h host) adopter(id model.ExecutionID) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", string(id))
	cmd.Dir = h.work
	cmd.Env = append(os.Environ(), asAdopter+"="+h.state)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestAdopt(t *testing.T) {
	for _, tier := range []string{"", "user"} {
		t.Run("tier "+tier, func(t *testing.T) {
			h := newHost(t)
			h.tier = tier
			cmd, _ := h.running(t)
			id := h.only(t)
			_ = cmd.Process.Kill()
			await(t, "death of the governor", func() bool { dir, _ := h.open(t); return !dir.Governed(id) })
			next := h.adopter(id)
			if err := next.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = next.Process.Kill(); _ = next.Wait() }()
			await(t, "adoption", func() bool { dir, _ := h.open(t); return dir.Governed(id) })
			before := h.progress()
			await(t, "progress after the adoption", func() bool { return h.progress() > before+100 })
			await(t, "answer", func() bool { return h.phase(t, id) == model.Running })
			if code, p := h.order(t, id, model.OrderKill); code != 200 {
				t.Fatalf("kill: %d %+v", code, p)
			}
			_ = next.Wait()
			h.stands(t)
			h.verified(t)
			h.leavesNothing(t)
		})
	}
}
