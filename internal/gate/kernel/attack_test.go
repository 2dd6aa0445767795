package kernel

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/writ-run/writ/internal/model"
)

// A program that is allowed and one that is not, of the same size, change
// places between the decision and the exec. The second never runs.
func TestWhatIsExecutedIsWhatWasAllowed(t *testing.T) {
	attack := compile(t, "attack")
	for _, where := range []string{"/tmp", "/dev/shm"} { // with and without times kept for mapped writes
		for _, mode := range []string{"path", "symlink", "rename", "content", "mapped", "argv"} {
			t.Run(mode+where, func(t *testing.T) {
				dir := publicDir(t)
				if where == "/dev/shm" {
					dir = shmDir(t)
				}
				good, evil := compileMark(t, dir, "good"), compileMark(t, dir, "evil")
				wrong := digestOf(t, evil)
				args := []string{attack, mode, good, evil, "150"}
				// How often the attacker wins its race is up to the scheduler.
				for round := 0; round < 10; round++ {
					r := underGate(t, func(_ context.Context, a model.Action) model.Decision {
						return model.Decision{Allow: a.Resource.Digest != wrong && !slices.Contains(a.Args, "no")}
					}, args...)
					out, code := r.do()
					if code != 0 || out != "end\n" {
						t.Fatalf("exit %d: %s", code, out)
					}
					if _, err := os.Stat(dir + "/ran-evil"); err == nil {
						t.Fatal("what was not allowed has run")
					}
					done := 0
					for _, o := range r.asker.outcomes {
						if o[0].Done {
							done++
						}
					}
					t.Logf("%d decisions, %d executed, %d replaced and killed", len(r.asker.actions), done, len(r.mismatches))
					if _, err := os.Stat(dir + "/ran-good"); err == nil && len(r.mismatches) > 0 {
						return
					}
				}
				t.Error("nothing was replaced, or nothing has run: the attack was no test")
			})
		}
	}
}

func shmDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "writ-gate-")
	if err != nil {
		t.Skip("no /dev/shm to write to")
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	_ = os.Chmod(dir, 0o777)
	return dir
}

func compileMark(t *testing.T, dir, mark string) string {
	t.Helper()
	path := dir + "/" + mark
	text, err := exec.Command("gcc", "-O1", "-static", "-o", path, fmt.Sprintf(`-DDIR="%s"`, dir), fmt.Sprintf(`-DMARK="%s"`, mark), "testdata/mark.c").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return path
}

// counted listens and counts who connects.
func counted(t *testing.T) (port int, count *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	count = new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port, count
}

func TestWhatIsConnectedToIsWhatWasAllowed(t *testing.T) {
	attack := compile(t, "attack")
	for _, mode := range []string{"sockaddr", "family", "descriptor"} {
		t.Run(mode, func(t *testing.T) {
			good, goodCount := counted(t)
			evil, evilCount := counted(t)
			if mode == "family" {
				good = evil
			}
			r := underGate(t, func(_ context.Context, a model.Action) model.Decision {
				return model.Decision{Allow: int(a.Resource.Port) != evil}
			}, attack, mode, fmt.Sprint(good), fmt.Sprint(evil), "2000")
			if out, code := r.do(); code != 0 || out != "end\n" {
				t.Fatalf("exit %d: %s", code, out)
			}
			if n := evilCount.Load(); n != 0 {
				t.Errorf("%d connections to what was not allowed", n)
			}
			if n := goodCount.Load(); n == 0 && mode == "sockaddr" {
				t.Error("never connected: the attack was no test")
			}
		})
	}
}

// The attacks do work where nothing stands in their way.
func TestTheAttacksAreReal(t *testing.T) {
	attack := compile(t, "attack")
	for _, mode := range []string{"path", "symlink", "rename", "content", "mapped", "argv"} {
		dir := publicDir(t)
		good, evil := compileMark(t, dir, "good"), compileMark(t, dir, "evil")
		won := false
		for round := 0; round < 10 && !won; round++ {
			if out, err := exec.Command(attack, mode, good, evil, "150").CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "end" {
				t.Fatalf("%s: %v %s", mode, err, out)
			}
			_, err := os.Stat(dir + "/ran-evil")
			won = err == nil
		}
		if !won {
			t.Errorf("%s never replaced anything", mode)
		}
	}
}
