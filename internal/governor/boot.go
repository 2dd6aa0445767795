package governor

import (
	"fmt"
	"os"
	"strings"
)

// bootID names the running boot: Mono times mean nothing in another.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the boot ID: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
