package governor

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// now reads CLOCK_BOOTTIME, which goes on while the machine sleeps, and the
// wall clock. Both in nanoseconds.
func now() (mono, wall int64) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("governor: reading CLOCK_BOOTTIME: " + err.Error()) // there since Linux 2.6.39
	}
	return ts.Nano(), time.Now().UnixNano()
}

// bootID names the running boot: Mono times mean nothing in another.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the boot ID: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
