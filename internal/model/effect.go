package model

// EffectKind says what an Effect is.
type EffectKind uint8

const (
	EffectRefuse    EffectKind = iota + 1 // the input was not taken; Reason says why
	EffectCondition                       // a condition's standing changed; Condition
	EffectDecision                        // Ruling
	EffectPhase                           // Phase, Reason
	EffectLease                           // Lease: the deadline may move
	EffectArm                             // build the enforcement, with the workload held before its first instruction
	EffectStart                           // let the workload go
	EffectFreeze                          // freeze it; KillAt says when it is killed unless a lease comes
	EffectThaw                            // let it go on; a lease came just before
	EffectKill                            // kill all of it, and clean up
)

var effectNames = []string{"", "refuse", "condition", "decision", "phase", "lease", "arm", "start", "freeze", "thaw", "kill"}

func (k EffectKind) String() string               { return nameOf(effectNames, k, "effect") }
func (k EffectKind) MarshalText() ([]byte, error) { return marshalWord(effectNames, k, "effect") }
func (k *EffectKind) UnmarshalText(b []byte) (err error) {
	*k, err = parseWord[EffectKind](effectNames, string(b), "effect")
	return err
}

// Effect is one thing that is to be done to an execution, or that is now true
// of it. Number is dense over all effects of the execution, from 1.
type Effect struct {
	Number    uint64          `cbor:"1,keyasint" json:"number"`
	Kind      EffectKind      `cbor:"2,keyasint" json:"kind"`
	Reason    string          `cbor:"3,keyasint,omitempty" json:"reason,omitempty"` // stable code
	Condition *ConditionState `cbor:"4,keyasint,omitempty" json:"condition,omitempty"`
	Ruling    *Ruling         `cbor:"5,keyasint,omitempty" json:"ruling,omitempty"`
	Phase     Phase           `cbor:"6,keyasint,omitempty" json:"phase,omitempty"`
	Lease     *Lease          `cbor:"7,keyasint,omitempty" json:"lease,omitempty"`
	KillAt    int64           `cbor:"8,keyasint,omitempty" json:"kill_at,omitempty"` // Mono
	Exit      *Exit           `cbor:"9,keyasint,omitempty" json:"exit,omitempty"`    // with the phases completed and terminated
}

// Ruling is a decision and all that it was made on.
type Ruling struct {
	Action     uint64           `cbor:"1,keyasint,omitempty" json:"action,omitempty"` // the action's number; 0 for start and continue
	Kind       ActionKind       `cbor:"2,keyasint" json:"kind"`
	Decision   Decision         `cbor:"3,keyasint" json:"decision"`
	Bundle     Digest           `cbor:"4,keyasint" json:"bundle"`
	Conditions []ConditionState `cbor:"5,keyasint,omitempty" json:"conditions,omitempty"` // only those that do not hold
	Lease      uint64           `cbor:"6,keyasint,omitempty" json:"lease,omitempty"`      // the lease under which it was decided
}
