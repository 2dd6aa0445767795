package cryptography

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
	"github.com/writ-run/writ/internal/keys"
	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/observe"
)

// fakeLog is a log of which every part can be broken.
type fakeLog struct {
	err, secondErr error
	size           uint64
	signed         []byte
}

func (l *fakeLog) Err() error                   { return l.err }
func (l *fakeLog) Size() uint64                 { return l.size }
func (l *fakeLog) Checkpoint() []byte           { return l.signed }
func (l *fakeLog) SecondPlace() (uint64, error) { return l.size, l.secondErr }

type world struct {
	testing.TB
	ring   *keys.Ring
	log    *fakeLog
	second string
	o      *Observer
	mono   int64
	offset time.Duration
}

func newWorld(t testing.TB, dir string) *world {
	t.Helper()
	ring, err := keys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(ring.Key(keys.Log).Verifier())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, ring: ring, log: &fakeLog{}, second: filepath.Join(dir, "checkpoint"), mono: int64(time.Hour)}
	w.grow()
	w.o = New(Config{Clock: func() (int64, int64) { return w.mono, time.Now().UnixNano() + int64(w.offset) }, Keys: ring, Log: w.log,
		Second: w.second, Verifier: verifier, StateDir: dir, MinBytes: 1 << 16, MinInodes: 1})
	// The wall clock must follow the fake monotonic one.
	base := time.Now().UnixNano() - w.mono
	w.o.config.Clock = func() (int64, int64) { return w.mono, base + w.mono + int64(w.offset) }
	return w
}

func (w *world) signed(size uint64, root string) []byte {
	w.Helper()
	k := w.ring.Key(keys.Log)
	b, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: k.NoteSigner().Name() + "/x", Size: size, Root: model.DigestOf([]byte(root))}, k.NoteSigner())
	if err != nil {
		w.Fatal(err)
	}
	return b
}

// grow adds a record, here and in the second place, a second later.
func (w *world) grow() {
	w.Helper()
	w.log.size++
	w.mono += int64(time.Second)
	w.log.signed = w.signed(w.log.size, fmt.Sprint(w.log.size))
	w.put(w.log.signed)
}

func (w *world) put(b []byte) {
	w.Helper()
	if err := os.WriteFile(w.second, b, 0o600); err != nil {
		w.Fatal(err)
	}
}

func (w *world) expect(what, reason string) {
	w.Helper()
	got := w.o.Observe(context.Background())
	if got.Reason != reason || (got.Verdict == model.VerdictValid) != (reason == "") {
		w.Errorf("%s: %+v, want %q", what, got, reason)
	}
	if reason != "" && !documented(reason) {
		w.Errorf("%s: %s is not documented", what, reason)
	}
}

func TestKeysAreWatched(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.expect("at first", "")
	key := w.ring.Files()[1]
	content, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(newWorld(t, t.TempDir()).ring.Files()[1])
	if err != nil {
		t.Fatal(err)
	}
	restore := func() error {
		return errors.Join(os.RemoveAll(key), os.WriteFile(key, content, 0o600))
	}
	for name, c := range map[string]struct {
		harm   func() error
		reason string
	}{
		"readable":  {func() error { return os.Chmod(key, 0o644) }, "file_exposed"},
		"exchanged": {func() error { return os.WriteFile(key, other, 0o600) }, keys.CodeUntrusted},
		"cut off":   {func() error { return os.WriteFile(key, content[:40], 0o600) }, keys.CodeTruncated},
		"garbage":   {func() error { return os.WriteFile(key, []byte("?"), 0o600) }, keys.CodeForeign},
		"gone":      {func() error { return os.Remove(key) }, keys.CodeLost},
		"a link":    {func() error { return errors.Join(os.Rename(key, key+"2"), os.Symlink(key+"2", key)) }, "file_symlink"},
	} {
		if err := c.harm(); err != nil {
			t.Fatal(err)
		}
		w.expect(name, c.reason)
		w.expect(name+", again", c.reason)
		if err := restore(); err != nil {
			t.Fatal(err)
		}
		w.expect(name+", restored", "")
	}
	trust := w.ring.TrustPath()
	text, _ := os.ReadFile(trust)
	if err := os.WriteFile(trust, text[:20], 0o600); err != nil {
		t.Fatal(err)
	}
	w.expect("trust", keys.CodeTrust)
	if err := os.WriteFile(trust, text, 0o600); err != nil {
		t.Fatal(err)
	}
	w.expect("trust restored", "")
}

