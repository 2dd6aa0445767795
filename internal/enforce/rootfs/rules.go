package rootfs

// Rule is what may be done at and below a path of the new root.
type Rule struct {
	Path                 string
	Dir, Device          bool
	Read, Write, Execute bool
	List                 bool // directories can be listed, no more
}

// Rules gives what Landlock has to allow, so that the built root can be used
// as planned. A place that allows less than the one around it needs no rule:
// how it is mounted takes the rest away.
func (p Plan) Rules() []Rule {
	rules := []Rule{
		// Not writable: /proc/PID/mem and everything that steers the kernel.
		{Path: "/proc", Dir: true, Read: true},
		{Path: "/dev", Dir: true, Device: true, Read: true, Write: true},
	}
	list := true
	for _, m := range p.Mounts {
		if m.Kind == KindEmpty || m.Kind == KindPin {
			continue
		}
		rules = append(rules, Rule{Path: m.Path, Dir: m.Dir, Device: m.Device, Read: m.Read, Write: m.Write, Execute: m.Execute})
		list = list && (m.Read || !m.Dir)
	}
	if list { // nothing in the root has names to hide
		rules = append(rules, Rule{Path: "/", Dir: true, List: true})
	}
	return rules
}
