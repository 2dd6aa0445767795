// Namespaces, mounts and roots of its own, in which it could have what it does
// not have here.
#include "attempt.h"
#include <sys/mount.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

// From linux/mount.h and linux/sched.h, which not every C library goes with.
enum { TREE_CLONE = 1, ATTR_READ_ONLY = 1, CREATE = 6 };
struct attributes { uint64_t set, clear, propagation, user_namespace; };
struct clone_arguments { uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls; };

// in_child runs one step in a child: what it changes is only the child's.
#define IN_CHILD(step)                \
	do {                              \
		pid_t child = fork();         \
		int status;                   \
		if (!child) {                 \
			step;                     \
			_exit(0);                 \
		}                             \
		waitpid(child, &status, 0);   \
		if (WIFSIGNALED(status))      \
			failed("it was killed");  \
	} while (0)

static void unshared(int flag, const char *kind, const char *children) {
	char path[64], before[64] = "", after[64] = "";
	snprintf(path, sizeof path, "/proc/self/ns/%s", children);
	if (readlink(path, before, 63) < 0)
		failed(path);
	// An ordinary user needs a user namespace first.
	if (unshare(flag) && unshare(flag | CLONE_NEWUSER))
		return failed(kind);
	readlink(path, after, 63);
	if (strcmp(before, after))
		gained("%s instead of %s", after, before);
}

static void unshare_user(void) { IN_CHILD(unshared(CLONE_NEWUSER, "unshare user", "user")); }
static void unshare_mount(void) { IN_CHILD(unshared(CLONE_NEWNS, "unshare mnt", "mnt")); }
static void unshare_net(void) { IN_CHILD(unshared(CLONE_NEWNET, "unshare net", "net")); }
static void unshare_pid(void) {
	IN_CHILD({
		if (unshare(CLONE_NEWPID) && unshare(CLONE_NEWPID | CLONE_NEWUSER))
			failed("unshare pid");
		if (!fork()) {
			if (getpid() == 1)
				gained("to be the first process of a namespace");
			_exit(0);
		}
		wait(NULL);
	});
}
static void unshare_ipc_uts(void) { IN_CHILD(unshared(CLONE_NEWIPC | CLONE_NEWUTS, "unshare ipc uts", "uts")); }
static void unshare_cgroup(void) { IN_CHILD(unshared(CLONE_NEWCGROUP, "unshare cgroup", "cgroup")); }
static void unshare_time(void) { IN_CHILD(unshared(CLONE_NEWTIME, "unshare time", "time_for_children")); }

static void clone_user(void) {
	char before[64] = "", after[64] = "";
	readlink("/proc/self/ns/user", before, 63);
	pid_t child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
	if (child < 0)
		return failed("clone");
	if (!child) {
		readlink("/proc/self/ns/user", after, 63);
		if (strcmp(before, after))
			gained("%s", after);
		_exit(0);
	}
	waitpid(child, NULL, 0);
}

static void clone3_user(void) {
	struct clone_arguments args = {.flags = CLONE_NEWUSER | CLONE_NEWNS, .exit_signal = SIGCHLD};
	pid_t child = syscall(SYS_clone3, &args, sizeof args);
	if (child < 0)
		return failed("clone3");
	if (!child) {
		gained("a child in namespaces of its own");
		_exit(0);
	}
	waitpid(child, NULL, 0);
}

// The namespaces of another process: those of the target, which has the host's.
static void join(void) {
	for (const pid_t *p = targets(); *p; p++) {
		int fd = syscall(SYS_pidfd_open, *p, 0);
		char path[64];
		snprintf(path, sizeof path, "/proc/%d/ns/net", *p);
		int net = open(path, O_RDONLY);
		if (fd >= 0 && !setns(fd, CLONE_NEWNET | CLONE_NEWNS))
			gained("the namespaces of process %d", *p);
		else if (net >= 0 && !setns(net, 0))
			gained("%s", path);
		else
			failed("setns");
	}
}

static int secret_seen_at(const char *path) {
	char text[256];
	return slurp(path, text, sizeof text) > 0 && has_secret(text);
}

static void mount_new(void) {
	mkdir("of-mount-new", 0777);
	if (mount("none", "of-mount-new", "tmpfs", 0, ""))
		return failed("mount");
	gained("a mount");
	umount2("of-mount-new", MNT_DETACH);
}

// What is covered by a mount appears when that is gone.
static void unmount_cover(void) {
	const char *covered = given("DENIED");
	if (*given("CONTROL") && mount("/dev/null", covered, NULL, MS_BIND, NULL))
		failed("covering");
	if (umount2(covered, MNT_DETACH))
		failed("umount2");
	if (secret_seen_at(covered))
		gained("what was covered");
	if (!*given("CONTROL") && (!umount2("/proc/kcore", MNT_DETACH) || !umount2("/proc", MNT_DETACH)))
		gained("a cover is gone");
}

