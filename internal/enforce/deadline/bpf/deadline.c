// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// What holds a workload to its deadline when nothing of Writ runs any more.
// Each program asks one question: is the current task below a control group
// whose deadline has passed? See doc.go for who attaches what to where.

#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define SIGKILL 9
#define SIGSTOP 19

// The guard freezes at the deadline, which is gentler than a signal. The signal
// comes this much later, where the guard did not.
#define PATIENCE 5000000ULL

// How deep a control group is searched for. The loop ends at the task's own
// group, so depth costs only who is that deep.
#define DEPTH 24

// deadlines holds, by the ID of a workload's control group, the times on
// CLOCK_BOOTTIME in nanoseconds. A group without an entry has no deadline.
struct deadline {
	__u64 stop_at;
	__u64 kill_at;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct deadline);
} deadlines SEC(".maps");

// stopped lists the processes that a program here sent SIGSTOP, so that they
// can be told from those that the workload stopped itself.
struct stop {
	__u64 group;
	__u64 at;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct stop);
} stopped SEC(".maps");

static __always_inline struct deadline *mine(__u64 *group)
{
#pragma clang loop unroll(disable)
	for (int level = 1; level <= DEPTH; level++) {
		__u64 id = bpf_get_current_ancestor_cgroup_id(level);
		struct deadline *d;

		if (!id)
			return 0;
		d = bpf_map_lookup_elem(&deadlines, &id);
		if (d) {
			*group = id;
			return d;
		}
	}
	return 0;
}

static __always_inline int past(void)
{
	__u64 group;
	struct deadline *d = mine(&group);

	return d && bpf_ktime_get_boot_ns() >= d->stop_at;
}

static __always_inline int signal_past(void)
{
	struct stop s = {};
	struct deadline *d = mine(&s.group);
	__u32 process;

	if (!d)
		return 0;
	s.at = bpf_ktime_get_boot_ns();
	if (s.at < d->stop_at + PATIENCE)
		return 0;
	if (s.at >= d->kill_at + PATIENCE) {
		bpf_send_signal(SIGKILL);
		return 0;
	}
	process = bpf_get_current_pid_tgid() >> 32;
	bpf_map_update_elem(&stopped, &process, &s, BPF_ANY);
	bpf_send_signal(SIGSTOP);
	return 0;
}

// A task that runs is seen by the processor clock.
SEC("perf_event")
int on_clock(void *ctx)
{
	return signal_past();
}

// A task that slept through its deadline is seen when it sleeps again: it has
// run for less than a period of the clock then.
SEC("raw_tracepoint/sched_switch")
int on_switch(void *ctx)
{
	return signal_past();
}

// Only to measure other ways: at its first system call, and as an event that
// counts the switches of a control group.
SEC("raw_tracepoint/sys_enter")
int on_call(void *ctx)
{
	return signal_past();
}

SEC("perf_event")
int on_counted_switch(void *ctx)
{
	return signal_past();
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return !past();
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	return !past();
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	return !past();
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	return !past();
}

// A packet is its socket's, whoever is running when it leaves.
SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
#pragma clang loop unroll(disable)
	for (int level = 1; level <= DEPTH; level++) {
		__u64 id = bpf_skb_ancestor_cgroup_id(skb, level);
		struct deadline *d;

		if (!id)
			return 1;
		d = bpf_map_lookup_elem(&deadlines, &id);
		if (d)
			return bpf_ktime_get_boot_ns() < d->stop_at;
	}
	return 1;
}

SEC("lsm/file_open")
int file_open(void *ctx)
{
	return past() ? -EPERM : 0;
}

SEC("lsm/file_permission")
int file_permission(void *ctx)
{
	return past() ? -EPERM : 0;
}

SEC("lsm/bprm_check_security")
int bprm_check(void *ctx)
{
	return past() ? -EPERM : 0;
}

SEC("lsm/task_alloc")
int task_alloc(void *ctx)
{
	return past() ? -EPERM : 0;
}

SEC("lsm/socket_connect")
int socket_connect(void *ctx)
{
	return past() ? -EPERM : 0;
}

SEC("lsm/socket_sendmsg")
int socket_sendmsg(void *ctx)
{
	return past() ? -EPERM : 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
