package cryptography

import (
	"testing"
	"time"
)

// TestLag: the wait is that of the oldest record that is not witnessed.
func TestLag(t *testing.T) {
	const within = 10 * time.Second
	var l lag
	second := int64(time.Second)
	for _, step := range []struct {
		at              int64
		size, witnessed uint64
		waits           time.Duration
	}{
		{0, 5, 0, 0}, {3, 7, 0, 3 * time.Second}, {4, 8, 5, time.Second}, {9, 8, 5, 6 * time.Second},
		{9, 8, 8, 0}, {100, 8, 8, 0}, {101, 9, 8, 0}, {112, 20, 8, 11 * time.Second}, {113, 20, 20, 0},
	} {
		if waits := l.add(step.at*second, step.size, step.witnessed, within); waits != step.waits {
			t.Errorf("at %d: waits %s, want %s", step.at, waits, step.waits)
		}
	}
	for i := range int64(100_000) {
		l.add(200*second+i*int64(time.Millisecond), 100+uint64(i), 0, within)
	}
	if n := len(l.grown); n > 100*samples {
		t.Errorf("%d samples are kept", n)
	}
}
