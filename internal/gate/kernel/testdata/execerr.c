// execerr PATH... tries to execute each PATH and prints the errno.
// execerr -run PATH ARG... executes PATH and prints the errno if it cannot.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv) {
	if (argc > 2 && strcmp(argv[1], "-run") == 0) {
		execve(argv[2], argv + 2, environ);
		printf("%s ", strerrorname_np(errno));
		return 0;
	}
	for (int i = 1; i < argc; i++) {
		char *args[] = {argv[i], NULL};
		execve(argv[i], args, environ);
		printf("%s ", strerrorname_np(errno));
	}
	return 0;
}
