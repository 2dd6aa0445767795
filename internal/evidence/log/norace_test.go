//go:build !race

package log

const underRace = false
