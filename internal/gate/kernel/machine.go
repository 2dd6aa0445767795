package kernel

import (
	"encoding/binary"
	"runtime"

	"golang.org/x/sys/unix"
)

// machine is what depends on the processor.
type machine struct {
	audit uint32   // AUDIT_ARCH_* of native system calls
	elf   []uint16 // e_machine of the programs the kernel runs by itself
	order binary.ByteOrder
}

var machines = map[string]machine{
	"amd64": {unix.AUDIT_ARCH_X86_64, []uint16{62, 3}, binary.LittleEndian},
	"arm64": {unix.AUDIT_ARCH_AARCH64, []uint16{183, 40}, binary.LittleEndian},
}

var thisMachine, machineKnown = machines[runtime.GOARCH]

// elfForThisHost tells whether head starts an ELF program that needs no
// binfmt_misc. ELF for other machines would be run by an emulator that nobody
// decided on.
func elfForThisHost(head []byte) bool {
	if len(head) < 20 || string(head[:4]) != "\x7fELF" {
		return false
	}
	for _, m := range thisMachine.elf {
		if thisMachine.order.Uint16(head[18:]) == m {
			return true
		}
	}
	return false
}

// errnoOf is the errno in a system call's result, 0 for none.
func errnoOf(result int64) unix.Errno {
	if result < 0 && result > -4096 {
		return unix.Errno(-result)
	}
	return 0
}
