package enforce

import (
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// terminal passes the caller's terminal to the workload and back, as a shell
// does with a job. A nil terminal does nothing.
type terminal struct {
	mu    sync.Mutex
	file  *os.File
	own   int // this process's group
	given int // the group that has it, or 0
	modes *unix.Termios
}

// openTerminal gives nil where stdin is not the controlling terminal of this
// process's session: then its foreground group is nobody's business here.
func openTerminal(stdin *os.File) (*terminal, error) {
	if stdin == nil {
		return nil, nil
	}
	fd := int(stdin.Fd())
	modes, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, nil
	}
	sid, err := unix.IoctlGetInt(fd, unix.TIOCGSID)
	if err != nil {
		return nil, nil
	}
	if own, err := unix.Getsid(0); err != nil || own != sid {
		return nil, nil
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, &Error{Op: "keeping the terminal", Err: err}
	}
	return &terminal{file: os.NewFile(uintptr(dup), "terminal"), own: unix.Getpgrp(), modes: modes}, nil
}

// terminalPath is the device of a terminal, or "".
func terminalPath(f *os.File) string {
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err != nil {
		return ""
	}
	path, err := os.Readlink("/proc/self/fd/" + itoa(int(f.Fd())))
	if err != nil {
		return ""
	}
	var at, is unix.Stat_t
	if unix.Stat(path, &at) != nil || unix.Fstat(int(f.Fd()), &is) != nil || at.Ino != is.Ino || at.Dev != is.Dev {
		return ""
	}
	return path
}

// give makes the group the foreground group, if this process's group is: in
// the background, the terminal is not ours to give.
func (t *terminal) give(group int) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil {
		return
	}
	fd := int(t.file.Fd())
	if now, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil && now == t.own {
		if withoutTTOU(func() error { return unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, group) }) == nil {
			t.given = group
		}
	}
}

// adopt takes over what another process of the session had given to the group,
// with the modes from before it.
func (t *terminal) adopt(group int, modes *unix.Termios) {
	if t == nil {
		return
	}
	if now, err := unix.IoctlGetInt(int(t.file.Fd()), unix.TIOCGPGRP); err == nil && now == group {
		t.given = group
	}
	if modes != nil {
		t.modes = modes
	}
}

// take makes this process's group the foreground group again, if the workload
// still has the terminal.
func (t *terminal) take() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.takeLocked()
}

func (t *terminal) takeLocked() bool {
	if t.file == nil || t.given == 0 {
		return false
	}
	t.given = 0
	fd := int(t.file.Fd())
	return withoutTTOU(func() error { return unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, t.own) }) == nil
}

// finish takes the terminal back for good. A workload that was killed may have
// left it in any mode, and stopped: the caller gets back the modes from before, and
// can write.
func (t *terminal) finish(killed bool) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.takeLocked() && killed {
		fd := int(t.file.Fd())
		const resume = 1 // TCOON
		_ = withoutTTOU(func() error { return unix.IoctlSetInt(fd, unix.TCXONC, resume) })
		_ = withoutTTOU(func() error { return unix.IoctlSetTermios(fd, unix.TCSETS, t.modes) })
	}
	t.closeLocked()
}

func (t *terminal) close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closeLocked()
}

func (t *terminal) closeLocked() {
	if t.file != nil {
		_ = t.file.Close()
		t.file = nil
	}
}

// withoutTTOU does what would stop a process in the background.
func withoutTTOU(do func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, before unix.Sigset_t
	block.Val[0] = 1 << (unix.SIGTTOU - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &block, &before); err != nil {
		return err
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	return do()
}
