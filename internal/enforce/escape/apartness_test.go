//go:build linux

package escape

import (
	"net"
	"os"
	"strings"
	"testing"
)

// What the attempts could harm must not be there to be harmed.
func TestTheSuiteIsByItself(t *testing.T) {
	if !isApart() {
		t.Fatal("it is not")
	}
	first, err := os.ReadFile("/proc/1/cmdline")
	if err != nil || !strings.Contains(string(first), "/proc/self/exe") {
		t.Errorf("the first process is %q, %v", first, err)
	}
	if list := processes(func(_, _ string) bool { return true }); len(list) > 2 {
		t.Errorf("there are others: %v", list)
	}
	interfaces, err := net.Interfaces()
	if err != nil || len(interfaces) != 1 || interfaces[0].Name != "lo" {
		t.Errorf("interfaces: %v, %v", interfaces, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), "shared:") || strings.Contains(string(mounts), "master:") {
		t.Errorf("mounts would be seen outside, %v", err)
	}
}