func TestLogIsWatched(t *testing.T) {
	w := newWorld(t, t.TempDir())
	for range 600 {
		w.grow()
		w.expect("growing", "")
	}
	w.log.err = errors.New("fdatasync: input/output error")
	w.expect("failed", ReasonLogFailed)
	w.log.err = nil
	w.mono += int64(Silence)
	w.expect("quiet", "")
	w.mono++
	w.expect("silent", ReasonLogSilent)
	w.grow()
	w.expect("growing again", "")
	w.log.size -= 2
	w.expect("went back", ReasonLogInconsistent)
}

func TestSecondPlaceIsCompared(t *testing.T) {
	for name, c := range map[string]struct {
		harm   func(w *world)
		reason string
	}{
		"ahead of the log":  {func(w *world) { w.put(w.signed(w.log.size+1, "x")) }, ReasonLogInconsistent},
		"another root":      {func(w *world) { w.put(w.signed(w.log.size, "fork")) }, ReasonLogInconsistent},
		"an older fork":     {func(w *world) { w.put(w.signed(w.log.size-1, "fork")) }, ReasonLogInconsistent},
		"behind":            {func(w *world) { w.put(w.signed(w.log.size-1, fmt.Sprint(w.log.size-1))) }, ReasonSecondPlace},
		"gone":              {func(w *world) { _ = os.Remove(w.second) }, ReasonSecondPlace},
		"empty":             {func(w *world) { w.put(nil) }, ReasonSecondPlace},
		"damaged":           {func(w *world) { w.put(w.log.signed[:60]) }, ReasonSecondPlace},
		"a directory":       {func(w *world) { _ = os.Remove(w.second); _ = os.Mkdir(w.second, 0o700) }, ReasonSecondPlace},
		"a pipe":            {func(w *world) { _ = os.Remove(w.second); _ = syscall.Mkfifo(w.second, 0o600) }, ReasonSecondPlace},
		"foreign":           {func(w *world) { w.put(newWorld(w.TB, w.TempDir()).log.signed) }, ReasonSecondPlace},
		"cannot be written": {func(w *world) { w.log.secondErr = errors.New("no space") }, ReasonSecondPlace},
		"the log's own":     {func(w *world) { w.log.signed = nil }, ReasonLogInconsistent},
	} {
		w := newWorld(t, t.TempDir())
		for range 5 {
			w.grow()
			w.expect(name+": before", "")
		}
		c.harm(w)
		w.expect(name, c.reason)
	}
}

func TestSecondPlaceMayLagButMustMove(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.grow()
	w.expect("level", "")
	old := w.log.signed
	for range int(Lag / time.Second) {
		w.grow()
		w.put(old)
		w.expect("lagging", "")
	}
	w.grow()
	w.put(old)
	w.mono += int64(time.Second)
	w.expect("stuck", ReasonSecondPlace)
	w.put(w.signed(w.log.size-3, fmt.Sprint(w.log.size-3)))
	w.expect("moving", "")
	w.grow()
	w.expect("level again", "")
	none := newWorld(t, t.TempDir())
	none.o.second.path = ""
	none.expect("no second place", "")
	fresh := newWorld(t, t.TempDir())
	if err := os.Remove(fresh.second); err != nil {
		t.Fatal(err)
	}
	fresh.expect("not written yet", "")
}

