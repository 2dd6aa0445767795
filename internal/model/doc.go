// Package model holds the words of Writ as types, and the one canonical
// encoding of each.
//
// Everything that happens to an execution is an Input, everything that is done
// to it is an Effect, and both are written as the bodies of Records. Values are
// immutable after construction. An enum's zero value is invalid, the zero
// Decision is deny, the zero Observation is not valid.
//
// The package does no I/O, reads no clock and knows nothing of policy.
package model

import "embed"

// Sources are this package's own sources, from which the engine digest is
// made: two builds that could decide differently never share a digest.
//
//go:embed *.go
var Sources embed.FS
