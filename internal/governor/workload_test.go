package governor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/policy"
)

var everything = policy.View{Places: []policy.Place{{Path: "/", Rights: policy.Read | policy.Execute}}}

// The command is the one that the workload will find: what it cannot see does
// not count, be it first in PATH.
func TestCommandIsLookedForAmongWhatIsSeen(t *testing.T) {
	hidden := t.TempDir()
	if err := os.WriteFile(filepath.Join(hidden, "sh"), []byte("#!/bin/false\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := workloadOf(Spec{Argv: []string{"sh"}, Env: []string{"PATH=" + hidden + ":/usr/bin"}, Dir: "/"})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.resolve(policy.View{Places: []policy.Place{{Path: "/usr", Rights: policy.Read | policy.Execute}}}); err != nil || !strings.HasPrefix(w.path, "/usr/") {
		t.Errorf("found %s, %v", w.path, err)
	}
	// A private home has none of the host's programs in it, whatever is allowed there.
	w.zones.Home = filepath.Dir(hidden)
	if err := w.resolve(everything); err != nil || !strings.HasPrefix(w.path, "/usr/") {
		t.Errorf("found %s, %v", w.path, err)
	}
	if err := w.resolve(policy.View{}); !errors.Is(err, ErrNotShown) {
		t.Errorf("found %s where nothing is seen, %v", w.path, err)
	}
}

func TestWorkloadRefusesWhatCannotRun(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(dir, "gone")
	for name, c := range map[string]struct {
		spec Spec
		want error
	}{
		"no command":        {Spec{}, ErrNoCommand},
		"empty command":     {Spec{Argv: []string{""}}, ErrNoCommand},
		"not in PATH":       {Spec{Argv: []string{"no-such-command"}, Env: []string{"PATH=/bin"}, Dir: dir}, ErrNoCommand},
		"not executable":    {Spec{Argv: []string{"./plain"}, Dir: dir}, ErrNotExecutable},
		"a directory":       {Spec{Argv: []string{"/usr"}, Dir: dir}, ErrNotExecutable},
		"not UTF-8":         {Spec{Argv: []string{"true", "\xff"}, Dir: dir}, ErrNotText},
		"NUL":               {Spec{Argv: []string{"true", "a\x00b"}, Dir: dir}, ErrNotText},
		"directory gone":    {Spec{Argv: []string{"true"}, Dir: gone}, ErrNoDir},
		"directory a file":  {Spec{Argv: []string{"true"}, Dir: plain}, ErrNoDir},
		"relative in PATH":  {Spec{Argv: []string{"plain"}, Env: []string{"PATH=."}, Dir: dir}, ErrNoCommand},
		"PATH not executed": {Spec{Argv: []string{"plain"}, Env: []string{"PATH=" + dir}, Dir: dir}, ErrNotExecutable},
	} {
		w, err := workloadOf(c.spec)
		if err == nil {
			err = w.resolve(everything)
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v", name, w, err)
		}
	}
}

func TestWorkloadIsTheRealOne(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/bin/sh", link); err != nil {
		t.Fatal(err)
	}
	real, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	w, err := workloadOf(Spec{Argv: []string{"./link", "-c", "true"}, Dir: dir,
		Env: []string{"PATH=/bin", "HOME=" + dir + "/home", "SSH_AUTH_SOCK=/run/agent", "A=1", "bad"}})
	if err == nil {
		err = w.resolve(everything)
	}
	if err != nil {
		t.Fatal(err)
	}
	if w.path != real || w.executable.ID != real || w.executable.Digest.IsZero() || !slices.Contains(w.executable.Zones, model.ZoneSystem) {
		t.Errorf("executable: %+v", w.executable)
	}
	if lookup(w.env, "SSH_AUTH_SOCK") != "" || lookup(w.env, "A") != "1" || slices.Contains(w.env, "bad") {
		t.Errorf("environment: %q", w.env)
	}
	if got := w.zones.Of(dir + "/x"); !slices.Contains(got, model.ZoneWorkdir) || slices.Contains(got, model.ZoneSystem) {
		t.Errorf("zones of the working directory: %v", got)
	}
}

// Working in the system's directories does not make them the workload's own.
func TestSystemIsNeverTheWorkingDirectory(t *testing.T) {
	for _, dir := range []string{"/", "/etc", "/usr/bin"} {
		w, err := workloadOf(Spec{Argv: []string{"/bin/sh"}, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if got := w.zones.Of(filepath.Join(w.dir, "x")); slices.Contains(got, model.ZoneWorkdir) {
			t.Errorf("%s: %v", dir, got)
		}
	}
}
