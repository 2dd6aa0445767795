package rootfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// makeDev makes a /dev with what every program expects and nothing else: the
// harmless devices, terminals of its own, shared memory of its own, and the
// caller's terminal under a name at which ttyname finds it. Devices that are
// places are attached below it later.
func (b *builder) makeDev() error {
	dev, err := b.tmpfs(unix.MOUNT_ATTR_NOEXEC, "mode=0755", "size=64k")
	if err != nil {
		return err
	}
	if err := b.mount(dev, "/dev"); err != nil {
		return err
	}
	for _, name := range devices {
		if err := b.mount(b.taken["/dev/"+name], "/dev/"+name); err != nil {
			return fmt.Errorf("/dev/%s: %w", name, err)
		}
	}
	if tty, ok := b.taken["/dev/console"]; ok {
		if err := b.mount(tty, "/dev/console"); err != nil {
			return fmt.Errorf("/dev/console: %w", err)
		}
	}
	options := []string{"ptmxmode=0666", "mode=0620"}
	if !b.plan.UserNS { // in a user namespace, no such group is mapped
		options = append(options, "gid=5")
	}
	pts, err := b.fresh("devpts", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, options...)
	if err != nil {
		return err
	}
	if err := b.mount(pts, "/dev/pts"); err != nil {
		return err
	}
	shm, err := b.tmpfs(unix.MOUNT_ATTR_NOEXEC, "mode=1777")
	if err != nil {
		return err
	}
	if err := b.mount(shm, "/dev/shm"); err != nil {
		return err
	}
	for at, to := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0",
		"stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := unix.Symlinkat(to, dev, at); err != nil {
			return fmt.Errorf("/dev/%s: %w", at, err)
		}
	}
	b.toSeal = append(b.toSeal, dev)
	return nil
}

// hiddenOfProc tell of the host, or steer it.
var hiddenOfProc = []string{
	"acpi", "asound", "bus", "fs", "irq", "kallsyms", "kcore", "keys", "key-users", "kmsg", "kpagecgroup", "kpagecount",
	"kpageflags", "latency_stats", "sched_debug", "scsi", "slabinfo", "sysrq-trigger", "timer_list", "timer_stats", "vmallocinfo",
}

// makeProc mounts the PID namespace's own /proc, read-only, in which only the
// workload's processes can be seen: the guard is not one of them.
func (b *builder) makeProc() error {
	attr := unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_RDONLY
	proc, err := b.fresh("proc", attr, "hidepid=ptraceable") // Linux 5.8
	if errors.Is(err, unix.EINVAL) {
		proc, err = b.fresh("proc", attr, "hidepid=2")
	}
	if err != nil {
		return err
	}
	if err := b.mount(proc, "/proc"); err != nil {
		return err
	}
	for _, name := range hiddenOfProc {
		var st unix.Stat_t
		if err := unix.Fstatat(proc, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			continue // not every kernel has it
		}
		cover, err := b.empty(st.Mode&unix.S_IFMT == unix.S_IFDIR)
		if err != nil {
			return err
		}
		if err := b.mount(cover, "/proc/"+name); err != nil {
			return fmt.Errorf("/proc/%s: %w", name, err)
		}
	}
	return nil
}
