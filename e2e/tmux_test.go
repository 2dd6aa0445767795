//go:build linux

package e2e

import (
	_ "embed"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

//go:embed testdata/screen.py
var screenScript string

// A full-screen program in the window of a terminal multiplexer, driven as a
// person would: keys, resizing, leaving.
func TestTmux(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		socket := filepath.Join(p.home, "tmux")
		tmux := func(args ...string) string {
			t.Helper()
			cmd := exec.CommandContext(t.Context(), "tmux", append([]string{"-S", socket, "-f", "/dev/null"}, args...)...)
			cmd.Dir, cmd.Env = p.dir, append(p.environment(), "SHELL=/bin/sh")
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("tmux %q: %v\n%s", args, err, out)
			}
			return string(out)
		}
		window := func() string { return tmux("capture-pane", "-p", "-t", "w") }
		awaitWindow := func(text string) {
			t.Helper()
			p.await(text+" in the window", func() bool { return strings.Contains(window(), text) })
		}
		p.write("screen.py", screenScript)
		line := strings.Join(p.prepare(t.Context(), command{argv: []string{python, "screen.py"}}).Args, " ")
		tmux("new-session", "-d", "-s", "w", "-x", "100", "-y", "30", line+`; echo "left with $?"; exec sleep 1000`)
		t.Cleanup(func() {
			// The context of the test is over by now.
			cmd := exec.Command("tmux", "-S", socket, "kill-server")
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("ending tmux: %v\n%s", err, out)
			}
		})
		tmux("set-option", "-t", "w", "status", "off")
		tmux("resize-window", "-t", "w", "-x", "100", "-y", "30")
		awaitWindow("100x30 keys[]")
		tmux("send-keys", "-t", "w", "a", "Up", "b")
		awaitWindow("keys[a^b]")
		tmux("resize-window", "-t", "w", "-x", "70", "-y", "20")
		awaitWindow("70x20 keys[a^b]")
		tmux("send-keys", "-t", "w", "q")
		awaitWindow("left with 0")
	})
}
