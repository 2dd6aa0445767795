package enforce

import (
	"os"
	"strings"
)

// The first argument of this binary when it is not what the user started. A
// user who gives it gets a process without the descriptors that it needs.
const (
	argGuard    = "writ-guard"
	argLauncher = "writ-launcher"
	argProbe    = "writ-probe"
)

// Main must be called first thing in main, and in TestMain of what uses this
// package. In the guard, the launcher and the prober, which are this binary
// again, it does their work and never returns; else it returns at once.
func Main() {
	if len(os.Args) != 2 {
		return
	}
	switch name, _, _ := strings.Cut(os.Args[0], " "); name {
	case argGuard:
		guardMain()
	case argLauncher:
		launcherMain()
	case argProbe:
		probeMain()
	}
}

// argv names a process for ps: what it is, and for which execution.
func argv(name, id string) []string { return []string{name + " " + id, "-"} }
