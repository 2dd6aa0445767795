package enforce

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// run takes what the guard says, until the guard is gone; then it makes sure
// that nothing is left, and says how it ended.
func (s *Sandbox) run() {
	buf := make([]byte, 64)
	for {
		n, err := unix.Read(s.control, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			break
		}
		if kind, arg, ok := parseMsg(buf[:n]); ok {
			s.heard(kind, arg)
		}
	}
	s.awaitGuard()
	s.finish()
}

// awaitGuard waits until the guard, and with it all of its PID namespace, has
// ended. What an adopted guard was is for its new parent to reap.
func (s *Sandbox) awaitGuard() {
	if s.guard != nil {
		_, _ = s.guard.Wait()
		return
	}
	fds := []unix.PollFd{{Fd: int32(s.guardFd), Events: unix.POLLIN}}
	for {
		if n, err := unix.Poll(fds, -1); n > 0 || err != nil && err != unix.EINTR {
			return
		}
	}
}

func (s *Sandbox) heard(kind byte, arg uint64) {
	switch kind {
	case msgReply:
		s.mu.Lock()
		if c := s.waiting[arg]; c != nil {
			close(c)
			delete(s.waiting, arg)
		}
		s.mu.Unlock()
	case msgReleased:
		s.release <- arg == 1
	case msgKept:
		s.keeping <- arg == 1
	case msgStopped:
		s.tell(Event{EventStopped, unix.Signal(arg)})
	case msgCont:
		s.tell(Event{Kind: EventContinued})
	case msgLapsed:
		s.tell(Event{Kind: EventLapsed})
	case msgThawed:
		s.tell(Event{Kind: EventThawed})
	}
}

// tell drops the oldest event when nobody takes them: a workload can stop and
// continue itself as often as it likes.
func (s *Sandbox) tell(e Event) {
	for {
		select {
		case s.events <- e:
			return
		default:
		}
		select {
		case <-s.events:
		default:
		}
	}
}

// finish runs when the guard, and with it the PID namespace, is gone.
func (s *Sandbox) finish() {
	if word := s.page.ended.Load(); word != 0 {
		cause, status := unpackEnded(word)
		s.exit = Exit{Cause: cause}
		if status.Signaled() {
			s.exit.Signal = status.Signal()
			s.exit.Code = 128 + int(s.exit.Signal)
		} else {
			s.exit.Code = status.ExitStatus()
		}
	} else {
		s.exit = Exit{Code: 128 + int(unix.SIGKILL), Signal: unix.SIGKILL, Cause: CauseGuard}
	}
	s.mu.Lock()
	ordered := s.ordered
	s.mu.Unlock()
	if ordered && s.exit.Signal == unix.SIGKILL && s.exit.Cause != CauseDeadline {
		s.exit.Cause = CauseOrder
	}
	if s.exit.Cause == CauseGuard {
		s.err = ErrGuard
		if words := s.lastWords(); words != "" {
			s.err = &Error{Op: "holding the workload", Err: ErrGuard, Hint: words}
		}
	}
	// If the program could not be run, the launcher has said why.
	buf := make([]byte, 64<<10)
	if n, _, err := unix.Recvfrom(s.launch, buf, unix.MSG_DONTWAIT); err == nil && n > 0 && buf[0] == msgFailed {
		s.err = failureFrom(buf[1:n])
	}
	if s.group != nil {
		s.exit.OutOfMemory = outOfMemory(s.group.Held().Memory)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		_ = s.group.Kill() // nobody is left in it, unless the kernel failed us
		if err := s.group.WaitEmpty(ctx); err != nil && s.err == nil {
			s.err = &Error{Op: "waiting for the workload's end", Err: err}
		}
		cancel()
	}
	s.terminal.finish(s.exit.Signal != 0)
	close(s.events)
	close(s.done)
}
