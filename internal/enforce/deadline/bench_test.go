//go:build linux

package deadline

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// BenchmarkPrice tells what the ways of finding a task past its deadline cost a
// system call and a switch between two tasks: of anybody on the host for raw
// tracepoints, of a workload for what is attached to its control group.
func BenchmarkPrice(b *testing.B) {
	for _, way := range []string{"nothing", "sys_enter, others", "sys_enter, workload", "sched_switch, others", "sched_switch, workload", "counted switches, workload"} {
		b.Run(way, func(b *testing.B) {
			k, group := place(b)
			d, err := k.Hold(group)
			if err != nil {
				b.Fatal(err)
			}
			if err := d.Set(now()+3600e9, now()+3600e9); err != nil {
				b.Fatal(err)
			}
			switch way {
			case "nothing":
				if err := errors.Join(os.RemoveAll(k.place()), d.Remove()); err != nil {
					b.Fatal(err)
				}
			case "sys_enter, others", "sys_enter, workload":
				only(b, k)
				raw(b, k, programProgOnCall, "sys_enter")
			case "sched_switch, others", "sched_switch, workload":
				only(b, k)
				raw(b, k, programProgOnSwitch, "sched_switch")
			case "counted switches, workload":
				only(b, k)
				counted := hook{program: programProgOnCountedSwitch, perf: unix.PERF_COUNT_SW_CONTEXT_SWITCHES, sample: 1}
				for n := range k.attached.online {
					if err := k.attachProcessor(k.attached, counted, n); err != nil {
						b.Fatal(err)
					}
				}
			}
			if strings.HasSuffix(way, "workload") {
				join(b, group)
			}
			b.Run("call", func(b *testing.B) {
				for range b.N {
					_, _, _ = unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
				}
			})
			b.Run("switch", switches)
		})
	}
}

// only takes the way away that is in use here.
func only(b *testing.B, k *Kernel) {
	if err := os.Remove(k.globalPin(hook{program: k.catcher()})); err != nil {
		b.Fatal(err)
	}
}

func raw(b *testing.B, k *Kernel, program, point string) {
	p, err := k.program(k.attached, program)
	if err != nil {
		b.Fatal(err)
	}
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: point, Program: p})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
}

// join moves this process into the group until the end.
func join(b *testing.B, group string) {
	if err := os.WriteFile(group+"/cgroup.procs", []byte("0"), 0); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.WriteFile(group+"/../../cgroup.procs", []byte("0"), 0); err != nil {
			b.Error(err)
		}
	})
}

// switches sends a byte to and fro between two threads on one processor.
func switches(b *testing.B) {
	var there, back [2]int
	for _, p := range []*[2]int{&there, &back} {
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			b.Fatal(err)
		}
		defer unix.Close(p[0])
		defer unix.Close(p[1])
	}
	one := func() {
		runtime.LockOSThread()
		var only unix.CPUSet
		only.Set(0)
		if err := unix.SchedSetaffinity(0, &only); err != nil {
			b.Error(err)
		}
	}
	n := b.N
	go func() {
		one() // the thread ends with the goroutine
		buf := make([]byte, 1)
		for range n {
			_, _ = unix.Read(there[0], buf)
			_, _ = unix.Write(back[1], buf)
		}
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		one()
		buf := make([]byte, 1)
		b.ResetTimer()
		for range n {
			_, _ = unix.Write(there[1], buf)
			_, _ = unix.Read(back[0], buf)
		}
	}()
	<-done
}
