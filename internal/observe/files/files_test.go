package files

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/writ-run/writ/internal/model"
)

func scan1(t *testing.T, s *Set, now time.Time) State {
	t.Helper()
	return s.Scan(now)[0]
}

func TestScanSeesEveryChange(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	s := NewSet(path)
	now := time.Now()
	if got := scan1(t, s, now); got.Kind != Absent {
		t.Fatalf("%+v", got)
	}
	write := func(text string) func() error {
		return func() error { return os.WriteFile(path, []byte(text), 0o644) }
	}
	stamp := time.Unix(1_000_000_000, 0)
	steps := []struct {
		name string
		do   func() error
		kind Kind
		text string
	}{
		{"appears", write("one"), Regular, "one"},
		{"same size, at once", write("two"), Regular, "two"},
		{"times set back", func() error { return errors.Join(write("six")(), os.Chtimes(path, stamp, stamp)) }, Regular, "six"},
		{"again, times the same", func() error { return errors.Join(write("ten")(), os.Chtimes(path, stamp, stamp)) }, Regular, "ten"},
		{"replaced", func() error {
			return errors.Join(os.WriteFile(path+"2", []byte("new"), 0o644), os.Rename(path+"2", path))
		}, Regular, "new"},
		{"by a link", func() error {
			return errors.Join(os.Rename(path, path+"3"), os.WriteFile(path+"3", []byte("far"), 0o644), os.Symlink(path+"3", path))
		}, Regular, "far"},
		{"the link's target", func() error { return os.WriteFile(path+"3", []byte("fur"), 0o644) }, Regular, "fur"},
		{"goes", func() error { return os.Remove(path) }, Absent, ""},
		{"becomes a directory", func() error { return os.Mkdir(path, 0o755) }, Directory, ""},
		{"becomes a pipe", func() error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)) }, Other, ""},
		{"comes back", func() error { return errors.Join(os.Remove(path), write("one")()) }, Regular, "one"},
	}
	was := State{Path: path, Kind: Absent}
	for _, step := range steps {
		stamp := s.Stamp()
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		got := scan1(t, s, time.Now())
		want := State{Path: path, Kind: step.kind}
		if step.kind == Regular {
			want.Digest = model.DigestOf([]byte(step.text))
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", step.name, got, want)
		}
		if s.Stamp() == stamp {
			t.Errorf("%s: the stamp has not changed", step.name)
		}
		if got.Same(was) || strings.HasSuffix(Difference(was, got), "as it was") || !strings.Contains(Difference(was, got), path) {
			t.Errorf("%s: %s", step.name, Difference(was, got))
		}
		was = got
	}
}

// A file that has not changed is not read again, but for the slow rotation.
func TestScanReadsNoMoreThanItMust(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for _, name := range []string{"a", "b", "c"} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	s := NewSet(paths...)
	now := time.Now().Add(time.Hour) // long after the files were written
	s.Scan(now)
	reads := func() (n int) {
		for _, e := range s.entries {
			if e.readAt.Equal(now) {
				n++
			}
		}
		return n
	}
	if n := reads(); n != 3 {
		t.Fatalf("first scan: %d reads", n)
	}
	total, stamp := 0, s.Stamp()
	for range 40 * 10 {
		now = now.Add(250 * time.Millisecond)
		s.Scan(now)
		total += reads()
	}
	if s.Stamp()-stamp != uint64(total) {
		t.Errorf("the stamp went from %d to %d in %d reads", stamp, s.Stamp(), total)
	}
	if total < 2 || total > 4 {
		t.Errorf("%d reads of unchanged files in 100 s", total)
	}
	if NewSet("/proc/sys/kernel/hostname").entries[0].volatile != true {
		t.Error("a file of /proc counts as one whose times tell something")
	}
}

// What changed within the resolution of time stamps is found.
func TestYoungFilesAreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for i := range 200 {
		s := NewSet(path)
		if err := os.WriteFile(path, []byte{'a'}, 0o644); err != nil {
			t.Fatal(err)
		}
		s.Scan(time.Now())
		if err := os.WriteFile(path, []byte{'b'}, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := s.Scan(time.Now())[0]; got.Digest != model.DigestOf([]byte{'b'}) {
			t.Fatalf("round %d: the second content was not seen", i)
		}
	}
}

func TestUnreadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "loop")
	if err := os.Symlink(path, path); err != nil {
		t.Fatal(err)
	}
	got := NewSet(path).Scan(time.Now())[0]
	if got.Kind != Unreadable || got.Why == "" {
		t.Errorf("%+v", got)
	}
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, 100), 0o644); err != nil {
		t.Fatal(err)
	}
	if st, _ := Hash(big, 99); st.Kind != Unreadable {
		t.Errorf("%+v", st)
	}
	if st, _ := Hash(big, 100); st.Kind != Regular {
		t.Errorf("%+v", st)
	}
}
