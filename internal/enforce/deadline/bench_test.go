//go:build linux

package deadline

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// BenchmarkPrice tells what the ways of finding a task past its deadline cost a
// system call and a switch between two tasks: of anybody on the host for raw
// tracepoints, of a workload for what is attached to its control group.
func BenchmarkPrice(b *testing.B) {
	for _, way := range []string{"nothing", "workload, as attached", "others, as attached", "sys_enter, of anybody", "sched_switch, of anybody", "counted switches of the workload"} {
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
			case "counted switches of the workload":
				join(b, group)
				if err := os.Remove(k.globalPin(hook{program: k.catcher()})); err != nil {
					b.Fatal(err)
				}
				counted := hook{program: programProgOnCountedSwitch, perf: unix.PERF_COUNT_SW_CONTEXT_SWITCHES, sample: 1}
				for n := range k.attached.online {
					if err := k.attachProcessor(k.attached, counted, n); err != nil {
						b.Fatal(err)
					}
				}
			case "workload, as attached":
				join(b, group)
			case "sys_enter, of anybody":
				raw(b, k, programProgOnCall, "sys_enter")
			case "sched_switch, of anybody":
				// As attached.
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
