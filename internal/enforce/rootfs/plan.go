// Package rootfs gives a workload a file system root in which only the places
// that were allowed exist.
//
// Resolve says what the root will be; Plan.Build makes it and moves into it.
// The guarantee: a path outside of the places cannot be named at all, a place
// that is not writable is mounted read-only, one that is not executable is
// mounted noexec, one inside another that may not be read is covered by an
// empty thing, and nothing mounted is setuid or a device.
//
// It does not restrict by Landlock: the rules for that come from Plan.Rules.
package rootfs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Place is a file or directory of the host and what may be done with it. A
// Place inside another one takes precedence there, whether it allows more or
// less; one that allows nothing is hidden.
type Place struct {
	Path                 string // absolute; symbolic links are followed and kept
	Read, Write, Execute bool
	Optional             bool // a place that is not there, or that the caller cannot look up, is left out instead of an error
}

// Private is a fresh, empty, writable directory that vanishes with the
// execution.
type Private struct {
	Path    string // absolute; need not exist on the host
	Bytes   int64  // its largest size; 0 is half of the memory
	Execute bool
}

// Config is what a root is made from.
type Config struct {
	Places   []Place
	Private  []Private
	Fixed    []string // never writable, whatever Places around them say: what Writ itself goes by
	Hidden   []string // never reachable, whatever Places say: Writ's own state
	Terminal string   // the caller's terminal, shown as /dev/console, or ""
	UserNS   bool     // it is built in a user namespace
}

// Plan is a Config with everything looked up. It holds no descriptors and can
// be sent to the process that builds it.
type Plan struct {
	Mounts   []Mount // parents before children
	Links    []Link
	Skipped  []string // optional places that are not there
	Terminal string
	UserNS   bool
}

// MountKind says what is mounted.
type MountKind string

const (
	KindBind  MountKind = "bind"  // the host's file or directory of the same path
	KindFresh MountKind = "fresh" // a Private
	KindEmpty MountKind = "empty" // something empty that nobody can read
	KindPin   MountKind = "pin"   // what is there already, as a mount of its own: it cannot be renamed or removed
)

// Mount is one entry of the root.
type Mount struct {
	Kind                 MountKind
	Path                 string // without symbolic links
	Dir, Device          bool
	Read, Write, Execute bool
	Bytes                int64
}

// Link is a symbolic link of the host that leads to a place.
type Link struct{ At, To string }

// Error tells which path cannot be had in the root, and why.
type Error struct {
	Path string
	Err  error
	Hint string // how to mend it
}

