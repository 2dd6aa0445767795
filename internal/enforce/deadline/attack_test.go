//go:build linux

package deadline

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// attacks are workloads that know how they are held. Each writes when it last
// made progress, in nanoseconds of CLOCK_BOOTTIME, to a shared page.
const attacks = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile uint64_t *page;

static uint64_t progress(void)
{
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t);
	return *page = t.tv_sec * 1000000000ULL + t.tv_nsec;
}

// The next one is there before this one is looked at.
static void chain(void)
{
	for (;;) {
		progress();
		if (syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) > 0)
			_exit(0);
	}
}

// The same without a page fault: all have one memory, and stacks in turn.
static int shared(void *turn)
{
	static char stacks[256][16384] __attribute__((aligned(16)));
	uintptr_t next = (uintptr_t)turn + 1;

	for (;;) {
		progress();
		if (clone(shared, stacks[next % 256] + 16384, CLONE_VM | SIGCHLD, (void *)next) > 0)
			_exit(0);
	}
}

// Two for each that ends, so that one may be caught.
static void bush(void)
{
	for (;;) {
		progress();
		long a = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (a == 0)
			continue;
		long b = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (b != 0 && (a > 0 || b > 0))
			_exit(0);
	}
}

// The kernel itself continues what is stopped, again and again: a timer is not
// stopped with its process.
static void timers(void)
{
	struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGCONT};

	for (int i = 1; i <= 3000; i++) {
		struct itimerspec once = {{0, 0}, {i / 1000, i % 1000 * 1000000L}};
		timer_t id;

		if (timer_create(CLOCK_MONOTONIC, &e, &id) || timer_settime(id, 0, &once, 0))
			break;
	}
}

static void spin(void)
{
	timers();
	for (;;)
		progress();
}

// The same, seldom in user space.
static void reader(void)
{
	static char to[1 << 20];
	int f = open("/dev/zero", O_RDONLY);

	timers();
	for (;;) {
		progress();
		read(f, to, sizeof to);
	}
}

// Each continues the others, all the time.
static void friends(void)
{
	for (int i = 0; i < 5; i++)
		if (fork() == 0)
			break;
	for (;;) {
		progress();
		kill(0, SIGCONT);
	}
}

int main(int n, char **arg)
{
	int f = open(arg[2], O_RDWR);

	signal(SIGCHLD, SIG_IGN);
	page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
	if (!strcmp(arg[1], "chain"))
		chain();
	if (!strcmp(arg[1], "chain in one memory"))
		shared(0);
	if (!strcmp(arg[1], "bush"))
		bush();
	if (!strcmp(arg[1], "timer"))
		spin();
	if (!strcmp(arg[1], "reader"))
		reader();
	if (!strcmp(arg[1], "friends"))
		friends();
	return 2;
}
`

// compiled builds the attacks once for a test.
func compiled(t *testing.T) string {
	t.Helper()
	cc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("NOT TRIED: there is no gcc here to compile the attacks")
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "attacks.c")
	if err := os.WriteFile(source, []byte(attacks), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "attacks")
	if out, err := exec.Command(cc, "-O1", "-static", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("compiling: %v\n%s", err, out)
	}
	return program
}

// Who knows how the kernel stops a workload does not get around it, with nobody
// of Writ's there.
func TestNothingGetsAroundTheStop(t *testing.T) {
	program := compiled(t)
	for _, kind := range []string{"chain", "chain in one memory", "bush", "timer", "reader", "friends"} {
		t.Run(kind, func(t *testing.T) {
			k, group := place(t)
			d, err := k.Hold(group)
			if err != nil {
				t.Fatal(err)
			}
			w := launch(t, group, program, kind)
			at := now() + 100e6
			if err := d.Set(at, at+3600e9); err != nil {
				t.Fatal(err)
			}
			for time.Duration(now()-at) < 1300*time.Millisecond {
				time.Sleep(10 * time.Millisecond)
			}
			last := w.last()
			late := time.Duration(last - at)
			t.Logf("the last progress was %v after the deadline", late)
			if late > time.Second {
				t.Errorf("it went on for %v", late)
			}
		})
	}
}

// launch is start, for another program that takes the kind and the page.
func launch(t *testing.T, group, program, kind string) *worker {
	t.Helper()
	file := filepath.Join(t.TempDir(), "progress")
	if err := os.WriteFile(file, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := &worker{}
	if w.page, err = unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	w.cmd = exec.Command(program, kind, file)
	w.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Setpgid: true}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.WriteFile(filepath.Join(group, "cgroup.kill"), []byte("1"), 0)
		_ = w.cmd.Wait()
	})
	await(t, "progress", func() bool { return binary.NativeEndian.Uint64(w.page) != 0 })
	return w
}
