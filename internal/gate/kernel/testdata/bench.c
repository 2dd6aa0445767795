// bench WHAT N: microseconds for each of N calls.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

int main(int argc, char **argv) {
	int n = atoi(argv[2]);
	if (!strcmp(argv[1], "self"))
		return 0;
	double begun = now();
	if (!strcmp(argv[1], "exec") || !strcmp(argv[1], "missing")) {
		char *args[] = {argv[0], "self", "0", NULL};
		const char *path = argv[1][0] == 'e' ? argv[0] : "/usr/local/bin/missing";
		for (int i = 0; i < n; i++) {
			pid_t pid = vfork();
			if (pid == 0) {
				execve(path, args, environ);
				_exit(0);
			}
			waitpid(pid, NULL, 0);
		}
	} else if (!strcmp(argv[1], "udp")) {
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {htonl(INADDR_LOOPBACK)}};
		int s = socket(AF_INET, SOCK_DGRAM, 0);
		for (int i = 0; i < n; i++)
			if (connect(s, (void *)&a, sizeof a) != 0)
				return 1;
	} else {
		struct sockaddr_un a = {.sun_family = AF_UNIX};
		snprintf(a.sun_path, sizeof a.sun_path, "/tmp/writ-gate-bench.%d", getpid());
		int server = socket(AF_UNIX, SOCK_DGRAM, 0), s = socket(AF_UNIX, SOCK_DGRAM, 0);
		if (bind(server, (void *)&a, sizeof a) != 0)
			return 1;
		for (int i = 0; i < n; i++)
			if (connect(s, (void *)&a, sizeof a) != 0)
				return 1;
		unlink(a.sun_path);
	}
	printf("%.2f\n", (now() - begun) / n);
	return 0;
}
