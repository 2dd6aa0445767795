package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/writ-run/writ/internal/model"
)

// python runs a script under the gate.
func python(t *testing.T, decide func(context.Context, model.Action) model.Decision, script string, args ...string) *run {
	t.Helper()
	return underGate(t, decide, append([]string{program(t, "/usr/bin/python3"), "-I", "-c", script}, args...)...)
}

func viaHost(_ context.Context, a model.Action) model.Decision {
	d := allow
	if a.Kind == model.ActionConnect {
		d.Obligations = []model.Obligation{{Name: "via", Value: "host"}}
	}
	return d
}

func denyConnect(_ context.Context, a model.Action) model.Decision {
	return model.Decision{Allow: a.Kind != model.ActionConnect}
}

const talk = `
import socket, sys
s = socket.socket()
s.settimeout(float(sys.argv[2]) if sys.argv[2] != "0" else None)
s.connect(("127.0.0.1", int(sys.argv[1])))
print(s.recv(100).decode(), end="")
`

func TestConnectIsMadeByTheGate(t *testing.T) {
	l := listenTCP(t)
	port := l.Addr().(*net.TCPAddr).Port
	for _, timeout := range []string{"0", "5"} { // blocking; python makes it non-blocking for a time-out
		r := python(t, nil, talk, fmt.Sprint(port), timeout)
		out, code := r.do()
		if code != 0 || out != "hello from the listener\n" {
			t.Fatalf("time-out %s: exit %d: %s", timeout, code, out)
		}
		a := r.asker.find("127.0.0.1")
		if len(a) == 0 || a[0].Resource.Kind != model.ResourceHost || int(a[0].Resource.Port) != port || a[0].Resource.Protocol != "tcp" || !a[0].Resource.Loopback {
			t.Fatalf("%+v", a)
		}
		if o := r.asker.outcomeOf(a[0].Number); !o.Done {
			t.Errorf("outcome %+v", o)
		}
	}
}

func TestDeniedConnectSaysPermissionDenied(t *testing.T) {
	l := listenTCP(t)
	r := python(t, denyConnect, talk, fmt.Sprint(l.Addr().(*net.TCPAddr).Port), "0")
	if out, _ := r.do(); !strings.Contains(out, "PermissionError: [Errno 13] Permission denied") {
		t.Fatal(out)
	}
}

func TestConnectHasTheKernelsErrors(t *testing.T) {
	script := `
import ctypes, errno, os, socket, struct, tempfile
libc = ctypes.CDLL(None, use_errno=True)
def connect(fd, addr, n=None):
    buf = addr if addr is None or isinstance(addr, int) else ctypes.create_string_buffer(addr, len(addr))
    libc.connect.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint]
    r = libc.connect(fd, buf, len(addr) if n is None else n)
    print(errno.errorcode[ctypes.get_errno()] if r else "ok", end=" ")
def inet(port, ip="127.0.0.1", family=socket.AF_INET):
    return struct.pack("=H", family) + struct.pack("!H", port) + socket.inet_aton(ip) + bytes(8)
s = socket.socket()
free = socket.socket(); free.bind(("127.0.0.1", 0)); port = free.getsockname()[1]
connect(s.fileno(), inet(port))            # nobody listens
connect(999, inet(port))
connect(0, inet(port))                     # no socket
connect(s.fileno(), inet(port)[:8])
connect(s.fileno(), None, 16)
connect(s.fileno(), 0xffff888000000000, 16)
connect(s.fileno(), inet(port), 129)
connect(s.fileno(), inet(port), 0xffffffff)
connect(s.fileno(), struct.pack("=H", socket.AF_UNIX) + b"/x\0" + bytes(20))
connect(s.fileno(), struct.pack("=H", socket.AF_INET6) + bytes(26))
connect(s.fileno(), struct.pack("=H", 77) + bytes(26))
connect(s.fileno(), struct.pack("=H", 0) + bytes(14))       # disconnect
u = socket.socket(socket.AF_UNIX)
def un(path): return struct.pack("=H", socket.AF_UNIX) + path
connect(u.fileno(), un(b"/no/such/socket\0"))
connect(u.fileno(), un(b"/etc/passwd\0"))
connect(u.fileno(), un(b""))
connect(u.fileno(), un(b"\0nobody is here"))
connect(u.fileno(), inet(port))
connect(u.fileno(), un(b"/" + b"x" * 120))
free.listen()
connect(s.fileno(), inet(port))
connect(s.fileno(), inet(port))
`
	r := python(t, nil, script)
	out, code := r.do()
	want := "ECONNREFUSED EBADF ENOTSOCK EINVAL EFAULT EFAULT EINVAL EINVAL EAFNOSUPPORT EAFNOSUPPORT EAFNOSUPPORT ok " +
		"ENOENT ECONNREFUSED EINVAL ECONNREFUSED EINVAL EINVAL ok EISCONN "
	if code != 0 || out != want {
		t.Fatalf("exit %d:\ngot  %s\nwant %s", code, out, want)
	}
}

