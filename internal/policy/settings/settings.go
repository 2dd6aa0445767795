package settings

import (
	"time"

	"github.com/writ-run/writ/internal/model"
)

// Settings are what a settings file says.
type Settings struct {
	Version uint64     // goes up with every change; at least 1
	Expires int64      // Unix nanoseconds at which the bundle ceases to be valid; 0 is never
	Tier    model.Tier // the weakest tier that will do

	// WitnessWithin is how long, in nanoseconds, the evidence may be recorded
	// without being witnessed by a quorum; 0 is for ever.
	WitnessWithin int64

	// Redact says what is a secret in what is recorded.
	Redact Redact

	// Execution goes into each submission as it is.
	Execution model.Settings
}

// Redact says what does not go into records as it is: see package redact.
type Redact struct {
	Off     bool   // nothing is redacted
	Names   string // further parts of names of secrets, separated by commas
	Pattern string // a regular expression (RE2); its first group, or all of it, is a secret
}

// Default returns the settings of an empty file.
func Default() Settings {
	return Settings{
		Version: 1,
		Tier:    model.TierUser,
		Execution: model.Settings{
			LeaseLength: int64(2 * time.Second),
			RenewEvery:  int64(500 * time.Millisecond),
			KillGrace:   int64(2 * time.Second),
			AdmitWithin: int64(10 * time.Second),
			PauseLimit:  int64(time.Hour),
		},
	}
}

// Bounds on the time constants: below, a busy machine loses leases that nobody
// took away; above, a loss has no effect in any useful time.
const (
	MinLease   = 100 * time.Millisecond
	MaxLease   = time.Hour
	MinWitness = 2 * time.Second // a witness is asked at most once a second
	MinRenew   = 10 * time.Millisecond
	MaxTime    = 366 * 24 * time.Hour
)
