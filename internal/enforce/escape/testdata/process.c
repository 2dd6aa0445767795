// Outliving the execution, and reaching for processes outside of it.
#include "attempt.h"
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <termios.h>

// beat counts in a file for as long as it lives, whatever happens to others.
// The test looks whether it still does when all should be over.
static void beat(void) {
	char path[128];
	snprintf(path, sizeof path, "beat-%s", current);
	for (int i = 1; i < 64; i++)
		signal(i, SIG_IGN);
	syscall(SYS_close_range, 0, ~0u, 0);
	int fd = open(path, O_WRONLY | O_CREAT, 0666);
	for (unsigned i = 0; i < 12000; i++) {
		if (pwrite(fd, &i, sizeof i, 0) < 0)
			_exit(1);
		usleep(5000);
	}
	_exit(0);
}

static void daemonise(void) {
	if (fork())
		return;
	setsid();
	if (fork())
		_exit(0);
	setpgid(0, 0);
	beat();
}

// Its parent is the guard from the start, as the driver's is.
static void sibling(void) {
	if (syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) == 0)
		beat();
}

// Nobody is told of its end, and its parent is another orphan.
static void untraced(void) {
	if (fork())
		return;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (syscall(SYS_clone, CLONE_UNTRACED, 0, 0, 0, 0) == 0) {
		setsid();
		beat();
	}
}

// Forks all the time, so that whoever kills one finds another.
static void running_away(void) {
	if (fork())
		return;
	setsid();
	char path[128];
	snprintf(path, sizeof path, "beat-%s", current);
	int fd = open(path, O_WRONLY | O_CREAT, 0666);
	for (unsigned i = 0; i < 20000; i++) {
		pwrite(fd, &i, sizeof i, 0);
		if (fork())
			_exit(0);
		usleep(3000);
	}
}

// A signal takes effect when its target runs, not before.
static void let_it_run(void) { usleep(50000); }

// threads is how many numbers from a target's on may be its threads. A target
// of a control run has one: the next numbers are those of strangers.
static int threads(void) { return contained() ? 5 : 1; }

static void signal_all(int sig) {
	for (const pid_t *p = targets(); *p; p++) {
		kill(*p, sig);
		for (int tid = *p; tid < *p + threads(); tid++) {
			if (tid == getpid())
				continue;
			syscall(SYS_tgkill, *p, tid, sig);
			syscall(SYS_tkill, tid, sig);
		}
		siginfo_t info = {.si_code = SI_QUEUE};
		syscall(SYS_rt_sigqueueinfo, *p, sig, &info);
		int fd = syscall(SYS_pidfd_open, *p, 0);
		if (fd >= 0) {
			syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0);
			syscall(SYS_pidfd_send_signal, fd, sig, NULL, 4 /* its process group */);
			close(fd);
		}
	}
	let_it_run();
}

static void kill_guard(void) { signal_all(SIGKILL); }
static void stop_guard(void) { signal_all(SIGSTOP); }

// A descriptor sends the signal, in the name of the kernel.
static void signal_by_descriptor(void) {
	for (const pid_t *p = targets(); *p; p++) {
		int pair[2];
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
			return failed("socketpair");
		fcntl(pair[0], F_SETOWN, *p);
		fcntl(pair[0], F_SETSIG, SIGKILL);
		fcntl(pair[0], F_SETFL, O_ASYNC);
		if (write(pair[1], "x", 1) != 1)
			failed("write");
		fcntl(pair[0], F_SETSIG, SIGSTOP);
		if (write(pair[1], "x", 1) != 1)
			failed("write");
	}
	let_it_run();
}

// On a host without a PID namespace this would be the end of it: see main.c.
static void kill_everybody(void) {
	if (!contained())
		return failed("no PID namespace");
	kill(-1, SIGSTOP);
	kill(-1, SIGKILL);
	let_it_run();
}

