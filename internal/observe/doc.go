// Package observe watches the seven conditions of an execution.
//
// Each condition has one Observer, in a package of its own beneath this one.
// Run lets a set of them look, each in its own rhythm, and hands on what they
// see: a change the moment it is seen, and a repetition in time, so that a
// consumer who counts a stale word as a loss never waits for one that is not
// coming.
//
// The guarantee is that silence is never mistaken for health. An observer that
// hangs says nothing more, and its last word runs out; one that panics or
// cannot look says "invalid". The package does not judge what a loss leads to,
// and keeps no history.
package observe