func TestClock(t *testing.T) {
	for name, c := range map[string]struct {
		steps  []time.Duration // of the wall clock, each with a second between
		reason string
	}{
		"steady":               {[]time.Duration{0, 0, 0}, ""},
		"back a little":        {[]time.Duration{-2 * time.Second}, ""},
		"back":                 {[]time.Duration{-2100 * time.Millisecond}, ReasonClock},
		"back in small steps":  {[]time.Duration{-time.Second, -time.Second, -time.Second}, ReasonClock},
		"forward a little":     {[]time.Duration{59 * time.Second}, ""},
		"forward":              {[]time.Duration{61 * time.Second}, ReasonClock},
		"years":                {[]time.Duration{20 * 365 * 24 * time.Hour}, ReasonClock},
		"there and back again": {[]time.Duration{-time.Hour, time.Hour}, ""},
	} {
		w := newWorld(t, t.TempDir())
		w.expect(name+": at first", "")
		for i, step := range c.steps {
			w.grow()
			w.offset += step
			if i == len(c.steps)-1 {
				w.expect(name, c.reason)
			} else {
				w.o.Observe(t.Context())
			}
		}
	}
	w := newWorld(t, t.TempDir())
	w.expect("at first", "")
	for range 24 { // a day of the fastest slewing
		w.mono += int64(time.Hour) - int64(time.Second)
		w.grow()
		w.offset -= time.Hour / slew
		w.expect("slewed", "")
	}
	w.mono -= int64(time.Minute)
	w.expect("the monotonic clock went back", ReasonClock)
	real := newWorld(t, t.TempDir())
	real.o.config.Clock = observe.SystemClock
	for range 100 {
		real.expect("the real clock", "")
	}
}

// In a mount namespace of its own: a full, a read-only and a vanished state
// directory.
func TestRoom(t *testing.T) {
	dir := os.Getenv("WRIT_TEST_DIR")
	if dir == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestRoom$", "-test.v")
		cmd.Env = append(os.Environ(), "WRIT_TEST_DIR="+t.TempDir())
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if os.Geteuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
			t.Skipf("no mount namespace can be made here: %v", err)
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	mount := func(source, target string, flags uintptr, data string) {
		t.Helper()
		if err := syscall.Mount(source, target, "tmpfs", flags, data); err != nil {
			t.Fatal(err)
		}
	}
	mount("", "/", syscall.MS_REC|syscall.MS_PRIVATE, "")
	mount("tmpfs", dir, 0, "mode=0700,size=1m,nr_inodes=32")
	w := newWorld(t, dir)
	w.expect("room", "")
	w.o.config.MinBytes = 2 << 20
	w.expect("less than asked for", ReasonDiskFull)
	w.o.config.MinBytes = 512 << 10
	w.expect("room", "")
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, 700<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	w.expect("full", ReasonDiskFull)
	if err := os.Remove(big); err != nil {
		t.Fatal(err)
	}
	w.expect("room again", "")
	w.o.config.MinInodes = 10
	for i := range 25 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("i", i)), nil, 0o600); err != nil {
			break
		}
	}
	w.expect("no inodes", ReasonDiskFull)
	for i := range 25 {
		_ = os.Remove(filepath.Join(dir, fmt.Sprint("i", i)))
	}
	w.expect("inodes again", "")
	mount("", dir, syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
	w.expect("read-only", ReasonReadOnly)
	mount("", dir, syscall.MS_REMOUNT, "")
	w.expect("writable again", "")
	if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	w.expect("unmounted", keys.CodeLost)
}

func TestReasonsAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons {
		if seen[r.Code] || r.Title == "" || r.Why == "" || r.Fix == "" || strings.ToLower(r.Code) != r.Code {
			t.Errorf("%+v", r)
		}
		seen[r.Code] = true
	}
}

func BenchmarkLook(b *testing.B) {
	w := newWorld(b, b.TempDir())
	w.offset = 10 * time.Second // files that were just written are read again
	for b.Loop() {
		w.o.Observe(context.Background())
	}
}
