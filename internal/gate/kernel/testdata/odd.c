// odd MODE ARG... makes calls no sane program makes, and prints what they say.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void say(const char *what, long r) {
	printf("%s %s\n", what, r < 0 ? strerrorname_np(errno) : "ok");
	fflush(stdout);
}

static long raw_exec(const void *path, const void *argv) { return syscall(SYS_execve, path, argv, environ); }

static void pointers(void) {
	char *none[] = {NULL};
	char *bad[] = {"x", (char *)8, NULL};
	long page = sysconf(_SC_PAGESIZE);
	char *map = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(map + page, page);
	memset(map, 'a', page);
	char **list = (char **)(map + page) - 2; // no end, then nothing mapped
	list[0] = list[1] = "x";
	say("null path", raw_exec(NULL, none));
	say("small path", raw_exec((void *)1, none));
	say("kernel path", raw_exec((void *)0xffffffff81000000, none));
	say("non-canonical path", raw_exec((void *)0x8000000000000000, none));
	memset(map, 'a', page);
	say("path into the unmapped", raw_exec(map + page - 10, none));
	memcpy(map + page - 10, "/bin/true", 10);
	list = (char **)(map + 2 * page);
	list[0] = "x";
	say("kernel argv", raw_exec("/bin/true", (void *)0xffffffff81000000));
	say("argument nowhere", raw_exec("/bin/true", bad));
	char **edge = (char **)(map + page) - 1;
	edge[0] = "x";
	say("argv without end", raw_exec("/bin/true", edge));
	if (fork() == 0) {
		memcpy(map + page - 10, "/bin/true", 10);
		raw_exec(map + page - 10, none);
		_exit(9);
	}
	int status;
	wait(&status);
	printf("path at the edge %d\n", status);
	if (fork() == 0) {
		raw_exec("/bin/true", NULL);
		_exit(9);
	}
	wait(&status);
	printf("null argv %d\n", status);
}

static void huge(const char *prog) {
	size_t n = 100000;
	char **many = calloc(n + 1, sizeof *many);
	for (size_t i = 0; i < n; i++)
		many[i] = "argument";
	int status;
	if (fork() == 0) {
		raw_exec(prog, many);
		_exit(errno);
	}
	wait(&status);
	printf("many %d\n", WEXITSTATUS(status));
	char *big = malloc(64 << 20);
	memset(big, 'b', 64 << 20);
	big[(64 << 20) - 1] = 0;
	char *one[] = {"x", big, NULL};
	say("big", raw_exec(prog, one));
	char *some = strndup(big, 100000);
	char *two[] = {"x", some, NULL};
	if (fork() == 0) {
		raw_exec(prog, two);
		_exit(errno);
	}
	wait(&status);
	printf("long %d\n", WEXITSTATUS(status));
}

static void wait_and_say(const char *what) {
	int status;
	wait(&status);
	printf("%s %d\n", what, status);
	fflush(stdout);
}

static void by_descriptor(const char *prog, const char *script) {
	char *args[] = {"x", NULL};
	char path[64];
	int fd = open(prog, O_RDONLY | O_CLOEXEC), dir = open("/", O_PATH), status;
	if (fork() == 0) {
		syscall(SYS_execveat, fd, "", args, environ, AT_EMPTY_PATH);
		_exit(9);
	}
	wait_and_say("empty path");
	if (fork() == 0) {
		syscall(SYS_execveat, dir, prog + 1, args, environ, 0);
		_exit(9);
	}
	wait_and_say("from a directory");
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (fork() == 0) {
		raw_exec(path, args);
		_exit(9);
	}
	wait_and_say("/proc/self/fd");
	snprintf(path, sizeof path, "/dev/fd/%d", fd);
	if (fork() == 0) {
		raw_exec(path, args);
		_exit(9);
	}
	wait_and_say("/dev/fd");
	say("no directory", syscall(SYS_execveat, fd, "x", args, environ, 0));
	say("no descriptor", syscall(SYS_execveat, 777, "", args, environ, AT_EMPTY_PATH));
	say("no flag", syscall(SYS_execveat, fd, "", args, environ, 0));
	say("bad flag", syscall(SYS_execveat, fd, "", args, environ, 0x40000));
	say("link", syscall(SYS_execveat, dir, "proc/self/exe", args, environ, AT_SYMLINK_NOFOLLOW));
	// A script through a descriptor: the interpreter gets /dev/fd/N.
	int s = open(script, O_RDONLY), c = open(script, O_RDONLY | O_CLOEXEC);
	if (fork() == 0) {
		syscall(SYS_execveat, s, "", args, environ, AT_EMPTY_PATH);
		_exit(9);
	}
	wait_and_say("script");
	say("script that is closed", syscall(SYS_execveat, c, "", args, environ, AT_EMPTY_PATH));
	// memfd
	int in = open(prog, O_RDONLY), m = memfd_create("a name", MFD_CLOEXEC);
	char buf[1 << 16];
	ssize_t n;
	while ((n = read(in, buf, sizeof buf)) > 0)
		if (write(m, buf, n) != n)
			_exit(8);
	if (fork() == 0) {
		syscall(SYS_execveat, m, "", args, environ, AT_EMPTY_PATH);
		printf("%s ", strerrorname_np(errno));
		fflush(stdout);
		_exit(9);
	}
	wait_and_say("memfd");
	// deleted
	char copy[] = "/tmp/writ-gate-odd-XXXXXX";
	int d = mkstemp(copy);
	lseek(in, 0, SEEK_SET);
	while ((n = read(in, buf, sizeof buf)) > 0)
		if (write(d, buf, n) != n)
			_exit(8);
	fchmod(d, 0755);
	close(d);
	d = open(copy, O_RDONLY | O_CLOEXEC);
	unlink(copy);
	if (fork() == 0) {
		syscall(SYS_execveat, d, "", args, environ, AT_EMPTY_PATH);
		_exit(9);
	}
	wait_and_say("deleted");
	(void)status;
	say("check", syscall(SYS_execveat, fd, "", args, environ, AT_EMPTY_PATH | 0x10000));
}

