//go:build race

package log

// underRace: this test binary is some six times slower.
const underRace = true
