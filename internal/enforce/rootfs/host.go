package rootfs

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// steering are the file system types through which the host is steered or
// looked into, whoever owns the files: for user 0, being the owner of a file in
// /proc/sys is enough. A place may contain such a mount, as a tree prepared for
// chroot does with its own proc; it is covered there.
var steering = map[string]bool{
	"proc": true, "cgroup": true, "cgroup2": true, "cpuset": true, "resctrl": true,
	"debugfs": true, "tracefs": true, "securityfs": true, "configfs": true, "bpf": true, "pstore": true, "efivarfs": true,
	"selinuxfs": true, "smackfs": true, "binfmt_misc": true, "fusectl": true, "functionfs": true,
	"nfsd": true, "rpc_pipefs": true, "xenfs": true, "mqueue": true, "devtmpfs": true, "devpts": true,
}

// hostMount is a line of mountinfo, see proc_pid_mountinfo(5).
type hostMount struct {
	device string // major:minor of the file system
	root   string // what of it is mounted
	at     string
	kind   string
}

// hostMounts lists what is mounted in the caller's view. Of several mounts at
// one path the last is the one that is seen.
func hostMounts() ([]hostMount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []hostMount
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		m, err := parseMount(sc.Text())
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, sc.Err()
}

func parseMount(line string) (hostMount, error) {
	front, back, ok := strings.Cut(line, " - ")
	words, after := strings.Fields(front), strings.Fields(back)
	if !ok || len(words) < 6 || len(after) < 1 {
		return hostMount{}, fmt.Errorf("mountinfo has the line %q", line)
	}
	return hostMount{device: words[2], root: unescape(words[3]), at: unescape(words[4]), kind: after[0]}, nil
}

// unescape undoes what mountinfo does to blanks and backslashes: \040.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// coverHost covers what the host has mounted in the places: the file systems
// that steer it, and other mounts of what is hidden. /sys, which may be read,
// is not to be written to.
func (r *resolver) coverHost(hidden []string) error {
	mounts, err := hostMounts()
	if err != nil {
		return &Error{"/proc/self/mountinfo", err, "the host must have a /proc"}
	}
	seen := map[string]hostMount{}
	for _, m := range mounts {
		seen[m.at] = m
	}
	for _, m := range mounts {
		if seen[m.at] != m || under(m.at, "/proc") || under(m.at, "/dev") {
			continue // the root has its own of these
		}
		switch {
		case m.kind == "sysfs":
			r.keepFromWriting(m.at)
		case steering[m.kind]:
			if err := r.hide(m.at); err != nil {
				return err
			}
		}
	}
	for _, path := range hidden {
		for _, alias := range aliases(mounts, path) {
			if err := r.hide(alias); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepFromWriting makes path read-only where it lies in a writable place. What
// is hidden or private anyway stays so, and a directory that is a place itself
// is what it was named for: the working directory, say.
func (r *resolver) keepFromWriting(path string) {
	info, err := os.Lstat(path)
	if err != nil {
		return
	}
	var of Mount
	for at, m := range r.at {
		if under(path, at) && len(at) >= len(of.Path) {
			of = m
		}
	}
	if of.Kind == KindBind && of.Write && !(info.IsDir() && of.Path == path) {
		r.at[path] = Mount{Kind: KindBind, Path: path, Dir: info.IsDir(), Device: of.Device, Read: of.Read, Execute: of.Execute}
	}
}

// aliases are the other paths at which the same file system has path, or parts
// of it, mounted.
func aliases(mounts []hostMount, path string) (list []string) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil
	}
	var of hostMount
	for _, m := range mounts {
		if under(real, m.at) && len(m.at) >= len(of.at) {
			of = m
		}
	}
	inside := filepath.Join(of.root, strings.TrimPrefix(real, of.at))
	for _, m := range mounts {
		if m.device != of.device {
			continue
		}
		alias, of := "", real
		switch {
		case under(inside, m.root):
			alias = filepath.Join(m.at, strings.TrimPrefix(inside, m.root))
		case under(m.root, inside):
			alias, of = m.at, filepath.Join(real, strings.TrimPrefix(m.root, inside))
		}
		if alias != "" && !under(alias, real) && same(alias, of) {
			list = append(list, alias)
		}
	}
	return list
}

// same tells whether both paths are the same file: a mount over one of them
// would make them different.
func same(a, b string) bool {
	var sa, sb unix.Stat_t
	return unix.Lstat(a, &sa) == nil && unix.Lstat(b, &sb) == nil && sa.Dev == sb.Dev && sa.Ino == sb.Ino
}