static void remount_writable(void) {
	const char *readonly = given("READONLY");
	if (*given("CONTROL") && (mount(readonly, readonly, NULL, MS_BIND, NULL) || mount("none", readonly, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL)))
		failed("making it read-only");
	if (mount("none", readonly, NULL, MS_REMOUNT | MS_BIND, NULL))
		failed("mount");
	struct attributes attr = {.clear = ATTR_READ_ONLY};
	if (syscall(SYS_mount_setattr, AT_FDCWD, readonly, 0, &attr, sizeof attr))
		return failed("mount_setattr");
	gained("%s can be written to", readonly);
}

static void clone_tree(void) {
	int fd = syscall(SYS_open_tree, AT_FDCWD, "/", TREE_CLONE | O_CLOEXEC);
	if (fd < 0) // not without what others have mounted over it
		fd = syscall(SYS_open_tree, AT_FDCWD, "/", TREE_CLONE | O_CLOEXEC | AT_RECURSIVE);
	if (fd < 0)
		return failed("open_tree");
	gained("a clone of the root, to mount elsewhere");
}

static void mount_by_descriptor(void) {
	int fs = syscall(SYS_fsopen, "tmpfs", 0);
	if (fs < 0)
		return failed("fsopen");
	if (syscall(SYS_fsconfig, fs, CREATE, NULL, NULL, 0) || syscall(SYS_fsmount, fs, 0, 0) < 0)
		return failed("fsmount");
	gained("a file system");
}

// The classic: a root below the current directory, and up from there.
static void change_root(void) {
	own_directory();
	mkdir("jail", 0777);
	if (chroot("jail"))
		return failed("chroot");
	for (int i = 0; i < 64; i++)
		if (chdir(".."))
			break;
	if (chroot("."))
		return failed("chroot");
	if (secret_seen_at(given("OUTSIDE")))
		gained("out of the root");
}

static void pivot(void) {
	own_directory();
	if (*given("CONTROL")) {
		char *here = getcwd(NULL, 0);
		if (unshare(CLONE_NEWNS) || mount(here, here, NULL, MS_BIND, NULL) || chdir(here))
			failed("making a root");
	}
	if (syscall(SYS_pivot_root, ".", "."))
		return failed("pivot_root");
	gained("another root");
}

// int 0x80 makes calls by the numbers of another architecture.
static long by_int80(long number, long a, long b, long c) {
#ifdef __x86_64__
	long result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
	return result;
#else
	(void)number, (void)a, (void)b, (void)c;
	return -ENOSYS;
#endif
}

static void other_architecture(void) {
	IN_CHILD({
		if (by_int80(20 /* getpid */, 0, 0, 0) == getpid())
			gained("a call by another table of numbers");
		else
			failed("int 0x80");
	});
	IN_CHILD({
		if (by_int80(310 /* unshare */, CLONE_NEWUSER, 0, 0) == 0)
			gained("a user namespace");
	});
}

static void x32(void) {
	IN_CHILD({
		if (syscall(0x40000000 + SYS_getpid) == getpid())
			gained("a call by the numbers of x32");
		else
			failed("x32");
	});
}

// A number that no kernel of today has: with a later one it might do anything.
static void unknown_call(void) {
	for (long n = 472; n < 600; n++)
		if (syscall(n, 0, 0, 0, 0, 0, 0) >= 0 || errno != ENOSYS)
			gained("call %ld is there", n);
	failed("the last one");
}

static void host_name(void) {
	char name[64] = "taken-over";
	if (sethostname(name, strlen(name)))
		failed("sethostname");
	else
		gained("the host has another name");
	int fd = open("/proc/sys/kernel/hostname", O_WRONLY);
	if (fd >= 0 && write(fd, name, strlen(name)) > 0)
		gained("the host has another name, by /proc/sys");
}

const struct attempt namespace_attempts[] = {
	{"unshare-user", unshare_user}, {"unshare-mount", unshare_mount}, {"unshare-net", unshare_net}, {"unshare-pid", unshare_pid},
	{"unshare-ipc-uts", unshare_ipc_uts}, {"unshare-cgroup", unshare_cgroup}, {"unshare-time", unshare_time},
	{"clone-user", clone_user}, {"clone3-user", clone3_user}, {"join", join},
	{"mount-new", mount_new}, {"unmount-cover", unmount_cover}, {"remount-writable", remount_writable}, {"clone-tree", clone_tree},
	{"mount-by-descriptor", mount_by_descriptor}, {"change-root", change_root}, {"pivot", pivot},
	{"other-architecture", other_architecture}, {"x32", x32}, {"unknown-call", unknown_call}, {"host-name", host_name},
	{0},
};
