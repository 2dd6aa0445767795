// Package core is the pure state machine of one execution: what happens to it
// comes in as an input, what is to be done to it comes out as effects.
//
// Machine.Step is the one entry point. The same inputs give the same effects,
// bit for bit, on every machine: the package does no I/O, reads no clock,
// starts no goroutine, uses no randomness, no floating point and no
// reflection, and never ranges over a map. So a recorded execution can be
// replayed, a lost governor's state rebuilt, and a million faults simulated.
//
// It does not sign, write, freeze or kill; it does not know what a policy is
// written in; and it never panics on an input.
package core

import (
	"embed"

	"github.com/writ-run/writ/internal/model"
)

// Sources are this package's own sources, from which the engine digest is made.
//
//go:embed *.go
var Sources embed.FS

// Policies decides requests. Decide must be a pure function of the bundle
// that the digest names and of the request: the same arguments always give the
// same Decision, to the byte. A bundle that is not loaded denies with
// ReasonUnknownBundle. It is called from Step only.
type Policies interface {
	Decide(bundle model.Digest, request model.Request) model.Decision
}