func (e *Error) Error() string { return fmt.Sprintf("giving %s to the workload: %v", e.Path, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// own are the directories that every root has of its own.
var own = []string{"/proc", "/dev", "/dev/pts", "/dev/shm"}

// hiddenOfHost are never there, even if a place around them is: they steer or
// tell of the host.
var hiddenOfHost = []string{
	"/sys/fs/cgroup", "/sys/fs/bpf", "/sys/fs/pstore", "/sys/fs/selinux", "/sys/kernel/debug", "/sys/kernel/tracing",
	"/sys/kernel/security", "/sys/firmware", "/sys/devices/virtual/powercap",
}

// Resolve looks up all paths on the host, in the caller's view of it. Errors
// are of type *Error.
func Resolve(c Config) (Plan, error) {
	r := resolver{at: map[string]Mount{}}
	for _, p := range c.Private {
		if err := r.private(p); err != nil {
			return Plan{}, err
		}
	}
	for _, p := range c.Places {
		if err := r.place(p); err != nil {
			return Plan{}, err
		}
	}
	for _, path := range slices.Concat(c.Hidden, hiddenOfHost) {
		if err := r.hide(path); err != nil {
			return Plan{}, err
		}
	}
	if err := r.coverHost(c.Hidden); err != nil {
		return Plan{}, err
	}
	for _, path := range c.Fixed {
		if real, err := filepath.EvalSymlinks(path); err == nil { // what is gone cannot be held
			r.keepFromWriting(real)
		}
	}
	mounts := make([]Mount, 0, len(r.at))
	for _, m := range r.at {
		mounts = append(mounts, m)
	}
	slices.SortFunc(mounts, func(a, b Mount) int { return cmp.Compare(a.Path, b.Path) })
	mounts, err := settle(mounts)
	if err != nil {
		return Plan{}, err
	}
	mounts = pin(mounts)
	if err := r.trust(mounts); err != nil {
		return Plan{}, err
	}
	r.topLinks(mounts)
	slices.SortFunc(r.links, func(a, b Link) int { return cmp.Compare(a.At, b.At) })
	return Plan{
		Mounts: mounts, Links: slices.Compact(r.links), Skipped: r.skipped,
		Terminal: c.Terminal, UserNS: c.UserNS,
	}, nil
}

// settle decides what each mount is under the ones around it. mounts are
// ascending, so that a parent comes before its children.
func settle(mounts []Mount) ([]Mount, error) {
	var kept []Mount
	for _, m := range mounts {
		above, covered := around(kept, m.Path)
		nothing := !m.Read && !m.Write && !m.Execute
		switch {
		case nothing && !covered:
			continue // not there anyway
		case covered && m.Kind == KindBind && above.Kind == KindBind &&
			m.Read == above.Read && m.Write == above.Write && m.Execute == above.Execute:
			continue // as it is around it
		case m.Kind == KindBind && (nothing || covered && above.Read && !m.Read):
			m = Mount{Kind: KindEmpty, Path: m.Path, Dir: m.Dir}
		}
		if under(m.Path, "/sys") && m.Write {
			return nil, &Error{m.Path, errors.New("writing to /sys changes the host"), "allow no more than reading below /sys"}
		}
		kept = append(kept, m)
	}
	return kept, nil
}

// pin adds the directories that lie between a mount and the writable one around
// it. A workload that could rename them could put what it likes in the place of
// what is covered, hidden or read-only there: in its own view, and where the
// writable place is the host's, in everybody's.
func pin(mounts []Mount) []Mount {
	all := mounts
	for _, m := range mounts {
		above, covered := around(mounts, m.Path)
		if !covered || !above.Write {
			continue
		}
		for dir := filepath.Dir(m.Path); dir != above.Path; dir = filepath.Dir(dir) {
			all = append(all, Mount{Kind: KindPin, Path: dir, Dir: true, Read: above.Read, Write: true, Execute: above.Execute})
		}
	}
	slices.SortFunc(all, func(a, b Mount) int { return cmp.Compare(a.Path, b.Path) })
	return slices.CompactFunc(all, func(a, b Mount) bool { return a.Path == b.Path })
}

// around finds the innermost mount that m lies in.
func around(mounts []Mount, path string) (Mount, bool) {
	for _, m := range slices.Backward(mounts) {
		if m.Path != path && under(path, m.Path) {
			return m, true
		}
	}
	return Mount{}, false
}

func under(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

type resolver struct {
	at      map[string]Mount
	links   []Link
	crossed []crossing
	skipped []string
}

type crossing struct{ place, link string }

func (r *resolver) place(p Place) error {
	if err := checkPath(p.Path); err != nil {
		return err
	}
	if slices.Contains(own, p.Path) {
		return nil
	}
	if under(p.Path, "/proc") {
		return &Error{p.Path, errors.New("the workload has a /proc of its own"), "name a path outside of /proc"}
	}
	real, info, err := r.walk(p.Path)
	if p.Optional && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENOTDIR)) {
		r.skipped = append(r.skipped, p.Path)
		return nil
	}
	if err != nil {
		return &Error{p.Path, err, "create it, or leave it out of the policy"}
	}
	mode := info.Mode()
	if mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0 && (p.Read || p.Write) {
		return &Error{p.Path, errors.New("a block device would give away every file on it"), "name the files instead"}
	}
	m := Mount{Kind: KindBind, Path: real, Dir: info.IsDir(), Device: under(real, "/dev"), Read: p.Read, Write: p.Write, Execute: p.Execute}
	if was, ok := r.at[real]; ok && was.Kind == KindBind { // two names of one place
		m.Read, m.Write, m.Execute = m.Read || was.Read, m.Write || was.Write, m.Execute || was.Execute
	}
	r.at[real] = m
	return nil
}

func (r *resolver) private(p Private) error {
	if err := checkPath(p.Path); err != nil {
		return err
	}
	if p.Path == "/" || under(p.Path, "/proc") || p.Path == "/dev" {
		return &Error{p.Path, errors.New("a private directory cannot be there"), "choose another path"}
	}
	real, info, err := r.walk(p.Path)
	if err == nil && !info.IsDir() {
		return &Error{p.Path, errors.New("not a directory"), "choose another path"}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &Error{p.Path, err, "choose another path"}
	}
	r.at[real] = Mount{Kind: KindFresh, Path: real, Dir: true, Read: true, Write: true, Execute: p.Execute, Bytes: p.Bytes}
	return nil
}

// hide covers path, and refuses what was to be given from inside of it.
func (r *resolver) hide(path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	real, info, err := r.walk(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil // what the caller cannot name, the workload cannot either
	}
	if err != nil {
		return &Error{path, err, "it must be hidden from the workload, and cannot be looked up"}
	}
	for at, m := range r.at {
		if under(at, real) && m.Kind == KindBind && (m.Read || m.Write || m.Execute) {
			return &Error{at, fmt.Errorf("%s is kept from every workload", path), "leave it out of the policy, or run from another directory"}
		}
	}
	r.at[real] = Mount{Kind: KindBind, Path: real, Dir: info.IsDir()}
	return nil
}

// walk follows path through symbolic links. Of a path of which only the front
// exists, it gives the place where the rest would be, with fs.ErrNotExist.
func (r *resolver) walk(path string) (real string, info fs.FileInfo, err error) {
	real = "/"
	_, err = os.Lstat("/")
	rest := split(path)
	var links []Link
	for err == nil && len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			real = filepath.Dir(real)
			continue
		}
		next := filepath.Join(real, name)
		info, err = os.Lstat(next)
		if err != nil {
			return filepath.Join(append([]string{next}, rest...)...), nil, err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			real = next
			continue
		}
		if len(links) == 40 {
			return "", nil, errors.New("too many symbolic links")
		}
		to, err := os.Readlink(next)
		if err != nil {
			return "", nil, err
		}
		links = append(links, Link{next, to})
		if filepath.IsAbs(to) {
			real = "/"
		}
		rest = append(split(to), rest...)
	}
	if err != nil {
		return "", nil, err
	}
	if info, err = os.Lstat(real); err != nil {
		return "", nil, err
	}
	r.links = append(r.links, links...)
	for _, l := range links {
		r.crossed = append(r.crossed, crossing{path, l.At})
	}
	return real, info, nil
}

