// Package scope watches whether an execution stays in its budgets: wall and CPU
// time, memory, processes.
//
// New is the entry point; Attach says where the usage is read, once there is
// something to read. A budget that runs out is seen the sooner the closer it
// is: the observer asks to look again when, by what it has seen, the first
// budget could be spent.
//
// The package counts no actions, which the core does, and enforces nothing:
// kernel limits, where set, hold besides.
package scope

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/observe"
)

// Usage is what an execution uses or has used.
type Usage struct {
	CPU       int64 // nanoseconds of all processes, the ended ones included; never falls
	Memory    int64 // bytes that the kernel cannot take back by itself
	Processes int64
}

// Source tells the usage. An error loses the condition.
type Source interface{ Usage() (Usage, error) }

// Config says what to watch.
type Config struct {
	Clock  observe.Clock
	Budget model.Budget
	// Began is the mono instant from which wall time counts.
	Began int64
}

// Observer watches scope.
type Observer struct {
	config Config
	digest model.Digest

	mu     sync.Mutex
	source Source

	last  Usage
	at    int64
	again time.Duration
}

var (
	_ observe.Observer = (*Observer)(nil)
	_ observe.Pacer    = (*Observer)(nil)
)

// New returns an observer that watches wall time only, until Attach.
func New(c Config) *Observer {
	return &Observer{config: c, digest: model.DigestOf(model.Encode(c.Budget))}
}

// Attach says where the usage is read from now on; nil is nowhere, once the
// execution has ended.
func (o *Observer) Attach(s Source) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.source = s
}

func (o *Observer) Condition() model.Condition { return model.Scope }
func (o *Observer) Rhythm() observe.Rhythm     { return observe.Usual }

// Again implements observe.Pacer.
func (o *Observer) Again() time.Duration { return o.again }

// A limit may be passed by what is used in the time of one look.
const soonest = 10 * time.Millisecond

// slack is how long a word on wall time holds beyond the end of the budget, so
// that the observer's own word, which names the reason, comes first.
const slack = 100 * time.Millisecond

// Observe compares the usage with the budget.
func (o *Observer) Observe(context.Context) model.Observation {
	look := o.config.Clock.Begin(model.Scope, observe.Usual.Holds)
	budget := o.config.Budget
	o.again = 0
	wall := look.Mono - o.config.Began
	if budget.Wall > 0 {
		if wall >= budget.Wall {
			return look.Lost(o.digest, ReasonWall, fmt.Sprintf("%s of %s wall time", text(wall), text(budget.Wall)))
		}
		left := budget.Wall - wall
		o.sooner(time.Duration(left))
		if end := look.Mono + left; end <= math.MaxInt64-int64(slack) {
			look.NotBeyond(end + int64(slack))
		}
	}
	o.mu.Lock()
	source := o.source
	o.mu.Unlock()
	if source == nil {
		return look.Valid(o.digest, "")
	}
	use, err := source.Usage()
	if err != nil {
		return look.Lost(o.digest, ReasonUnknown, err.Error())
	}
	was, elapsed := o.last, look.Mono-o.at
	if o.at == 0 {
		elapsed = 0
	}
	o.last, o.at = use, look.Mono
	switch {
	case budget.CPU > 0 && use.CPU >= budget.CPU:
		return look.Lost(o.digest, ReasonCPU, fmt.Sprintf("%s of %s CPU time", text(use.CPU), text(budget.CPU)))
	case budget.Memory > 0 && use.Memory > budget.Memory:
		return look.Lost(o.digest, ReasonMemory, fmt.Sprintf("%s of %s memory", bytesText(use.Memory), bytesText(budget.Memory)))
	case budget.Processes > 0 && use.Processes > budget.Processes:
		return look.Lost(o.digest, ReasonProcesses, fmt.Sprintf("%d of %d processes", use.Processes, budget.Processes))
	}
	if budget.CPU > 0 { // every CPU may be busy with it
		o.sooner(max(time.Duration((budget.CPU-use.CPU)/int64(runtime.NumCPU())), soonest))
	}
	if budget.Memory > 0 {
		o.sooner(predict(was.Memory, use.Memory, budget.Memory, elapsed))
	}
	if budget.Processes > 0 {
		o.sooner(predict(was.Processes, use.Processes, budget.Processes, elapsed))
	}
	return look.Valid(o.digest, "")
}

// predict tells when to look again at something that was and is so much: in
// half the time in which it would reach the limit if it went on growing as in
// the elapsed time; often once three quarters are used. 0 is no wish.
func predict(was, is, limit, elapsed int64) time.Duration {
	if is > limit/4*3 {
		return 2 * soonest
	}
	grown := is - was
	if grown <= 0 || elapsed <= 0 {
		return 0
	}
	soon := float64(limit-is) / float64(grown) * float64(elapsed) / 2
	if soon > float64(time.Minute) {
		return 0
	}
	return max(time.Duration(soon), soonest)
}

func (o *Observer) sooner(d time.Duration) {
	if d > 0 && (o.again == 0 || d < o.again) {
		o.again = d
	}
}

func text(ns int64) string { return time.Duration(ns).Round(time.Millisecond).String() }

func bytesText(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// Codes with which scope is lost.
const (
	ReasonWall      = "budget_wall"
	ReasonCPU       = "budget_cpu"
	ReasonMemory    = "budget_memory"
	ReasonProcesses = "budget_processes"
	ReasonUnknown   = "usage_unknown"
)

// Reasons documents them.
var Reasons = []observe.Reason{
	{Code: ReasonWall, Title: "the budget of wall time is spent", Why: "the execution took longer than it was given", Fix: "give it more: `writ run --budget wall=TIME`"},
	{Code: ReasonCPU, Title: "the budget of CPU time is spent", Why: "its processes together computed longer than they were given", Fix: "give it more: `writ run --budget cpu=TIME`"},
	{Code: ReasonMemory, Title: "more memory is used than was given", Why: "its processes together hold more than the budget", Fix: "give it more: `writ run --budget memory=SIZE`", Returns: true},
	{Code: ReasonProcesses, Title: "more processes run than were given", Why: "the execution has started more than the budget", Fix: "give it more: `writ run --budget processes=N`", Returns: true},
	{Code: ReasonUnknown, Title: "what the execution uses cannot be read", Why: "a budget that cannot be checked does not count as kept", Fix: "`writ doctor` probes cgroups and /proc", Returns: true},
}
