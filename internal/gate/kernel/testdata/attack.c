// attack MODE ARG... tries to get past the gate. Modes:
//   path GOOD EVIL N      another process rewrites the path while execve waits
//   argv PROG N           another process rewrites argv[1]: "ok" and "no"
//   symlink GOOD EVIL N   a link on the path changes its target
//   rename GOOD EVIL N    another file is renamed over the executable
//   content GOOD EVIL N   the file is written in place
//   mapped GOOD EVIL N    the same through a shared mapping
//   sockaddr GOOD EVIL N  another thread rewrites the port
//   family PORT N         another thread makes AF_UNSPEC an address
//   descriptor GOOD EVIL N  another thread puts another socket at the number
// The parent always prints "end".
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static volatile char *shared;

static void die(const char *what) {
	perror(what);
	exit(1);
}

// again runs child N times, each in a process of its own.
static void again(int n, void (*child)(void)) {
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();
		if (pid == 0) {
			child();
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	}
}

static void exec_shared(void) {
	char *args[] = {"x", NULL};
	execve((char *)shared, args, environ);
}

static const char *fixed;
static void exec_fixed(void) {
	char *args[] = {"x", NULL};
	execve(fixed, args, environ);
}

static void exec_argv(void) {
	char *args[] = {"x", (char *)shared, NULL};
	execve(fixed, args, environ);
}

static void copy(const char *from, const char *to, int flags) {
	char buf[1 << 16];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | flags, 0777);
	ssize_t n;
	if (out < 0) // ETXTBSY while it runs
		goto end;
	while ((n = read(in, buf, sizeof buf)) > 0)
		if (write(out, buf, n) != n)
			die("write");
	fchmod(out, 0777);
	close(out);
end:
	close(in);
}

static void copy_mapped(const char *from, const char *to) {
	struct stat st;
	int in = open(from, O_RDONLY), out = open(to, O_RDWR);
	if (out >= 0 && fstat(in, &st) == 0) {
		char *a = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, in, 0);
		char *b = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, out, 0);
		if (a != MAP_FAILED && b != MAP_FAILED)
			memcpy(b, a, st.st_size);
		munmap(a, st.st_size);
		munmap(b, st.st_size);
	}
	if (out >= 0)
		close(out);
	close(in);
}

static struct sockaddr_in address;
static unsigned short ports[2];
static volatile int stop;
static int number, others[2];

static void *hammer_port(void *unused) {
	for (unsigned i = 0; !stop; i++)
		*(volatile unsigned short *)&address.sin_port = ports[i & 1];
	return NULL;
}

static void *hammer_family(void *unused) {
	for (unsigned i = 0; !stop; i++)
		*(volatile unsigned short *)&address.sin_family = i & 1 ? AF_INET : AF_UNSPEC;
	return NULL;
}

static void *hammer_descriptor(void *unused) {
	for (unsigned i = 0; !stop; i++)
		dup2(others[i & 1], number);
	return NULL;
}

int main(int argc, char **argv) {
	if (argc < 4)
		return 2;
	const char *mode = argv[1], *good = argv[2], *evil = argv[3];
	int n = atoi(argv[argc - 1]);
	char name[4096], other[4096];
	shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	snprintf(name, sizeof name, "%s.used", good);
	snprintf(other, sizeof other, "%s.other", good);
	fixed = name;
	pthread_t thread;
	memset(&address, 0, sizeof address);
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

	if (!strcmp(mode, "sockaddr") || !strcmp(mode, "family")) {
		int family = !strcmp(mode, "family");
		ports[0] = htons(atoi(good));
		ports[1] = htons(atoi(evil));
		address.sin_port = ports[0];
		pthread_create(&thread, NULL, family ? hammer_family : hammer_port, NULL);
		for (int i = 0; i < n; i++) {
			int s = socket(AF_INET, SOCK_STREAM, 0);
			connect(s, (struct sockaddr *)&address, sizeof address);
			close(s);
		}
	} else if (!strcmp(mode, "descriptor")) {
		// The number is now a unix socket and now a TCP socket, and the memory
		// an address for each.
		address.sin_port = htons(atoi(evil));
		number = dup(0);
		others[0] = socket(AF_UNIX, SOCK_STREAM, 0);
		others[1] = socket(AF_INET, SOCK_STREAM, 0);
		pthread_create(&thread, NULL, hammer_descriptor, NULL);
		for (int i = 0; i < n; i++)
			connect(number, (struct sockaddr *)&address, sizeof address);
	} else {
		if (!strcmp(mode, "content") || !strcmp(mode, "mapped"))
			copy(good, name, O_TRUNC);
		pid_t hammer = fork();
		if (hammer == 0) {
			// The paths are of the same length.
			for (unsigned i = 0;; i++) {
				const char *from = i & 1 ? evil : good;
				if (!strcmp(mode, "path")) {
					memcpy((char *)shared, from, strlen(from) + 1);
				} else if (!strcmp(mode, "argv")) {
					memcpy((char *)shared, i & 1 ? "no" : "ok", 3);
				} else if (!strcmp(mode, "symlink")) {
					unlink(other);
					if (symlink(from, other) == 0)
						rename(other, name);
				} else if (!strcmp(mode, "rename")) {
					copy(from, other, O_TRUNC);
					rename(other, name);
				} else if (!strcmp(mode, "content")) {
					copy(from, name, 0);
				} else if (!strcmp(mode, "mapped")) {
					copy_mapped(from, name);
				}
				if (strcmp(mode, "path") && strcmp(mode, "argv"))
					usleep(rand() % 500);
			}
		}
		if (!strcmp(mode, "argv"))
			fixed = good;
		again(n, !strcmp(mode, "path") ? exec_shared : !strcmp(mode, "argv") ? exec_argv : exec_fixed);
		kill(hammer, SIGKILL);
	}
	stop = 1;
	puts("end");
	fflush(stdout);
	_exit(0);
}