// trust refuses paths that lead through a symbolic link in a place where the
// workload can write: an earlier run could have laid it, to be given what the
// policy never named.
func (r *resolver) trust(mounts []Mount) error {
	for _, c := range r.crossed {
		for _, m := range mounts {
			if m.Kind == KindBind && m.Write && c.link != m.Path && under(c.link, m.Path) {
				return &Error{c.place, fmt.Errorf("it leads through the symbolic link %s, which a workload could have made", c.link),
					"name the place by the path behind the link"}
			}
		}
	}
	return nil
}

// topLinks keeps the links in / that lead to what is there anyway, such as
// /bin to usr/bin.
func (r *resolver) topLinks(mounts []Mount) {
	entries, _ := os.ReadDir("/")
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink == 0 {
			continue
		}
		at := "/" + e.Name()
		to, err := os.Readlink(at)
		if err != nil {
			continue
		}
		real, err := filepath.EvalSymlinks(at)
		if err != nil {
			continue
		}
		for _, m := range mounts {
			if m.Kind == KindBind && m.Read && under(real, m.Path) {
				r.links = append(r.links, Link{at, to})
				break
			}
		}
	}
}

func split(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" || s == "." })
}

func checkPath(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0) {
		return &Error{path, errors.New("not a clean absolute path"), "write it from / without . and .."}
	}
	return nil
}
