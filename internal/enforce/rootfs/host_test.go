package rootfs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseMount(t *testing.T) {
	for line, want := range map[string]hostMount{
		`36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`: {"98:0", "/mnt1", "/mnt2", "ext3"},
		`22 1 0:21 / /with\040blank\134 rw - proc proc rw`:                               {"0:21", "/", `/with blank\`, "proc"},
		`22 1 0:21 / /a rw shared:2 master:1 propagate_from:3 - fuse.some none rw`:       {"0:21", "/", "/a", "fuse.some"},
	} {
		if m, err := parseMount(line); err != nil || m != want {
			t.Errorf("%s: %+v, %v", line, m, err)
		}
	}
	for _, line := range []string{"", "22 1 0:21 / /a rw", "22 1 - proc proc rw", "22 1 0:21 / /a rw - "} {
		if m, err := parseMount(line); err == nil {
			t.Errorf("%q: %+v", line, m)
		}
	}
}

// mounted mounts something until the end of the test.
func mounted(t *testing.T, source, target, kind string, flags uintptr) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(source, target, kind, flags, ""); err != nil {
		t.Fatalf("mounting %s: %v", target, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatSteersTheHostIsCovered(t *testing.T) {
	dir := tree(t, "w/a/", "elsewhere/")
	mounted(t, "proc", dir+"/w/chroot/proc", "proc", unix.MS_RDONLY)
	mounted(t, "sysfs", dir+"/w/chroot/sys", "sysfs", unix.MS_RDONLY)
	mounted(t, "mqueue", dir+"/elsewhere/mqueue", "mqueue", unix.MS_RDONLY)
	plan, err := Resolve(Config{Places: places(dir, "rw DIR/w")})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"bind rw DIR/w", "pin rw DIR/w/chroot", "empty  DIR/w/chroot/proc", "bind r DIR/w/chroot/sys"}
	if d := cmp.Diff(want, shown(plan, dir)); d != "" {
		t.Error(d)
	}
	if plan, err := Resolve(Config{Places: places(dir, "r DIR/w/chroot/proc")}); err == nil {
		t.Errorf("the host's /proc is given by another name: %v", shown(plan, dir))
	}
}

func TestHiddenByWhateverName(t *testing.T) {
	dir := tree(t, "a/state/keys/", "w/")
	mounted(t, dir+"/a", filepath.Join(dir, "w/whole"), "", unix.MS_BIND)
	mounted(t, dir+"/a/state/keys", filepath.Join(dir, "w/part"), "", unix.MS_BIND)
	mounted(t, dir+"/a/state", filepath.Join(dir, "w/itself"), "", unix.MS_BIND)
	plan, err := Resolve(Config{Places: places(dir, "r DIR/w"), Hidden: []string{dir + "/a/state"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"bind r DIR/w", "empty  DIR/w/itself", "empty  DIR/w/part", "empty  DIR/w/whole/state"}
	if d := cmp.Diff(want, shown(plan, dir)); d != "" {
		t.Error(d)
	}
}
