//go:build writdeadlock

package governor

import "os"

// hang blocks the loop for ever once the file that WRIT_DEADLOCK names is
// there: a governor that is alive, answers, and does nothing. It is for the
// tests of what then becomes of the workload.
func hang() {
	if name := os.Getenv("WRIT_DEADLOCK"); name != "" {
		if _, err := os.Stat(name); err == nil {
			select {}
		}
	}
}
