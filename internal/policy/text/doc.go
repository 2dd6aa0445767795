// Package text reads the surface of policy sources: where each token and each
// statement stands, and whether a source is small and flat enough to be given
// to a parser at all.
//
// Split is the one entry point. It guarantees that no statement it returns is
// longer than MaxStatement bytes or nested deeper than MaxNesting, so that a
// recursive parser without a limit of its own cannot be made to exhaust its
// stack; a stack exhausted is not recoverable in Go. Everything that a person
// has to mend is returned as a Problem: what, where, why, and how.
//
// It does not parse Cedar and knows no schema.
package text

import "embed"

// Sources are this package's own sources, for the engine digest.
//
//go:embed *.go
var Sources embed.FS
