package kernel

import "bytes"

// headSize is how much of a file the kernel looks at to tell its format
// (BINPRM_BUF_SIZE).
const headSize = 256

// format is what a file is to exec.
type format int

const (
	formatUnknown format = iota // the kernel says ENOEXEC, unless binfmt_misc knows it
	formatELF
	formatScript
)

// script is what the first line of a script names.
type script struct {
	interpreter string
	argument    string // with hasArgument; it may be empty
	hasArgument bool
}

// parseHead tells a file's format from its first bytes, headSize of them or
// the whole file, as the kernel does (fs/binfmt_script.c).
func parseHead(head []byte) (format, script) {
	if elfForThisHost(head) {
		return formatELF, script{}
	}
	if len(head) < 2 || head[0] != '#' || head[1] != '!' {
		return formatUnknown, script{}
	}
	// The kernel's buffer is filled up with NULs, and its last byte never counts.
	buf := make([]byte, headSize)
	copy(buf, head)
	end := headSize - 1
	// strnchr stops at a NUL.
	line := buf
	if nul := bytes.IndexByte(buf, 0); nul >= 0 {
		line = buf[:nul]
	}
	if newline := bytes.IndexByte(line, '\n'); newline >= 0 {
		end = newline
	} else {
		name := skipBlanks(buf, 2, end)
		if name < 0 {
			return formatUnknown, script{}
		}
		if terminator(buf, name, end) < 0 {
			return formatUnknown, script{} // the name of the interpreter may be cut
		}
	}
	for blank(buf[end-1]) {
		end--
	}
	name := skipBlanks(buf, 2, end)
	if name < 0 || name == end {
		return formatUnknown, script{}
	}
	var s script
	argument := -1
	separator := terminator(buf, name, end)
	if separator >= 0 && buf[separator] != 0 {
		argument = skipBlanks(buf, separator, end)
	}
	buf[end] = 0
	if argument >= 0 {
		buf[separator] = 0
		s.argument, s.hasArgument = cString(buf[argument:]), true
	}
	s.interpreter = cString(buf[name:])
	return formatScript, s
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// skipBlanks returns the first index from first to last, inclusive, that is no
// blank, or -1.
func skipBlanks(buf []byte, first, last int) int {
	for ; first <= last; first++ {
		if !blank(buf[first]) {
			return first
		}
	}
	return -1
}

// terminator returns the first index from first to last, inclusive, that is a
// blank or a NUL, or -1.
func terminator(buf []byte, first, last int) int {
	for ; first <= last; first++ {
		if blank(buf[first]) || buf[first] == 0 {
			return first
		}
	}
	return -1
}

func cString(b []byte) string {
	if nul := bytes.IndexByte(b, 0); nul >= 0 {
		b = b[:nul]
	}
	return string(b)
}

// rewrite gives the argv with which the kernel runs the interpreter of a
// script: its name, its argument, the script's name, and what was after argv[0].
func (s script) rewrite(a arguments, name string) arguments {
	raw := [][]byte{[]byte(s.interpreter)}
	if s.hasArgument {
		raw = append(raw, []byte(s.argument))
	}
	raw = append(raw, []byte(name))
	if len(a.raw) > 0 {
		raw = append(raw, a.raw[1:]...)
	}
	return arguments{raw: raw, cut: a.cut}
}
