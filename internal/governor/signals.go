package governor

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/writ-run/writ/internal/enforce"
	"github.com/writ-run/writ/internal/model"
)

// passedOn are the signals that are meant for the workload when they reach the
// governor. What a terminal sends goes to the workload's own process group.
var passedOn = []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGWINCH}

// forwardSignals passes signals on to the workload until the returned function
// is called. Before there is one, those that would end it end the execution.
func (e *execution) forwardSignals() (stop func()) {
	var wanted []os.Signal
	for _, s := range passedOn {
		if !signal.Ignored(s) {
			wanted = append(wanted, s)
		}
	}
	arrived := make(chan os.Signal, 16)
	signal.Notify(arrived, wanted...)
	done := make(chan struct{})
	e.aside(func() {
		for {
			select {
			case s := <-arrived:
				e.pass(s.(syscall.Signal))
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(arrived)
		close(done)
	}
}

func (e *execution) pass(s syscall.Signal) {
	if box := e.sandbox.Load(); box != nil {
		_ = box.Signal(s) // gone already: its end is on its way
		return
	}
	switch s { // the others have nobody to go to yet
	case unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP:
		e.tell(model.Input{Kind: model.InputOrder, Order: &model.Order{Kind: model.OrderKill, Operator: e.sub.Operator, Reason: "signal " + s.String()}})
	}
}

// byTerminal is the reason of an order that a stop from the terminal stands for.
const byTerminal = "terminal"

// followStops makes a workload that is stopped from the terminal (Ctrl-Z) a
// pause, and stops this process too, as its shell expects. When the shell
// continues it, the execution is resumed. Without a terminal nobody would: a
// workload that stops itself must not stop its governor.
func (e *execution) followStops(s *enforce.Sandbox) {
	for event := range s.Events() {
		if event.Kind != enforce.EventStopped || !s.HasTerminal() {
			continue
		}
		by := e.sub.Operator
		order := func(kind model.OrderKind) error {
			effects, err := e.loop.call(e.ctx, model.Input{Kind: model.InputOrder, Order: &model.Order{Kind: kind, Operator: by, Reason: byTerminal}})
			if err == nil && len(effects) > 0 && effects[len(effects)-1].Kind == model.EffectRefuse {
				err = Refusal(effects[len(effects)-1].Reason)
			}
			return err
		}
		if order(model.OrderPause) != nil {
			continue // paused or ending already
		}
		s.Background()
		continued := make(chan os.Signal, 1)
		signal.Notify(continued, unix.SIGCONT)
		_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
		<-continued
		signal.Stop(continued)
		s.Foreground()
		_ = s.SignalGroup(unix.SIGCONT)
		_ = order(model.OrderResume)
		e.observe()
	}
}
