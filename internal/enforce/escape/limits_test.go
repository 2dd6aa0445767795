//go:build linux

package escape

import (
	"os"
	"syscall"
	"testing"
)

// limits are attempts that succeed. Each is known, and not the guarantee of
// anything. When one is mended, its row belongs among the attempts.
var limits = []struct{ name, gain, holds string }{
	{"loader", "a program that the policy forbids by exec, run by the loader, which it does not forbid",
		"forbid open with access execute, too: loader-noexec"},
	{"leave-setgid", "its group for whoever runs a program outside",
		"a group that has nothing; setgid directories cannot be told from programs by the filter"},
	{"change-stdin", "the mode of the caller's file that is its stdin",
		"pass a pipe: cat file | writ run"},
}

func TestLimits(t *testing.T) {
	eachTier(t, func(t *testing.T, user *syscall.Credential) {
		s := newStage(t, user)
		stdin, err := os.Open(s.vars["READONLYFILE"])
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		s.stdin = stdin
		var names []string
		for _, l := range limits {
			names = append(names, l.name)
		}
		e := s.govern(nil, nil, names...)
		if code := e.wait(); code != 0 {
			t.Errorf("exit code %d:\n%s%s", code, content(e.out), content(e.err))
		}
		w := tell(content(e.out))
		for _, l := range limits {
			if w.gained[l.name] == nil {
				t.Errorf("%s does not succeed any more: %s", l.name, w.String(l.name))
			}
			t.Logf("%s gains %s; what holds: %s", l.name, l.gain, l.holds)
		}
		s.settled()
	})
}
