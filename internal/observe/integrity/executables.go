package integrity

import (
	"crypto/sha256"
	"hash"
	"time"

	"golang.org/x/sys/unix"

	"github.com/writ-run/writ/internal/model"
)

// executables are the files that processes were seen to run, with what is known
// of their content. Files are read a piece at a time, so that a large one does
// not hold up a sweep. Until a file has been read, the gate's word stands,
// which read it at the exec.
type executables struct {
	known   map[inode]*executable
	queue   []*executable
	buf     []byte
	round   uint64
	rotated int64
}

type executable struct {
	version version
	want    model.Digest // as the gate allowed it
	path    string       // for people
	good    bool         // read as version, and it was what was wanted
	bad     model.Digest // what it was instead
	readAt  int64        // mono
	seen    uint64       // round

	fd     int // being read; -1
	hash   hash.Hash
	offset int64
}

// Pieces and pauses of reading.
const (
	perSweep = 16 << 20 // bytes that are read in a sweep
	rotation = 30 * time.Second
	most     = 1024 // files remembered
)

func newExecutables() executables {
	return executables{known: map[inode]*executable{}, buf: make([]byte, 256<<10)}
}

func (x *executables) close() {
	for _, e := range x.known {
		e.stop()
	}
}

func (e *executable) stop() {
	if e.fd >= 0 {
		_ = unix.Close(e.fd)
		e.fd = -1
	}
}

// check tells whether a process may run a file in that version.
func (x *executables) check(p *process, runs version, deleted bool, allowed Allowed) *loss {
	r, ok := allowed.Allowed(runs.dev, runs.ino)
	if !ok {
		return lose(ReasonForeign, "%s runs %s, which was not allowed", p, p.path())
	}
	if deleted {
		return lose(ReasonDeleted, "%s runs %s, which is gone", p, r.ID)
	}
	e := x.known[runs.inode]
	if e == nil {
		e = &executable{fd: -1}
		x.known[runs.inode] = e
	}
	e.seen, e.path = x.round, r.ID
	if e.version != runs || e.want != r.Digest {
		e.stop()
		e.version, e.want, e.good, e.bad = runs, r.Digest, false, model.Digest{}
	}
	if !e.bad.IsZero() {
		return lose(ReasonModified, "%s runs %s, which is %s and was allowed as %s", p, e.path, e.bad.Short(), e.want.Short())
	}
	if !e.good && e.fd < 0 {
		x.begin(p, e)
	}
	return nil
}

// begin opens the file that the process runs. If that fails because the process
// has ended, the next that runs it will do.
func (x *executables) begin(p *process, e *executable) {
	fd, err := unix.Openat(p.dir, "exe", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || versionOf(&st) != e.version {
		_ = unix.Close(fd)
		return
	}
	e.fd, e.hash, e.offset = fd, sha256.New(), 0
	x.queue = append(x.queue, e)
}

// proceed reads on in what is queued, and says what it found.
func (x *executables) proceed(mono int64) (l *loss) {
	x.round++
	left := int64(perSweep)
	for len(x.queue) > 0 && left > 0 {
		e := x.queue[0]
		if e.fd < 0 { // it changed since it was queued
			x.queue = x.queue[1:]
			continue
		}
		n, err := unix.Pread(e.fd, x.buf, e.offset)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			e.stop()
			x.queue = x.queue[1:]
			return lose(ReasonUnreadable, "%s cannot be read: %v", e.path, err)
		case n > 0:
			e.hash.Write(x.buf[:n])
			e.offset += int64(n)
			left -= int64(n)
			continue
		}
		x.queue = x.queue[1:]
		if found := x.finish(e, mono); found != nil {
			l = found
		}
	}
	x.rotate(mono)
	return l
}

func (x *executables) finish(e *executable, mono int64) *loss {
	var st unix.Stat_t
	err := unix.Fstat(e.fd, &st)
	e.stop()
	if err != nil || versionOf(&st) != e.version {
		e.good = false // it changed meanwhile: read it again when it is seen again
		return nil
	}
	digest := model.Digest(e.hash.Sum(nil))
	e.hash = nil
	e.readAt = mono
	if digest == e.want {
		e.good = true
		return nil
	}
	e.good, e.bad = false, digest
	return lose(ReasonModified, "%s is %s and was allowed as %s", e.path, digest.Short(), e.want.Short())
}

// rotate has a file that is in use read again now and then, and forgets those
// that have not been in use for longest when there are too many.
func (x *executables) rotate(mono int64) {
	if mono-x.rotated >= int64(rotation) {
		x.rotated = mono
		var oldest *executable
		for _, e := range x.known {
			if e.good && e.seen+1 >= x.round && (oldest == nil || e.readAt < oldest.readAt) {
				oldest = e
			}
		}
		if oldest != nil && mono-oldest.readAt >= int64(rotation) {
			oldest.good = false
		}
	}
	for len(x.known) > most {
		var oldest inode
		seen := ^uint64(0)
		for id, e := range x.known {
			if e.seen < seen {
				oldest, seen = id, e.seen
			}
		}
		x.known[oldest].stop()
		delete(x.known, oldest)
	}
}
