package client

import "time"

// Status is what is true of an execution now.
type Status struct {
	Execution  string      `json:"execution"`
	Agent      string      `json:"agent"`    // who runs
	Operator   string      `json:"operator"` // who let it run
	Argv       []string    `json:"argv"`
	Dir        string      `json:"dir"`
	Tier       string      `json:"tier"` // "kernel", "user" or "cooperative"
	Phase      string      `json:"phase"`
	Since      time.Time   `json:"since"` // when the phase began
	Conditions []Condition `json:"conditions"`
	Lease      Lease       `json:"lease"`
	Actions    uint64      `json:"actions"` // asked for so far
	Pending    int         `json:"pending"` // held until the pause ends
	GrantID    string      `json:"grant_id"`
	Bundle     string      `json:"bundle"` // digest of the policy bundle in force
	Governor   int         `json:"governor_pid"`
	Guard      int         `json:"guard_pid,omitempty"`
	Main       int         `json:"main_pid,omitempty"`
	Processes  int         `json:"processes"`
	Records    uint64      `json:"records"` // in the evidence log: recorded
	Published  uint64      `json:"published,omitempty"`
	Witnessed  uint64      `json:"witnessed,omitempty"`
	Exit       *Exit       `json:"exit,omitempty"`
}

// Condition is one of the seven conditions.
type Condition struct {
	Condition string `json:"condition"`
	Standing  string `json:"standing"` // "holds", "lost", "stale" or "unknown"
	Reason    string `json:"reason,omitempty"`
	Detail    string `json:"detail,omitempty"`
	Digest    string `json:"digest,omitempty"`
}

// Lease is the lease in force, or the last one.
type Lease struct {
	Seq        uint64        `json:"seq"`
	DeadlineIn time.Duration `json:"deadline_in_ns"` // negative when it has lapsed
	KillIn     time.Duration `json:"kill_in_ns"`     // while paused: until the pause ends in the kill
}

// Exit is how the workload's main process ended.
type Exit struct {
	Code   int32  `json:"code"` // valid when Signal is 0
	Signal int32  `json:"signal,omitempty"`
	Lost   string `json:"lost,omitempty"` // why the end could not be seen
}
