package model

// InputKind says which field of an Input is set.
type InputKind uint8

const (
	InputSubmit  InputKind = iota + 1 // Submission
	InputObserve                      // Observation
	InputAsk                          // Action: a gate holds it
	InputOutcome                      // Outcome: what became of an allowed action
	InputOrder                        // Order
	InputReport                       // Report: how carrying out an effect went
	InputExit                         // Exit: the workload ended
	InputTick                         // nothing but time
	InputAdopt                        // Adoption: another governor took over
)

var inputNames = []string{"", "submit", "observe", "ask", "outcome", "order", "report", "exit", "tick", "adopt"}

func (k InputKind) String() string               { return nameOf(inputNames, k, "input") }
func (k InputKind) MarshalText() ([]byte, error) { return marshalWord(inputNames, k, "input") }
func (k *InputKind) UnmarshalText(b []byte) (err error) {
	*k, err = parseWord[InputKind](inputNames, string(b), "input")
	return err
}

// Input is one thing that happens to an execution, dated. Exactly the field
// that Kind names is set.
type Input struct {
	Kind        InputKind    `cbor:"1,keyasint" json:"kind"`
	Mono        int64        `cbor:"2,keyasint" json:"mono"` // nanoseconds of CLOCK_BOOTTIME
	Wall        int64        `cbor:"3,keyasint" json:"wall"` // nanoseconds since 1970, UTC
	Submission  *Submission  `cbor:"4,keyasint,omitempty" json:"submission,omitempty"`
	Observation *Observation `cbor:"5,keyasint,omitempty" json:"observation,omitempty"`
	Action      *Action      `cbor:"6,keyasint,omitempty" json:"action,omitempty"`
	Outcome     *Outcome     `cbor:"7,keyasint,omitempty" json:"outcome,omitempty"`
	Order       *Order       `cbor:"8,keyasint,omitempty" json:"order,omitempty"`
	Report      *Report      `cbor:"9,keyasint,omitempty" json:"report,omitempty"`
	Exit        *Exit        `cbor:"10,keyasint,omitempty" json:"exit,omitempty"`
	Adoption    *Adoption    `cbor:"11,keyasint,omitempty" json:"adoption,omitempty"`
}

// WellFormed tells whether exactly the field that Kind names is set.
func (in Input) WellFormed() bool {
	set := [...]bool{
		InputSubmit:  in.Submission != nil,
		InputObserve: in.Observation != nil,
		InputAsk:     in.Action != nil,
		InputOutcome: in.Outcome != nil,
		InputOrder:   in.Order != nil,
		InputReport:  in.Report != nil,
		InputExit:    in.Exit != nil,
		InputTick:    in.Kind == InputTick,
		InputAdopt:   in.Adoption != nil,
	}
	if in.Kind < InputSubmit || int(in.Kind) >= len(set) {
		return false
	}
	for k := InputSubmit; int(k) < len(set); k++ {
		if set[k] != (k == in.Kind) {
			return false
		}
	}
	return true
}

// Adoption tells that a governor took over an execution whose governor died.
type Adoption struct {
	LastSeq  uint64 `cbor:"1,keyasint" json:"last_seq"`                 // last record of the governor before
	Governor int64  `cbor:"2,keyasint" json:"governor"`                 // process number of the new one
	Start    uint64 `cbor:"3,keyasint" json:"start"`                    // its start time, as of a Process
	Held     int64  `cbor:"4,keyasint,omitempty" json:"held,omitempty"` // calls that the one before was told of, to be asked again
}

// Outcome tells what became of an action: every allow gets exactly one.
type Outcome struct {
	Number uint64 `cbor:"1,keyasint" json:"number"`
	Done   bool   `cbor:"2,keyasint,omitempty" json:"done"` // the gate carried it out
	Errno  int32  `cbor:"3,keyasint,omitempty" json:"errno,omitempty"`
	Detail string `cbor:"4,keyasint,omitempty" json:"detail,omitempty"` // such as "cancelled": the asker was gone
}

// Report tells how carrying out an Arm, Start, Freeze, Thaw or Kill effect went.
type Report struct {
	Effect   EffectKind `cbor:"1,keyasint" json:"effect"`
	Number   uint64     `cbor:"2,keyasint" json:"number"` // the effect's
	OK       bool       `cbor:"3,keyasint,omitempty" json:"ok"`
	Tier     Tier       `cbor:"4,keyasint,omitempty" json:"tier,omitempty"`     // armed: what was really armed
	Controls []string   `cbor:"5,keyasint,omitempty" json:"controls,omitempty"` // armed: the controls in force
	Detail   string     `cbor:"6,keyasint,omitempty" json:"detail,omitempty"`
}
