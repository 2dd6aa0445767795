package enforce

import (
	"os"
	"runtime"
	"strings"
)

// The first argument of this binary when it is not what the user started. A
// user who gives it gets a process without the descriptors that it needs.
const (
	argGuard    = "writ-guard"
	argLauncher = "writ-launcher"
	argProbe    = "writ-probe"
)

// Locked here, the main goroutine keeps the main thread: the launcher's execve
// then comes from the thread by whose number everybody knows the process.
func init() {
	if role() != nil {
		runtime.LockOSThread()
	}
}

// Main must be called first thing in main, and in TestMain of what uses this
// package. In the guard, the launcher and the prober, which are this binary
// again, it does their work and never returns; else it returns at once.
func Main() {
	if run := role(); run != nil {
		run()
	}
}

func role() func() {
	if len(os.Args) != 2 {
		return nil
	}
	switch name, _, _ := strings.Cut(os.Args[0], " "); name {
	case argGuard:
		return guardMain
	case argLauncher:
		return launcherMain
	case argProbe:
		return probeMain
	}
	return nil
}

// argv names a process for ps: what it is, and for which execution.
func argv(name, id string) []string { return []string{name + " " + id, "-"} }
