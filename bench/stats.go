//go:build linux

package main

import (
	"fmt"
	"slices"
	"time"
)

// sample is a set of durations.
type sample []time.Duration

// at returns the quantile q, 0 to 1: the smallest value that at least that part
// of the sample does not exceed. It sorts the sample. Of an empty one it is 0.
func (s sample) at(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	slices.Sort(s)
	i := int(q*float64(len(s))+0.999999) - 1
	return s[min(max(i, 0), len(s)-1)]
}

func (s sample) p50() time.Duration { return s.at(0.50) }
func (s sample) p99() time.Duration { return s.at(0.99) }

// text gives median and p99; of fewer than a hundred, p99 is the worst.
func (s sample) text() string {
	return fmt.Sprintf("p50 %s, p99 %s (n=%d)", human(s.p50()), human(s.p99()), len(s))
}

// values are the same for programs, in microseconds.
func (s sample) values() map[string]float64 {
	return map[string]float64{"p50_us": us(s.p50()), "p99_us": us(s.p99()), "max_us": us(s.at(1))}
}

func us(d time.Duration) float64 { return float64(d) / 1e3 }

// human writes a duration with three digits.
func human(d time.Duration) string {
	switch a := d.Abs(); {
	case a < 10*time.Microsecond:
		return fmt.Sprintf("%.2f us", us(d))
	case a < time.Millisecond:
		return fmt.Sprintf("%.0f us", us(d))
	case a < 100*time.Millisecond:
		return fmt.Sprintf("%.2f ms", us(d)/1e3)
	case a < time.Second:
		return fmt.Sprintf("%.0f ms", us(d)/1e3)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// thousands writes a count with commas.
func thousands(n float64) string {
	s := fmt.Sprintf("%.0f", n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
