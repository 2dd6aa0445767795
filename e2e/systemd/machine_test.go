//go:build linux

package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const manager = "/lib/systemd/systemd"

// initArgument makes this test binary the first process of a machine.
const initArgument = "become-the-machine"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == initArgument {
		err := becomeMachine(os.Args[2])
		fmt.Fprintln(os.Stderr, "systemd:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// masked are units that would reach for the host. (To cover /proc/sys instead
// would keep an ordinary user in there from mounting a /proc of its own.)
var masked = []string{
	"modprobe@.service", "systemd-modules-load.service", "systemd-sysctl.service", "systemd-remount-fs.service",
	"sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount", "dev-hugepages.mount",
}

// becomeMachine makes a root that keeps nothing, with the host's programs and
// the files of from laid over it, and executes the manager in it.
func becomeMachine(from string) error {
	base := filepath.Join(from, "machine")
	root := filepath.Join(base, "root")
	do := func(what string, err error) {
		if err != nil {
			panic(fmt.Errorf("%s: %w", what, err))
		}
	}
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintln(os.Stderr, p)
			os.Exit(1)
		}
	}()
	mount := func(source, target, kind string, flags uintptr, data string) {
		do("mounting "+target, unix.Mount(source, target, kind, flags, data))
	}
	mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	mount("none", base, "tmpfs", 0, "mode=755")
	for _, d := range []string{"upper", "work", "root"} {
		do("making "+d, os.Mkdir(filepath.Join(base, d), 0o755))
	}
	mount("overlay", root, "overlay", 0, fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", base, base))
	in := func(path string) string { return filepath.Join(root, path) }
	mount("proc", in("proc"), "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	mount("sysfs", in("sys"), "sysfs", unix.MS_RDONLY, "")
	mount("cgroup2", in("sys/fs/cgroup"), "cgroup2", 0, "")
	for _, d := range []string{"run", "tmp", "dev", "var/tmp"} {
		mount("none", in(d), "tmpfs", 0, "mode=1777")
	}
	do("setting the mode of /run", os.Chmod(in("run"), 0o755))
	do("setting the mode of /dev", os.Chmod(in("dev"), 0o755))
	for _, n := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		do("making "+n, os.WriteFile(in("dev/"+n), nil, 0o666))
		mount("/dev/"+n, in("dev/"+n), "", unix.MS_BIND, "")
	}
	do("making /dev/pts", os.Mkdir(in("dev/pts"), 0o755))
	mount("devpts", in("dev/pts"), "devpts", 0, "newinstance,ptmxmode=0666,mode=0620")
	do("linking ptmx", os.Symlink("pts/ptmx", in("dev/ptmx")))
	do("making /dev/shm", os.Mkdir(in("dev/shm"), 0o1777))
	do("copying files", os.CopyFS(root, os.DirFS(filepath.Join(from, "files"))))
	for _, unit := range masked {
		do("masking "+unit, os.Symlink("/dev/null", in("etc/systemd/system/"+unit)))
	}
	do("allowing the program", os.Chmod(in("usr/local/bin/writ"), 0o755))
	do("entering the root", os.Chdir(root))
	do("exchanging the root", unix.PivotRoot(".", "."))
	do("leaving the old root", unix.Unmount(".", unix.MNT_DETACH))
	do("entering the new root", os.Chdir("/"))
	return unix.Exec(manager, []string{manager, "--system", "--unit=basic.target", "--log-target=console", "--show-status=no"},
		[]string{"container=writ-test", "PATH=/usr/local/bin:/usr/bin:/bin"})
}

// machine is a running systemd.
type machine struct {
	pid   int
	group string
	log   *bytes.Buffer
}

// start boots a machine with the files laid over the host's.
func start(t *testing.T, files string) *machine {
	t.Helper()
	top := "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(top, "unified/cgroup.procs")); err == nil {
		top = filepath.Join(top, "unified")
	}
	group, err := os.MkdirTemp(top, "writ-test-machine-")
	if err != nil {
		t.Fatalf("making a control group for the machine: %v", err)
	}
	t.Cleanup(func() { removeGroups(t, group) })
	if err := os.Chmod(group, 0o755); err != nil { // in the machine it is the top, which all may enter
		t.Fatal(err)
	}
	dir, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	m := &machine{group: group, log: &bytes.Buffer{}}
	cmd := exec.Command("/proc/self/exe", initArgument, filepath.Dir(files))
	cmd.Stdout, cmd.Stderr = m.log, m.log
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL,
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting the machine: %v", err)
	}
	m.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // the first process of a PID namespace takes all others with it
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("what the machine said:\n%s", m.log)
		}
	})
	m.await(t, "the machine to be up", func() bool {
		out, _ := m.run("systemctl", "is-system-running")
		return strings.HasPrefix(out, "running") || strings.HasPrefix(out, "degraded")
	})
	return m
}

// run executes a command in the machine.
func (m *machine) run(argv ...string) (string, error) {
	cmd := exec.Command("nsenter", append([]string{"-t", fmt.Sprint(m.pid), "-a", "--root", "--wd=/", "--"}, argv...)...)
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "WRIT_STATE=/var/lib/writ"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (m *machine) must(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := m.run(argv...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return out
}

// read gives a file of the machine, "" while it is not there.
func (m *machine) read(path string) string {
	b, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(m.pid), "root", path))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	return string(b)
}

func (m *machine) await(t *testing.T, what string, done func() bool, why ...string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			out := ""
			if len(why) > 0 {
				out, _ = m.run(why...)
				journal, _ := m.run("journalctl", "--no-pager", "-n40", "-o", "cat")
				out += journal
			}
			t.Fatalf("waited in vain for %s\n%s", what, out)
		}
		if unix.Kill(m.pid, 0) != nil {
			t.Fatalf("the machine is gone, waiting for %s", what)
		}
	}
}

// processes counts the processes in the machine's control group at path.
func (m *machine) processes(path string) (n int) {
	_ = filepath.WalkDir(filepath.Join(m.group, path), func(p string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == "cgroup.procs" {
			b, _ := os.ReadFile(p)
			n += len(strings.Fields(string(b)))
		}
		return nil
	})
	return n
}

func removeGroups(t *testing.T, top string) {
	var dirs []string
	_ = filepath.WalkDir(top, func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			err := unix.Rmdir(dirs[i])
			if err == nil || err == unix.ENOENT {
				break
			}
			if time.Now().After(end) {
				t.Errorf("removing control group %s: %v", dirs[i], err)
				return
			}
		}
	}
}
