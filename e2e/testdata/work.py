"""File and process work as programs do it. Prints what it found as JSON."""
import array, concurrent.futures, contextlib, fcntl, glob, hashlib, json, mmap
import multiprocessing, multiprocessing.shared_memory, os, pathlib, select
import shutil, signal, socket, sqlite3, stat, subprocess, sys, tempfile
import threading, time, zipfile


def files():
    here = pathlib.Path("files")
    here.mkdir()
    a = here / "a"
    a.write_text("content")
    os.link(a, here / "hard")
    os.symlink("a", here / "soft")
    os.rename(a, here / "b")
    os.mkfifo(here / "fifo")
    (here / "b").chmod(0o600)
    assert (here / "hard").read_text() == "content"
    assert not (here / "soft").exists()
    assert stat.S_IMODE((here / "b").stat().st_mode) == 0o600
    with open(here / "b", "r+b") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        fcntl.lockf(f, fcntl.LOCK_EX)
        f.truncate(1 << 20)
        with mmap.mmap(f.fileno(), 0) as m:
            m[-1] = 7
        os.fsync(f.fileno())
        os.posix_fallocate(f.fileno(), 0, 2 << 20)
    assert (here / "b").stat().st_size == 2 << 20
    os.utime(here / "b", (1, 1))
    for i in range(300):
        (here / f"n{i}").write_bytes(os.urandom(100))
    count = len(list(os.scandir(here)))
    with zipfile.ZipFile("z.zip", "w") as z:
        for name in sorted(glob.glob("files/n*")):
            z.write(name)
    shutil.copytree(here, "copy", ignore=shutil.ignore_patterns("fifo", "soft"))
    shutil.rmtree(here)
    return count


def temporary():
    with tempfile.TemporaryDirectory() as d, tempfile.TemporaryFile() as f:
        f.write(b"x" * 100000)
        (pathlib.Path(d) / "t").write_text("t")
        fd, name = tempfile.mkstemp()
        os.write(fd, b"y")
        os.close(fd)
        os.unlink(name)
        return len(os.listdir(d))


def database():
    with contextlib.closing(sqlite3.connect("data.db")) as db:
        mode = db.execute("pragma journal_mode=wal").fetchone()[0]
        db.execute("create table t(k integer primary key, v text)")
        with db:
            db.executemany("insert into t(v) values(?)", [(str(i),) for i in range(5000)])
        with contextlib.closing(sqlite3.connect("data.db")) as other:
            rows = other.execute("select count(*) from t").fetchone()[0]
        db.execute("vacuum")
    return [mode, rows]


def subprocesses():
    out = subprocess.run(["sh", "-c", "echo out; echo err >&2; exit 3"], capture_output=True, text=True)
    assert (out.returncode, out.stdout, out.stderr) == (3, "out\n", "err\n")
    shell = subprocess.check_output("seq 100 | sort -rn | head -1", shell=True, text=True).strip()
    slow = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    slow.terminate()
    killed = slow.wait()
    try:
        subprocess.run(["sleep", "1000"], timeout=0.1)
    except subprocess.TimeoutExpired:
        pass
    try:
        subprocess.run(["/nowhere/nothing"])
    except FileNotFoundError:
        pass
    many = [subprocess.Popen(["/bin/true"]) for _ in range(50)]
    assert all(p.wait() == 0 for p in many)
    pid = os.fork()
    if pid == 0:
        os._exit(5)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return [shell, killed, code]


def square(x):
    return x * x


def put(queue, lock, name):
    m = multiprocessing.shared_memory.SharedMemory(name)
    with lock:
        m.buf[0] += 1
    m.close()
    queue.put(os.getpid())


def processes():
    with multiprocessing.Pool(4) as pool:
        total = sum(pool.map(square, range(1000)))
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=spawn) as pool:
        assert list(pool.map(square, range(10))) == [x * x for x in range(10)]
    m = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
    queue, lock = multiprocessing.Queue(), multiprocessing.Lock()
    workers = [multiprocessing.Process(target=put, args=(queue, lock, m.name)) for _ in range(8)]
    for w in workers:
        w.start()
    pids = {queue.get(timeout=60) for _ in workers}
    for w in workers:
        w.join()
    seen = m.buf[0]
    m.close()
    m.unlink()
    return [total, len(pids), seen]


def threads():
    hashes = []
    def work():
        hashes.append(hashlib.sha256(bytes(1 << 20)).hexdigest())
    ts = [threading.Thread(target=work) for _ in range(8)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    a, b = socket.socketpair()
    a.sendall(b"ping")
    got = b.recv(4).decode()
    # A descriptor passed through a socket.
    r, w = os.pipe()
    socket.send_fds(a, [b"x"], [w])
    _, fds, _, _ = socket.recv_fds(b, 1, 1)
    os.write(fds[0], b"pong")
    poll = select.epoll()
    poll.register(r, select.EPOLLIN)
    assert poll.poll(10)
    return [len(set(hashes)), got, os.read(r, 4).decode()]


def signals():
    seen = []
    signal.signal(signal.SIGALRM, lambda *_: seen.append("alarm"))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    while not seen:
        time.sleep(0.01)
    signal.signal(signal.SIGUSR1, lambda *_: seen.append("usr1"))
    os.kill(os.getpid(), signal.SIGUSR1)
    return seen


if __name__ == "__main__":
    json.dump({f.__name__: f() for f in (files, temporary, database, subprocesses, processes, threads, signals)},
              sys.stdout, sort_keys=True)
    print()