func TestDatagramsAndAddressForms(t *testing.T) {
	script := `
import socket
def c(family, kind, addr):
    s = socket.socket(family, kind)
    try: s.connect(addr)
    except OSError as e: pass
U, T = socket.SOCK_DGRAM, socket.SOCK_STREAM
c(socket.AF_INET, U, ("192.0.2.1", 53))
c(socket.AF_INET, T, ("0.0.0.0", 1))
c(socket.AF_INET6, T, ("::ffff:127.0.0.2", 2))
c(socket.AF_INET6, T, ("::", 3))
c(socket.AF_INET6, U, ("fe80::1%lo", 4))
c(socket.AF_INET6, T, ("::ffff:0.0.0.0", 5))
`
	r := python(t, denyConnect, script)
	if out, code := r.do(); code != 0 {
		t.Fatal(out)
	}
	var got []string
	for _, a := range r.asker.actions {
		if a.Kind == model.ActionConnect {
			got = append(got, fmt.Sprintf("%s %s %d %v", a.Resource.Protocol, a.Resource.ID, a.Resource.Port, a.Resource.Loopback))
		}
	}
	want := "udp 192.0.2.1 53 false|tcp 127.0.0.1 1 true|tcp 127.0.0.2 2 true|tcp ::1 3 true|udp fe80::1 4 false|tcp 127.0.0.1 5 true"
	if strings.Join(got, "|") != want {
		t.Errorf("\ngot  %s\nwant %s", strings.Join(got, "|"), want)
	}
}

const unixServer = `
import os, socket, struct, sys, threading
os.chdir(sys.argv[1])
os.makedirs("deep/" + "d" * 60, exist_ok=True)
real = "deep/" + "d" * 60 + "/sock"
l = socket.socket(socket.AF_UNIX); l.bind(real); l.listen()
a = socket.socket(socket.AF_UNIX); a.bind("\0ab\\stract"); a.listen()
def serve(l):
    while True:
        c, _ = l.accept()
        pid, uid, gid = struct.unpack("3i", c.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        c.send(("uid %d gid %d" % (uid, gid)).encode()); c.close()
for x in (l, a): threading.Thread(target=serve, args=(x,), daemon=True).start()
def c(path):
    s = socket.socket(socket.AF_UNIX)
    try: s.connect(path); print(path[:12], s.recv(50).decode())
    except OSError as e: print(path[:12], e.strerror)
os.symlink(sys.argv[1] + "/deep", "link")
c(real); c("./link/../deep/" + "d" * 60 + "/sock"); c("\0ab\\stract"); c("/proc/self/cwd/link/" + "d" * 60 + "/sock")
os.chdir("deep/" + "d" * 60); c("sock")
`

func TestUnixSockets(t *testing.T) {
	dir := publicDir(t)
	r := python(t, nil, unixServer, dir)
	out, code := r.do()
	if code != 0 || strings.Count(out, fmt.Sprintf("uid %d gid %d", os.Geteuid(), os.Getegid())) != 5 {
		t.Fatalf("exit %d: %s", code, out)
	}
	id := dir + "/deep/" + strings.Repeat("d", 60) + "/sock"
	if got := r.asker.find(id); len(got) != 4 || !got[0].Resource.Unix || got[0].Resource.Kind != model.ResourceFile {
		t.Errorf("by path: %+v", got)
	}
	if got := r.asker.find(`@ab\x5cstract`); len(got) != 1 {
		t.Errorf("abstract: %+v", r.asker.actions)
	}
}

