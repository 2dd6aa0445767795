package policy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/observe"
)

func TestPolicyIsLostAndComesBack(t *testing.T) {
	dir := t.TempDir()
	a, settings, absent := filepath.Join(dir, "a.cedar"), filepath.Join(dir, "writ.yaml"), filepath.Join(dir, "override.yaml")
	text, settingsText := []byte("permit(principal, action, resource);"), []byte("lease: {}")
	write := func(p string, b []byte) {
		t.Helper()
		if err := os.WriteFile(p, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	restore := func() {
		t.Helper()
		if err := os.RemoveAll(a); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(absent)
		_ = os.Remove(filepath.Join(dir, "b.cedar"))
		write(a, text)
		write(settings, settingsText)
	}
	restore()
	var unverified error
	bundle := model.DigestOf([]byte("bundle"))
	o := New(Config{Clock: observe.SystemClock, Bundle: bundle, Verify: func() error { return unverified },
		Files:       []File{{a, model.DigestOf(text)}, {settings, model.DigestOf(settingsText)}, {Path: absent}},
		Directories: []Directory{{dir, ".cedar"}}, Expires: time.Now().Add(time.Hour)})
	expect := func(what, reason, detail string) {
		t.Helper()
		got := o.Observe(t.Context())
		if got.Reason != reason || (got.Verdict == model.VerdictValid) != (reason == "") || got.Digest != bundle || !strings.Contains(got.Detail, detail) {
			t.Errorf("%s: %+v, want %q", what, got, reason)
		}
	}
	expect("at first", "", "")
	for name, c := range map[string]struct {
		harm           func()
		reason, detail string
	}{
		"edited":        {func() { write(a, []byte("forbid(principal, action, resource);")) }, ReasonDrift, a},
		"same length":   {func() { write(a, []byte("permit(principal, action, resourcE);")) }, ReasonDrift, a},
		"settings":      {func() { write(settings, nil) }, ReasonDrift, settings},
		"removed":       {func() { _ = os.Remove(a) }, ReasonDrift, "gone"},
		"appeared":      {func() { write(absent, nil) }, ReasonDrift, absent},
		"new policy":    {func() { write(filepath.Join(dir, "b.cedar"), nil) }, ReasonDrift, "b.cedar"},
		"a directory":   {func() { _ = os.Remove(a); _ = os.Mkdir(a, 0o755) }, ReasonDrift, "directory"},
		"a loop":        {func() { _ = os.Remove(a); _ = os.Symlink(a, a) }, ReasonUnreadable, a},
		"unverified":    {func() { unverified = errors.New("key revoked") }, ReasonUnverified, "key revoked"},
		"other content": {func() { write(a+"2", text); _ = os.Rename(a+"2", a) }, "", ""},
		"other file":    {func() { write(filepath.Join(dir, "README"), nil) }, "", ""},
	} {
		c.harm()
		expect(name, c.reason, c.detail)
		unverified = nil
		restore()
		expect(name+", restored", "", "")
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	expect("the directory is gone", ReasonDrift, "gone")
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	expect("and back", "", "")
}

func TestBundleExpires(t *testing.T) {
	mono, wall := int64(0), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	o := New(Config{Clock: func() (int64, int64) { return mono, wall.UnixNano() }, Expires: wall.Add(10 * time.Second)})
	step := func(d, w time.Duration) model.Observation {
		mono += int64(d)
		wall = wall.Add(w)
		return o.Observe(t.Context())
	}
	if got := step(0, 0); got.Verdict != model.VerdictValid || got.ValidUntil != int64(observe.Usual.Holds) {
		t.Errorf("%+v", got)
	}
	if got := step(8*time.Second, 8*time.Second); got.Verdict != model.VerdictValid || got.ValidUntil != int64(10*time.Second) {
		t.Errorf("shortly before: %+v", got)
	}
	if got := step(2*time.Second, 2*time.Second); got.Reason != ReasonExpired {
		t.Errorf("at its end: %+v", got)
	}
	if got := step(time.Second, -time.Hour); got.Reason != ReasonExpired {
		t.Errorf("with the clock set back: %+v", got)
	}
}

func TestBuiltInPolicyHasNoFiles(t *testing.T) {
	o := New(Config{Clock: observe.SystemClock, Bundle: model.DigestOf([]byte("x"))})
	if got := o.Observe(t.Context()); got.Verdict != model.VerdictValid || got.Detail != "built in" {
		t.Errorf("%+v", got)
	}
}
