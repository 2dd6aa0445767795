package kernel

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/writ-run/writ/internal/model"
)

// target is the thread that asks, through descriptors that stay its own even
// when its number is given to another.
type target struct {
	tid, tgid int
	process   int // pidfd of its process
	proc      int // /proc/TID
	root      int // its root directory
	rootPath  string
	start     uint64 // of its process, clock ticks since boot
	killable  bool   // it waits so that only a fatal signal wakes it
}

// openTarget looks the thread up. The caller must ask whether the notification
// is still valid afterwards: only then was tid the asker all along.
func openTarget(tid int) (*target, error) {
	t := &target{tid: tid, tgid: tid, process: -1, proc: -1, root: -1}
	if err := t.open(); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *target) open() (err error) {
	if t.proc, err = unix.Open("/proc/"+strconv.Itoa(t.tid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	if t.process, err = unix.PidfdOpen(t.tid, 0); err != nil {
		// Not the leader of its process: EINVAL, or ENOENT in later kernels.
		if t.tgid, err = statusNumber(t.proc, "Tgid:"); err != nil {
			return err
		}
		if t.process, err = unix.PidfdOpen(t.tgid, 0); err != nil {
			return err
		}
	}
	stat := "stat"
	if t.tgid != t.tid {
		stat = "/proc/" + strconv.Itoa(t.tgid) + "/stat"
	}
	if t.start, err = readStart(t.proc, stat); err != nil {
		return err
	}
	if t.root, err = unix.Openat(t.proc, "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	t.rootPath, err = pathOf(t.root)
	return err
}

func (t *target) close() {
	for _, fd := range []int{t.process, t.proc, t.root} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// identity is the asker as an action names it.
func (t *target) identity() model.Process {
	p := model.Process{PID: int64(t.tgid), Start: t.start}
	if path, err := readLink(t.proc, "exe"); err == nil {
		p.Executable = path
		if inside, ok := t.inside(path); ok {
			p.Executable = inside
		}
		if !utf8.ValidString(p.Executable) {
			p.Executable = escape(p.Executable)
		}
	}
	return p
}

// inside turns a path as the gate sees it into one as the target sees it. It
// is not ok for what lies outside the target's root.
func (t *target) inside(path string) (string, bool) {
	if t.rootPath == "/" {
		return path, strings.HasPrefix(path, "/")
	}
	rest, ok := strings.CutPrefix(path, t.rootPath)
	if !ok || (rest != "" && rest[0] != '/') {
		return "", false
	}
	if rest == "" {
		rest = "/"
	}
	return rest, true
}

// descriptor duplicates the target's descriptor fd into the gate.
func (t *target) descriptor(fd int) (int, error) {
	if t.tid == t.tgid {
		return unix.PidfdGetfd(t.process, fd, 0)
	}
	// A thread may have a descriptor table of its own (unshare CLONE_FILES).
	thread, err := unix.PidfdOpen(t.tid, unix.PIDFD_THREAD)
	if err == nil {
		defer unix.Close(thread)
		return unix.PidfdGetfd(thread, fd, 0)
	}
	// Before Linux 6.9 there is no descriptor for a thread: then only the
	// process's own table will do.
	const kcmpFiles = 2
	if order, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(t.tid), uintptr(t.tgid), kcmpFiles, 0, 0, 0); errno != 0 || order != 0 {
		return -1, unix.EPERM
	}
	return unix.PidfdGetfd(t.process, fd, 0)
}

// closesOnExec tells whether the target's descriptor fd has O_CLOEXEC.
func (t *target) closesOnExec(fd int) (bool, error) {
	text, err := readFile(t.proc, "fdinfo/"+strconv.Itoa(fd))
	if err != nil {
		return false, err
	}
	flags, err := strconv.ParseUint(field(text, "flags:"), 8, 64)
	return flags&unix.O_CLOEXEC != 0, err
}

// readStart reads the start time of a process (field 22) from a
// /proc/PID/stat. The second field may hold anything, also parentheses.
func readStart(dir int, name string) (uint64, error) {
	text, err := readFile(dir, name)
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("%s has %d fields", name, len(fields))
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

func statusNumber(proc int, name string) (int, error) {
	text, err := readFile(proc, "status")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(field(text, name))
}

// field returns the text after name on its line, without white space around.
func field(text []byte, name string) string {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return string(bytes.TrimSpace(rest))
		}
	}
	return ""
}

// readFile reads a file of /proc, up to 64 KiB.
func readFile(dir int, name string) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	text := make([]byte, 0, 1024)
	for {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		text = text[:len(text)+n]
		if n == 0 || len(text) >= 64<<10 {
			return text, nil
		}
		if len(text) == cap(text) {
			text = append(text, make([]byte, len(text))...)[:len(text)]
		}
	}
}

func readLink(dir int, name string) (string, error) {
	buf := make([]byte, pathMax+1)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	if n == len(buf) {
		return "", unix.ENAMETOOLONG
	}
	return string(buf[:n]), nil
}

// pathOf returns the path of an open file, as the kernel tells it: from the
// root of its own mount namespace where that is not the gate's.
func pathOf(fd int) (string, error) { return readLink(unix.AT_FDCWD, own(fd)) }

// own names one of the gate's descriptors as a path.
func own(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// clockRealtime is when files are changed, in nanoseconds.
func clockRealtime() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return 0
	}
	return ts.Nano()
}
