// Sockets that lie in files that can be seen, or have no file. The test's
// servers see the name of the attempt that reaches them.
#include "attempt.h"
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t address(struct sockaddr_un *a, const char *path) {
	memset(a, 0, sizeof *a);
	a->sun_family = AF_UNIX;
	strncpy(a->sun_path, path, sizeof a->sun_path - 1);
	return offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
}

// "@name" is abstract.
static socklen_t abstract(struct sockaddr_un *a, const char *name) {
	socklen_t size = address(a, name) - 1;
	a->sun_path[0] = 0;
	return size;
}

static void say(int s) {
	if (send(s, current, strlen(current), MSG_NOSIGNAL) < 0)
		failed("send");
	close(s);
}

static void to_path(int type, const char *path) {
	struct sockaddr_un to;
	socklen_t size = address(&to, path);
	int s = socket(AF_UNIX, type, 0);
	if (s < 0 || connect(s, (void *)&to, size))
		return failed(path);
	say(s);
}

static void stream(void) { to_path(SOCK_STREAM, given("STREAM")); }
static void packets(void) { to_path(SOCK_SEQPACKET, given("PACKETS")); }
static void datagram(void) { to_path(SOCK_DGRAM, given("DATAGRAM")); }

static void by_link(void) {
	own_directory();
	unlink("l");
	if (symlink(given("STREAM"), "l"))
		failed("symlink");
	to_path(SOCK_STREAM, "l");
}

static void by_descriptor(void) {
	char path[64];
	int fd = open(given("STREAM"), O_PATH);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	to_path(SOCK_STREAM, path);
}

// The path changes while the connect is held: to a socket of its own, which it
// may connect to, and back.
static void race(void) {
	own_directory();
	struct sockaddr_un own, *contended = mmap(NULL, sizeof own, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unlink("own");
	int l = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (bind(l, (void *)&own, address(&own, "own")) || listen(l, 1000))
		return failed("listen");
	struct sockaddr_un both[2];
	address(&both[0], "own");
	address(&both[1], given("STREAM"));
	pid_t other = fork();
	if (!other)
		for (int i = 0;; i++)
			memcpy(contended, &both[i & 1], sizeof own);
	while (!*(volatile sa_family_t *)&contended->sun_family)
		sched_yield();
	for (int i = 0; i < often(300); i++) {
		int s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), c;
		if (!connect(s, (void *)contended, sizeof *contended))
			send(s, current, strlen(current), MSG_NOSIGNAL);
		close(s);
		if ((c = accept(l, NULL, NULL)) >= 0)
			close(c);
	}
	end_child(other);
	failed("race");
}

// An end of a pair is a socket like any other.
static void pair(const char *path, int is_abstract) {
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) && socketpair(AF_UNIX, SOCK_RAW, 0, ends))
		return failed("socketpair");
	struct sockaddr_un to;
	socklen_t size = is_abstract ? abstract(&to, path) : address(&to, path);
	struct iovec v = {(char *)current, strlen(current)};
	struct msghdr m = {.msg_name = &to, .msg_namelen = size, .msg_iov = &v, .msg_iovlen = 1};
	if (sendto(ends[0], current, strlen(current), 0, (void *)&to, size) < 0 && sendmsg(ends[1], &m, 0) < 0)
		failed("sendto");
}

static void pair_to_path(void) { pair(given("DATAGRAM"), 0); }
static void pair_to_abstract(void) { pair(given("ABSTRACTDATAGRAM"), 1); }

static void abstract_stream(void) {
	struct sockaddr_un to;
	socklen_t size = abstract(&to, given("ABSTRACT"));
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(s, (void *)&to, size))
		return failed("connect");
	say(s);
}

const struct attempt unix_attempts[] = {
	{"unix-stream", stream}, {"unix-packets", packets}, {"unix-datagram", datagram}, {"unix-by-link", by_link}, {"unix-by-descriptor", by_descriptor},
	{"unix-race", race}, {"unix-pair", pair_to_path}, {"unix-pair-abstract", pair_to_abstract}, {"unix-abstract", abstract_stream},
	{0},
};
