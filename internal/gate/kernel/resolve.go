package kernel

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/writ-run/writ/internal/model"
)

// file is something found in the target's file tree. It is held open, so it
// stays the same thing whatever its name comes to mean.
type file struct {
	fd int // O_PATH
	st unix.Stat_t
	// path is clean and absolute in the target's root. What has no path there
	// is "memfd:NAME", "deleted:PATH" or "unreachable:PATH".
	path string
}

func (f *file) close() { unix.Close(f.fd) }

func (f *file) mode(m uint32) bool { return f.st.Mode&unix.S_IFMT == m }

// resolve finds path for the target, from its directory descriptor dir
// (AT_FDCWD for its working directory), in its root and mount namespace, as
// the kernel would. An empty path is dir itself. Errors are the kernel's.
func (t *target) resolve(dir int32, path string, nofollow bool) (*file, error) {
	fd, indirect, err := t.find(dir, path, nofollow)
	if err != nil {
		return nil, err
	}
	f := &file{fd: fd}
	if err := unix.Fstat(fd, &f.st); err != nil {
		f.close()
		return nil, err
	}
	if f.mode(unix.S_IFLNK) {
		f.close()
		return nil, unix.ELOOP
	}
	if err := t.name(f, indirect); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// find opens what resolve looks for. indirect is true when it was reached by
// other ways than names, such as a descriptor.
func (t *target) find(dir int32, path string, nofollow bool) (fd int, indirect bool, err error) {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	if nofollow {
		how.Flags |= unix.O_NOFOLLOW
	}
	if err = t.rootDirectory(); err != nil {
		return -1, false, err
	}
	start := t.root
	if strings.HasPrefix(path, "/") {
		how.Resolve |= unix.RESOLVE_IN_ROOT
	} else {
		// BENEATH fails for what leaves the directory, as by an absolute link:
		// with the directory as the root it would be found in the wrong place.
		how.Resolve |= unix.RESOLVE_BENEATH
		if start, err = t.directory(dir, path == ""); err != nil {
			return -1, false, err
		}
		if path == "" {
			return start, true, nil
		}
		defer unix.Close(start)
	}
	if fd, err = unix.Openat2(start, path, how); err == nil {
		return fd, false, nil
	}
	switch err {
	case unix.ENOENT:
		// Is it really not there, or was it looked for through /proc/self, which
		// is not the target's for the gate? Without links it is the former.
		how.Flags |= unix.O_NOFOLLOW
		how.Resolve |= unix.RESOLVE_NO_SYMLINKS
		if fd, again := unix.Openat2(start, path, how); again == nil {
			unix.Close(fd)
		} else if again == unix.ENOENT {
			return -1, false, unix.ENOENT
		}
		fallthrough
	case unix.ELOOP, unix.EXDEV, unix.EAGAIN:
		w := walk{target: t}
		fd, err = w.find(start, path, nofollow)
		return fd, w.magic, err
	}
	return -1, false, err
}

// directory opens the target's descriptor n, or its working directory.
func (t *target) directory(n int32, anything bool) (int, error) {
	name, flags := "cwd", unix.O_PATH|unix.O_CLOEXEC
	if n != unix.AT_FDCWD {
		if n < 0 {
			return -1, unix.EBADF
		}
		name = "fd/" + strconv.Itoa(int(n))
	}
	fd, err := unix.Openat(t.proc, name, flags, 0)
	if err == unix.ENOENT {
		err = unix.EBADF
	}
	if err != nil || anything {
		return fd, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = unix.ENOTDIR
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// name finds the path of f in the target's root.
func (t *target) name(f *file, indirect bool) error {
	seen, err := pathOf(f.fd)
	if err != nil {
		return err
	}
	const gone = " (deleted)"
	inside, ok := t.inside(seen)
	suspect := indirect || !ok || f.st.Nlink == 0 || strings.HasSuffix(seen, gone)
	if !suspect || (ok && t.leads(inside, &f.st)) {
		f.path = inside
		return nil
	}
	// Only the kernel's words are left for it, and a file of another mount
	// namespace can have any: it must not pass for what has that path here.
	base, deleted := strings.CutSuffix(seen, gone)
	switch memfd, found := strings.CutPrefix(base, "/memfd:"); {
	case deleted && found:
		f.path = "memfd:" + memfd
	case deleted:
		f.path = "deleted:" + base
	default:
		f.path = "unreachable:" + seen
	}
	if len(f.path) > model.MaxResourceID {
		return unix.ENAMETOOLONG
	}
	return nil
}

// leads tells whether path, in the target's root, is the file st.
func (t *target) leads(path string, st *unix.Stat_t) bool {
	if t.rootDirectory() != nil {
		return false
	}
	fd, err := unix.Openat2(t.root, path, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var there unix.Stat_t
	return unix.Fstat(fd, &there) == nil && there.Dev == st.Dev && there.Ino == st.Ino
}

// walk finds a path name by name, for what one openat2 cannot do: absolute
// links met on a relative path, and the links of /proc, which mean the reader.
type walk struct {
	*target
	links int
	magic bool // a link of /proc was followed that leads to a thing, not to a name
}

const (
	maxLinks    = 40 // the kernel's limit
	procRootIno = 1
)

func (w *walk) find(start int, path string, nofollow bool) (int, error) {
	at, err := unix.Openat(start, ".", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	left := path
	if strings.HasPrefix(path, "/") {
		unix.Close(at)
		if at, err = w.atRoot(); err != nil {
			return -1, err
		}
	}
	for left = strings.TrimLeft(left, "/"); left != ""; {
		name, rest, more := strings.Cut(left, "/")
		rest = strings.TrimLeft(rest, "/")
		next, link, err := w.step(at, name, nofollow && !more)
		if err == nil && link != "" {
			if w.links++; w.links > maxLinks {
				err = unix.ELOOP
			} else if strings.HasPrefix(link, "/") {
				next, err = w.atRoot()
			} else {
				next, err = at, nil
			}
			if more {
				link += "/"
			}
			rest = strings.TrimLeft(link+rest, "/")
		}
		if err != nil {
			unix.Close(at)
			return -1, err
		}
		if next != at {
			unix.Close(at)
		}
		if at, left = next, rest; left == "" && more {
			left = "." // a slash at the end: it must be a directory
		}
		if len(left) > 2*pathMax {
			unix.Close(at)
			return -1, unix.ENAMETOOLONG
		}
	}
	return at, nil
}

func (w *walk) atRoot() (int, error) {
	return unix.Openat(w.root, ".", unix.O_PATH|unix.O_CLOEXEC, 0)
}

// step goes from the directory at to name in it: to an open file, or to the
// text of a link that is to be walked from at.
func (w *walk) step(at int, name string, nofollow bool) (next int, link string, err error) {
	switch name {
	case ".":
		next, err = unix.Openat(at, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return next, "", err
	case "..":
		if sameDirectory(at, w.root) {
			return at, "", nil
		}
		next, err = unix.Openat(at, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return next, "", err
	}
	if next, err = unix.Openat(at, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		return -1, "", err
	}
	var st, dir unix.Stat_t
	if err = unix.Fstat(next, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK || nofollow {
		return w.closeOn(next, err)
	}
	defer unix.Close(next)
	var fs unix.Statfs_t
	if err = unix.Fstatfs(next, &fs); err != nil {
		return -1, "", err
	}
	if fs.Type == unix.PROC_SUPER_MAGIC {
		if err = unix.Fstat(at, &dir); err != nil {
			return -1, "", err
		}
		if dir.Ino != procRootIno {
			w.magic = true
			if w.links++; w.links > maxLinks {
				return -1, "", unix.ELOOP
			}
			to, err := unix.Openat(at, name, unix.O_PATH|unix.O_CLOEXEC, 0)
			return to, "", err
		}
		if name == "self" || name == "thread-self" {
			link, err = w.self(at, name)
			return at, link, err
		}
	}
	if link, err = readLink(next, ""); err == nil && link == "" {
		err = unix.ENOENT
	}
	return at, link, err
}

func (w *walk) closeOn(fd int, err error) (int, string, error) {
	if err != nil {
		unix.Close(fd)
		return -1, "", err
	}
	return fd, "", nil
}

// self is where /proc/self or /proc/thread-self leads the target. A target has
// a number in each PID namespace it is in, and proc is of one of them.
func (w *walk) self(proc int, name string) (string, error) {
	status, err := readFile(w.proc, "status")
	if err != nil {
		return "", err
	}
	start, err := readStart(w.proc, "stat")
	if err != nil {
		return "", err
	}
	groups, threads := strings.Fields(field(status, "NStgid:")), strings.Fields(field(status, "NSpid:"))
	for i := len(groups) - 1; i >= 0 && i < len(threads); i-- {
		link := groups[i]
		if of, err := readStart(proc, link+"/task/"+threads[i]+"/stat"); err != nil || of != start {
			continue
		}
		if name == "thread-self" {
			link += "/task/" + threads[i]
		}
		return link, nil
	}
	return "", unix.ENOENT
}

// sameDirectory tells whether a and b are the same directory of the same mount.
func sameDirectory(a, b int) bool {
	var sa, sb unix.Statx_t
	const mask = unix.STATX_INO | unix.STATX_MNT_ID
	if unix.Statx(a, "", unix.AT_EMPTY_PATH, mask, &sa) != nil || unix.Statx(b, "", unix.AT_EMPTY_PATH, mask, &sb) != nil {
		return true // stay: going up could leave the root
	}
	return sa.Ino == sb.Ino && sa.Mnt_id == sb.Mnt_id && sa.Dev_major == sb.Dev_major && sa.Dev_minor == sb.Dev_minor
}