static void *connects(void *unused) {
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/no/such"};
	for (;;) {
		int s = socket(AF_UNIX, SOCK_STREAM, 0);
		connect(s, (void *)&a, sizeof a);
		close(s);
	}
}

static void *execs(void *path) {
	char *args[] = {path, NULL};
	usleep(rand() % 2000);
	raw_exec(path, args);
	return NULL;
}

// Many threads make gated calls, and several of them execute at once.
static void threads(const char *prog, int n) {
	for (int i = 0; i < n; i++) {
		if (fork() == 0) {
			srand(i);
			pthread_t t;
			for (int j = 0; j < 4; j++)
				pthread_create(&t, NULL, connects, NULL);
			for (int j = 0; j < 4; j++)
				pthread_create(&t, NULL, execs, (void *)prog);
			usleep(rand() % 2000);
			if (i % 3 == 0)
				_exit(0);
			if (i % 3 == 1)
				syscall(SYS_exit, 0); // the leader only
			pause();
		}
	}
	while (wait(NULL) > 0)
		;
	puts("end");
}

static void bomb(const char *prog, int n) {
	char *args[] = {(char *)prog, NULL};
	for (int i = 0; i < n; i++)
		if (fork() == 0) {
			for (int j = 0; j < 10; j++)
				if (fork() == 0) {
					raw_exec(j % 2 ? prog : "/no/such", args);
					_exit(0);
				}
			while (wait(NULL) > 0)
				;
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	puts("end");
}

// Children are killed at random moments of their execve.
static void killed(const char *prog, int n) {
	char *args[] = {(char *)prog, NULL};
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			raw_exec(prog, args);
			_exit(0);
		}
		usleep(rand() % 1500);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	puts("end");
}

static int counter;
static void count(int sig) { counter++; }

// Signals with handlers come in all the time.
static void signals(const char *prog, int n) {
	struct sigaction a = {.sa_handler = count, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &a, NULL);
	char *args[] = {(char *)prog, NULL};
	for (int i = 0; i < n; i++) {
		pid_t pid = vfork();
		if (pid == 0) {
			raw_exec(prog, args);
			_exit(9);
		}
		int status;
		ualarm(300, 300);
		while (waitpid(pid, &status, 0) < 0)
			;
		if (status != 0)
			printf("status %x\n", status);
		ualarm(200, 200);
		errno = 0;
		raw_exec("/etc/passwd", args);
		if (errno != EACCES)
			say("passwd", -1);
		ualarm(0, 0);
	}
	puts(counter ? "end" : "no signal came");
}

// The stops of the trace are not the parent's business, and those of job
// control are.
static void stops(const char *prog, int n) {
	char *args[] = {(char *)prog, NULL};
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			raw_exec("/no/such", args);
			raw_exec(prog, args);
			_exit(9);
		}
		int status, stopped = 0;
		if (i % 2) {
			usleep(rand() % 1000);
			kill(pid, SIGSTOP);
		}
		while (waitpid(pid, &status, WUNTRACED | WCONTINUED) == pid && !WIFEXITED(status)) {
			if (WIFSTOPPED(status)) {
				stopped++;
				if (i % 2 == 0 || WSTOPSIG(status) != SIGSTOP)
					printf("a stop by %d\n", WSTOPSIG(status));
				kill(pid, SIGCONT);
			} else if (!WIFCONTINUED(status)) {
				printf("status %x\n", status);
				break;
			}
		}
		if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
			printf("exit %d\n", WEXITSTATUS(status));
	}
	puts("end");
}

// Each file is executed, as a child.
static void each(int n, char **paths) {
	for (int i = 0; i < n; i++) {
		int status, result = 0, ends[2];
		if (pipe2(ends, O_CLOEXEC) < 0)
			_exit(8);
		if (fork() == 0) {
			char *args[] = {"x", "y", NULL};
			raw_exec(paths[i], args);
			result = errno;
			if (write(ends[1], &result, sizeof result) < 0)
				_exit(8);
			_exit(9);
		}
		close(ends[1]);
		if (read(ends[0], &result, sizeof result) < 0)
			_exit(8);
		close(ends[0]);
		wait(&status);
		printf("%d %x %s\n", i, status, result ? strerrorname_np(result) : "");
	}
}

int main(int argc, char **argv) {
	setvbuf(stdout, NULL, _IOLBF, 0);
	const char *mode = argv[1];
	if (!strcmp(mode, "pointers"))
		pointers();
	else if (!strcmp(mode, "huge"))
		huge(argv[2]);
	else if (!strcmp(mode, "descriptor"))
		by_descriptor(argv[2], argv[3]);
	else if (!strcmp(mode, "threads"))
		threads(argv[2], atoi(argv[3]));
	else if (!strcmp(mode, "bomb"))
		bomb(argv[2], atoi(argv[3]));
	else if (!strcmp(mode, "killed"))
		killed(argv[2], atoi(argv[3]));
	else if (!strcmp(mode, "signals"))
		signals(argv[2], atoi(argv[3]));
	else if (!strcmp(mode, "stops"))
		stops(argv[2], atoi(argv[3]));
	else if (!strcmp(mode, "each"))
		each(argc - 2, argv + 2);
	else if (!strcmp(mode, "unknown"))
		say("swapon", syscall(SYS_swapon, "/x", 0));
	fflush(stdout);
	_exit(0);
}
