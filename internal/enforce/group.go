package enforce

// Group is the directory of the workload's control group beneath the cgroup v2
// mount, or "" where there is none.
func (s *Sandbox) Group() string {
	if s.group == nil {
		return ""
	}
	return s.group.Work()
}