// A governor that follows its workload's stops as a shell does would stop, too.
static void stop_everybody(void) {
	if (!contained())
		return failed("no PID namespace");
	kill(-1, SIGSTOP);
	raise(SIGSTOP);
}

static void trace(void) {
	for (const pid_t *p = targets(); *p; p++)
		if (!ptrace(PTRACE_ATTACH, *p, 0, 0) || !ptrace(PTRACE_SEIZE, *p, 0, 0)) {
			waitpid(*p, NULL, __WALL);
			gained("process %d is traced", *p);
			ptrace(PTRACE_DETACH, *p, 0, 0);
		} else {
			failed("ptrace");
		}
}

// A tracer could change what a call asks for after it was decided.
static void trace_child(void) {
	pid_t child = fork();
	if (!child) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		_exit(7);
	}
	int status;
	waitpid(child, &status, WUNTRACED);
	char registers[4096];
	struct iovec set = {registers, sizeof registers};
	if (!ptrace(PTRACE_GETREGSET, child, 1 /* NT_PRSTATUS */, &set))
		gained("the registers of a child");
	else
		failed("ptrace");
	end_child(child);
}

// Where a program that is not relocated begins, and the target of a control run.
static void *const read_at[] = {(void *)0x400000, target_memory};

static void read_memory(void) {
	for (const pid_t *p = targets(); *p; p++)
		for (size_t i = 0; i < 2; i++) {
			char text[64] = "";
			struct iovec here = {text, sizeof text - 1}, there = {read_at[i], sizeof text - 1};
			if (process_vm_readv(*p, &here, 1, &there, 1, 0) > 0)
				gained("memory of process %d", *p);
			else
				failed("process_vm_readv");
		}
}

static void write_memory(void) {
	for (const pid_t *p = targets(); *p; p++) {
		struct iovec here = {"x", 1}, there = {target_memory, 1};
		if (process_vm_writev(*p, &here, 1, &there, 1, 0) > 0)
			gained("wrote to process %d", *p);
		else
			failed("process_vm_writev");
	}
}

static void open_memory(void) {
	for (const pid_t *p = targets(); *p; p++) {
		char path[64], text[64] = "";
		snprintf(path, sizeof path, "/proc/%d/mem", *p);
		int fd = open(path, O_RDWR);
		if (fd < 0)
			fd = open(path, O_RDONLY);
		for (size_t i = 0; i < 2; i++)
			if (fd >= 0 && pread(fd, text, sizeof text - 1, (off_t)read_at[i]) > 0)
				gained("%s", path);
		failed(path);
	}
}

// The root, directory, environment, mappings and descriptors of others.
static void look_into(void) {
	static const char *const names[] = {"root/.", "cwd/.", "environ", "maps", "fd/0", "exe", "ns/mnt", "map_files/.", "auxv", "stack", "syscall"};
	for (const pid_t *p = targets(); *p; p++)
		for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
			char path[64];
			snprintf(path, sizeof path, "/proc/%d/%s", *p, names[i]);
			int fd = open(path, O_RDONLY | O_NONBLOCK);
			char byte;
			struct stat st;
			if (fd >= 0 && (fstat(fd, &st) || !S_ISREG(st.st_mode) || read(fd, &byte, 1) == 1))
				gained("%s", path);
			close(fd);
		}
	failed("what /proc shows");
}

static void take_descriptor(void) {
	for (const pid_t *p = targets(); *p; p++) {
		int process = syscall(SYS_pidfd_open, *p, 0);
		for (int fd = 0; fd < 16; fd++) {
			int mine = syscall(SYS_pidfd_getfd, process, fd, 0);
			if (mine >= 0)
				gained("descriptor %d of process %d", fd, *p);
		}
		failed("pidfd_getfd");
	}
}

// Without descriptors poll fails, and the guard notices nothing any more.
static void limit_guard(void) {
	for (const pid_t *p = targets(); *p; p++) {
		struct rlimit none = {0, 0};
		if (prlimit(*p, RLIMIT_NOFILE, &none, NULL) && syscall(SYS_prlimit64, *p, RLIMIT_NOFILE, &none, NULL))
			failed("prlimit");
	}
}

