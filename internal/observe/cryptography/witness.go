package cryptography

import (
	"fmt"
	"time"

	"github.com/writ-run/writ/internal/observe"
)

// lag remembers when the log had how many records, so that it can be told since
// when the oldest one that is not witnessed has been waiting.
type lag struct {
	grown []sample // ascending; the first is over more records than are witnessed
}

type sample struct {
	mono int64
	size uint64
}

// samples is about how many are kept: the wait is known to a part of so many.
const samples = 64

// witnessed tells whether the log is the one that its witnesses have seen, and
// whether they have seen enough of it.
func (o *Observer) witnessed(look *observe.Look, size uint64) (reason, detail string) {
	within := o.config.WitnessWithin
	if o.config.Witnessed == nil {
		if within > 0 {
			return ReasonUnwitnessed, "no witnesses are named"
		}
		return "", ""
	}
	seen, contradicted := o.config.Witnessed()
	if contradicted != nil {
		return ReasonLogInconsistent, contradicted.Error()
	}
	if within <= 0 {
		return "", ""
	}
	if waits := o.lag.add(look.Mono, size, seen, within); waits > within {
		return ReasonUnwitnessed, fmt.Sprintf("%d of %d records are witnessed, and that for %s", seen, size, waits.Round(time.Second))
	}
	return "", ""
}

// add notes that there are size records now, and returns how long the oldest one
// that is not witnessed has been waiting.
func (l *lag) add(mono int64, size, witnessed uint64, within time.Duration) time.Duration {
	n := len(l.grown)
	if size > witnessed && (n == 0 || size > l.grown[n-1].size && mono-l.grown[n-1].mono >= int64(within)/samples) {
		l.grown = append(l.grown, sample{mono, size})
	}
	done := 0
	for done < len(l.grown) && l.grown[done].size <= witnessed {
		done++
	}
	l.grown = append(l.grown[:0], l.grown[done:]...)
	if len(l.grown) == 0 {
		return 0
	}
	return time.Duration(mono - l.grown[0].mono)
}
