//go:build !writdeadlock

package governor

// hang does nothing. See hang_deadlock.go, which no program that anybody is
// given is built with.
func hang() {}