// A guard that runs last lets a busy workload run past its deadline.
static void starve_guard(void) {
	for (const pid_t *p = targets(); *p; p++)
		for (pid_t tid = *p; tid < *p + threads(); tid++) {
			if (tid == getpid())
				continue;
			struct sched_param zero = {0};
			setpriority(PRIO_PROCESS, tid, 19);
			if (sched_setscheduler(tid, SCHED_IDLE, &zero))
				failed("sched_setscheduler");
		}
}

static void pin_guard(void) {
	for (const pid_t *p = targets(); *p; p++) {
		cpu_set_t one;
		CPU_ZERO(&one);
		CPU_SET(0, &one);
		if (sched_setaffinity(*p, sizeof one, &one))
			failed("sched_setaffinity");
	}
}

// Priorities that beat the guard's.
static void outrank(void) {
	struct sched_param first = {.sched_priority = 50};
	if (!sched_setscheduler(0, SCHED_FIFO, &first))
		gained("real-time priority");
	else if (!setpriority(PRIO_PROCESS, 0, -20))
		gained("nice -20");
	else
		failed("sched_setscheduler");
}

// What is typed into a terminal comes from its user, as far as anybody can tell.
static void type_into_terminal(unsigned long call) {
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	if (master < 0 || grantpt(master) || unlockpt(master))
		return failed("a terminal of its own");
	if (setsid() < 0 && (setpgid(0, getppid()), setsid() < 0))
		if (fork()) { // a leader of its group cannot
			wait(NULL);
			return;
		}
	setsid();
	int tty = open(ptsname(master), O_RDWR);
	ioctl(tty, TIOCSCTTY, 0);
	struct termios raw;
	tcgetattr(tty, &raw);
	cfmakeraw(&raw);
	tcsetattr(tty, TCSANOW, &raw);
	if (syscall(SYS_ioctl, tty, call, "!"))
		return failed("TIOCSTI");
	fcntl(tty, F_SETFL, O_NONBLOCK);
	char c = 0;
	if (read(tty, &c, 1) == 1 && c == '!')
		gained("typed into a terminal");
}

static void type(void) { type_into_terminal(TIOCSTI); }
static void type_with_upper_half(void) { type_into_terminal(TIOCSTI | 0xdead00000000); }

// The host would keep the memory of a process that is not its own.
static void dump_core(void) {
	own_directory();
	struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY}, some = {1 << 30, 1 << 30};
	if (setrlimit(RLIMIT_CORE, &all) && setrlimit(RLIMIT_CORE, &some) && prlimit(getpid(), RLIMIT_CORE, &some, NULL))
		failed("setrlimit");
	if (!fork()) {
		prctl(PR_SET_DUMPABLE, 1);
		signal(SIGSEGV, SIG_DFL);
		raise(SIGSEGV);
	}
	int status;
	wait(&status);
	if (WCOREDUMP(status))
		gained("a core dump");
	else
		failed("no dump");
}

const struct attempt process_attempts[] = {
	{"daemonise", daemonise}, {"sibling", sibling}, {"untraced", untraced}, {"running-away", running_away},
	{"kill-guard", kill_guard}, {"stop-guard", stop_guard}, {"signal-by-descriptor", signal_by_descriptor}, {"kill-everybody", kill_everybody}, {"stop-everybody", stop_everybody},
	{"trace", trace}, {"trace-child", trace_child},
	{"read-memory", read_memory}, {"write-memory", write_memory}, {"open-memory", open_memory}, {"look-into", look_into}, {"take-descriptor", take_descriptor},
	{"limit-guard", limit_guard}, {"starve-guard", starve_guard}, {"pin-guard", pin_guard}, {"outrank", outrank},
	{"type", type}, {"type-upper-half", type_with_upper_half}, {"dump-core", dump_core},
	{0},
};