// The server sees the asker's user, and what the asker may not reach, the gate
// does not reach for it.
func TestUnixSocketWithTheAskersRights(t *testing.T) {
	needRoot(t)
	dir := publicDir(t)
	r := python(t, nil, unixServer, dir)
	r.plan.UID = 65534
	out, _ := r.do()
	if strings.Count(out, "uid 65534 gid 65534") != 5 {
		t.Fatal(out)
	}
	secret := dir + "/secret"
	if err := os.Mkdir(secret, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{secret + "/s": 0o777, dir + "/s": 0o700} {
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		r := python(t, nil, "import socket,sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])", path)
		r.plan.UID = 65534
		if out, _ := r.do(); !strings.Contains(out, "Permission denied") {
			t.Errorf("%s: %s", path, out)
		}
	}
}

func TestViaHost(t *testing.T) {
	l := listenTCP(t)
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	script := `
import errno, fcntl, os, socket, struct, sys
port = int(sys.argv[1])
def inet(port): return ("127.0.0.1", port)
s = socket.socket(); n = s.fileno(); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
s.connect(inet(port))
print(s.fileno() == n, fcntl.fcntl(n, fcntl.F_GETFD), fcntl.fcntl(n, fcntl.F_GETFL) & os.O_NONBLOCK,
      s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), s.recv(100).decode(), end="")
s = socket.socket(); os.set_inheritable(s.fileno(), True); s.setblocking(False)
print(s.connect_ex(inet(port)), fcntl.fcntl(s, fcntl.F_GETFD), fcntl.fcntl(s, fcntl.F_GETFL) & os.O_NONBLOCK > 0)
print(errno.errorcode[s.connect_ex(inet(port))])
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.connect(s.fileno(), bytes(16), 16), errno.errorcode[ctypes.get_errno()])   # AF_UNSPEC
try: s.listen(); print("listens on the host!")
except OSError as e: print(e.strerror)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(errno.errorcode[u.connect_ex(inet(port))])
r = socket.socket()
print(errno.errorcode[r.connect_ex(inet(1))])
`
	r := python(t, viaHost, script, port)
	r.ownNetwork()
	out, code := r.do()
	want := "True 1 0 1 hello from the listener\n0 0 True\nEISCONN\n-1 EACCES\nInvalid argument\nEACCES\nECONNREFUSED\n"
	if code != 0 || out != want {
		t.Fatalf("exit %d:\n%s\nwant\n%s", code, out, want)
	}
	// Without the obligation the same address is the workload's own.
	r = python(t, nil, talk, port, "0")
	r.ownNetwork()
	if out, _ := r.do(); !strings.Contains(out, "Connection refused") {
		t.Error(out)
	}
}

// A socket that the gate makes is told of before it is connected: what holds the
// workload's deadline must know it is the workload's. If that fails, nothing is
// connected.
func TestSocketsMadeAreToldOf(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		l := listenTCP(t)
		var told, early atomic.Int32
		r := python(t, viaHost, talk, fmt.Sprint(l.Addr().(*net.TCPAddr).Port), "0")
		r.ownNetwork()
		r.tune = func(c *Config) {
			c.Made = func(socket int) error {
				told.Add(1)
				if _, err := unix.Getpeername(socket); err == unix.ENOTCONN {
					early.Add(1)
				}
				if refuse {
					return errors.New("not today")
				}
				return nil
			}
		}
		out, _ := r.do()
		if n := told.Load(); n != 1 || early.Load() != 1 {
			t.Errorf("told of %d sockets, %d of them not yet connected", n, early.Load())
		}
		if through := strings.Contains(out, "hello from the listener"); through == refuse {
			t.Errorf("refused: %v, and it said %q", refuse, out)
		}
	}
}

func TestViaSomethingElseIsDenied(t *testing.T) {
	l := listenTCP(t)
	r := python(t, func(_ context.Context, a model.Action) model.Decision {
		return model.Decision{Allow: true, Obligations: []model.Obligation{{Name: "via", Value: "nowhere"}}}
	}, talk, fmt.Sprint(l.Addr().(*net.TCPAddr).Port), "0")
	if out, _ := r.do(); !strings.Contains(out, "Permission denied") {
		t.Fatal(out)
	}
}

