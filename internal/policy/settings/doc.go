// Package settings reads the settings file of a bundle: time constants, budgets,
// version, expiry and the weakest tier that will do.
//
// Parse is the one entry point. It is strict: an unknown key, a key given
// twice, a value of the wrong kind or out of bounds is a problem with line and
// column, and nothing is guessed. What a file does not mention has the default.
//
// The package reads no file and applies nothing.
package settings

import "embed"

// Sources are this package's own sources, for the engine digest.
//
//go:embed *.go
var Sources embed.FS
