package enforce

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/writ-run/writ/internal/enforce/cgroup"
	"github.com/writ-run/writ/internal/enforce/deadline"
	"github.com/writ-run/writ/internal/model"
)

// holdInKernel makes the kernel hold the deadline in tier kernel: the programs
// are in place from here on, the deadline from the first SetDeadline on. One
// that another governor set is in force already, and stays so.
func (s *Sandbox) holdInKernel() (err error) {
	if s.tier != model.TierKernel {
		return nil
	}
	if s.kernel, err = deadline.Open(filepath.Dir(s.group.Dir())); err == nil {
		s.held, err = s.kernel.Hold(s.group.Work())
	}
	if err != nil {
		return &Error{Op: "making the kernel hold the deadline of", Subject: s.spec.ID, Err: err, Hint: "see writ doctor"}
	}
	return nil
}

// moveInKernel is SetDeadline's. What could not be moved stays where it was, and
// CheckDeadline says so.
func (s *Sandbox) moveInKernel(freezeAt, killAt int64) {
	if s.held != nil {
		_ = s.held.Set(freezeAt, killAt)
	}
}

// CheckDeadline looks whether the kernel holds the deadline that was set last,
// with all its programs. Where it is not to hold one there is nothing to be lost.
func (s *Sandbox) CheckDeadline() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.held == nil {
		return nil
	}
	return s.held.Check()
}

// Own puts a socket that the gate made outside of the workload's control group
// under its deadline, where the kernel holds one. Past it nothing leaves there.
func (s *Sandbox) Own(socket int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return &Error{Op: "making a socket for the workload", Err: os.ErrClosed}
	}
	if s.held == nil {
		return nil
	}
	return s.held.Own(socket)
}

// letGo takes the deadline from the kernel, once nothing is left to be held.
func (s *Sandbox) letGo() {
	if s.held != nil {
		_ = s.held.Remove() // one that stays is swept when its group is gone
	}
	if s.kernel != nil {
		s.kernel.Close()
	}
}

// Pinned tells what the kernel holds of this and other builds of Writ, whether
// or not anybody of them is alive. It needs root.
func Pinned() ([]deadline.Pinned, error) {
	mount, err := groupMount()
	if err != nil {
		return nil, err
	}
	return deadline.List(mount)
}

// SweepPinned removes from the kernel what nobody can need any more, and with all
// set also programs that hold no deadline now. It returns what it removed.
func SweepPinned(all bool) ([]string, error) {
	mount, err := groupMount()
	if err != nil {
		return nil, err
	}
	return deadline.Sweep(mount, all)
}

func groupMount() (string, error) {
	if os.Geteuid() != 0 {
		return "", &Error{Op: "looking at deadlines in the kernel", Err: os.ErrPermission, Hint: "run as root"}
	}
	host, err := cgroup.Find()
	if err != nil {
		return "", err
	}
	if host.V2 == nil {
		return "", &Error{Op: "looking at deadlines in the kernel", Err: errors.New("no cgroup version 2 hierarchy is mounted")}
	}
	return host.V2.Mount, nil
}
