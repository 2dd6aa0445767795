package observe

import "time"

// Expiry tells when something has expired, and does not believe a wall clock
// that was set back: what has expired once stays so, and the time left counts
// down on the monotonic clock too.
type Expiry struct {
	at   time.Time
	mono int64 // the same instant on the monotonic clock, by the first look
	past bool
}

// NewExpiry makes an Expiry at an instant; the zero time is never.
func NewExpiry(at time.Time) *Expiry { return &Expiry{at: at} }

// Passed tells whether the instant has come, and cuts what the look says at it.
func (e *Expiry) Passed(l *Look) bool {
	if e.at.IsZero() {
		return false
	}
	left := e.at.Sub(time.Unix(0, l.Wall))
	if end := l.Mono + int64(left); e.mono == 0 || end < e.mono {
		e.mono = end
	}
	if left <= 0 || l.Mono >= e.mono {
		e.past = true
	}
	l.NotBeyond(e.mono)
	return e.past
}