const fullBacklog = `
import os, socket, sys, time, threading, signal
os.chdir(sys.argv[1])
l = socket.socket(socket.AF_UNIX); l.bind("s"); l.listen(0)
held = []
for i in range(20):
    s = socket.socket(socket.AF_UNIX); s.setblocking(False); held.append(s)
    try: s.connect("s")
    except BlockingIOError: print("full"); break
`

// A connect that blocks holds up nothing else, does not block what it shares
// with the asker, and ends as the asker's own would.
func TestBlockingConnect(t *testing.T) {
	script := fullBacklog + `
late = []
def waits():
    s = socket.socket(socket.AF_UNIX); s.connect("s"); late.append(s)
threads = [threading.Thread(target=waits) for _ in range(10)]
for x in threads: x.start()
assert os.system("exit 3") == 3 << 8
l2 = socket.socket(); l2.bind(("127.0.0.1", 0)); l2.listen()
socket.socket().connect(l2.getsockname())
assert not late
for _ in range(30):
    l.settimeout(0.2)
    try: l.accept()
    except TimeoutError: break
for x in threads: x.join()
print("all", len(late))
`
	r := python(t, nil, script, publicDir(t))
	r.tune = func(c *Config) { c.MaxInFlight = 4 }
	if out, code := r.do(); code != 0 || out != "full\nall 10\n" {
		t.Fatalf("exit %d: %s", code, out)
	}
}

func TestSignalEndsABlockingConnect(t *testing.T) {
	script := fullBacklog + `
class Rang(Exception): pass
def ring(*_): raise Rang
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try: socket.socket(socket.AF_UNIX).connect("s")
except Rang: print("rang")
`
	r := python(t, nil, script, publicDir(t))
	if out, code := r.do(); code != 0 || out != "full\nrang\n" {
		t.Fatalf("exit %d: %s", code, out)
	}
}

func TestKilledWhileConnecting(t *testing.T) {
	script := fullBacklog + `
sys.stdout.flush()
if os.fork() == 0: socket.socket(socket.AF_UNIX).connect("s"); os._exit(0)
time.sleep(0.2)
os.kill(0, signal.SIGKILL)
`
	r := python(t, nil, script, publicDir(t))
	r.start()
	begun := time.Now()
	out, _ := r.finish()
	if out != "full\n" || time.Since(begun) > 20*time.Second {
		t.Fatal(out)
	}
}

func TestTooManyConnecting(t *testing.T) {
	script := fullBacklog + `
import errno
def waits():
    try: socket.socket(socket.AF_UNIX).connect("s")
    except OSError: pass
for _ in range(3): threading.Thread(target=waits, daemon=True).start()
time.sleep(0.5)
print(errno.errorcode[socket.socket(socket.AF_UNIX).connect_ex("s")])
sys.stdout.flush()
os._exit(0)
`
	r := python(t, nil, script, publicDir(t))
	r.tune = func(c *Config) { c.MaxConnecting = 3 }
	if out, code := r.do(); code != 0 || out != "full\nEAGAIN\n" {
		t.Fatalf("exit %d: %s", code, out)
	}
}

// Another thread takes O_NONBLOCK away while the gate connects: that may block
// a thread of the gate, but neither the gate nor its end.
func TestNonblockIsTakenAway(t *testing.T) {
	script := fullBacklog + `
import fcntl
def hammer(s):
    while True: fcntl.fcntl(s, fcntl.F_SETFL, os.O_RDWR)
def waits(s):
    try: s.connect("s")
    except OSError: pass
for _ in range(3):
    s = socket.socket(socket.AF_UNIX); s.setblocking(True); held.append(s)
    threading.Thread(target=hammer, args=(s,), daemon=True).start()
    threading.Thread(target=waits, args=(s,), daemon=True).start()
time.sleep(1)
assert os.system("exit 3") == 3 << 8
print("end"); sys.stdout.flush()
os.kill(os.getpid(), signal.SIGKILL)
`
	r := python(t, nil, script, publicDir(t))
	if out, _ := r.do(); out != "full\nend\n" {
		t.Fatal(out)
	}
}
