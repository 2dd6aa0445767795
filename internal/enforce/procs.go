package enforce

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

func itoa(n int) string { return strconv.Itoa(n) }

// pidOf gives the process of a pidfd, as this process's PID namespace numbers
// it.
func pidOf(pidfd int) (int, error) {
	f, err := os.Open("/proc/self/fdinfo/" + itoa(pidfd))
	if err != nil {
		return 0, &Error{Op: "identifying the workload", Err: err}
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if v, ok := strings.CutPrefix(sc.Text(), "Pid:"); ok {
			if pid, err := strconv.Atoi(strings.TrimSpace(v)); err == nil && pid > 0 {
				return pid, nil
			}
		}
	}
	return 0, &Error{Op: "identifying the workload", Err: errors.New("it has ended")}
}

// namespacePids lists the processes of the PID namespace that guard is the
// first process of, without guard itself.
func namespacePids(guard int) ([]int, error) {
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", guard))
	if err != nil {
		return nil, &Error{Op: "listing processes", Err: err}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, &Error{Op: "listing processes", Err: err}
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == guard {
			continue
		}
		if of, err := os.Readlink("/proc/" + e.Name() + "/ns/pid"); err == nil && of == ns {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}
