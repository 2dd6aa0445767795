package kernel

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/writ-run/writ/internal/model"
)

func FuzzParseHead(f *testing.F) {
	for _, s := range []string{"", "#", "#!", "#!\n", "#! \t\n", "#!/bin/sh", "#!/bin/sh -e\n", "#!/bin/sh\t -a b \t\n", "#!a\x00b c\n",
		"#!" + strings.Repeat("x", 300), "#!" + strings.Repeat(" ", 253) + "x\n", "#!x" + strings.Repeat(" ", 300), "#! \x00\n", "\x7fELF"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		head := b[:min(len(b), headSize)]
		before := bytes.Clone(head)
		kind, s := parseHead(head)
		if !bytes.Equal(before, head) {
			t.Fatal("the input was changed")
		}
		if kind != formatScript {
			if s != (script{}) {
				t.Fatalf("%+v of what is no script", s)
			}
			return
		}
		if strings.ContainsAny(s.interpreter, " \t\n\x00") || strings.ContainsAny(s.argument, "\n\x00") || !s.hasArgument && s.argument != "" {
			t.Fatalf("%q: %+v", head, s)
		}
		if !bytes.Contains(head, []byte(s.interpreter)) || !bytes.Contains(head, []byte(s.argument)) {
			t.Fatalf("%q: %+v is not in it", head, s)
		}
	})
}

// What the kernel makes of first lines (fs/binfmt_script.c), tried on Linux 6.18.
func TestParseHead(t *testing.T) {
	for in, want := range map[string]script{
		"#!/bin/sh\n":                      {"/bin/sh", "", false},
		"#! \t/bin/sh -e \t\n":             {"/bin/sh", "-e", true},
		"#!/a  b c\td\nrest":               {"/a", "b c\td", true},
		"#!/bin/sh":                        {"/bin/sh", "", false}, // the file ends: NULs follow
		"#!/bin/sh\x00x\n":                 {"/bin/sh", "", false},
		"#!/bin/sh a\x00b\n":               {"/bin/sh", "a", true},
		"#!/bin/sh ":                       {"/bin/sh", "", true}, // the NUL after it is no blank
		"#!/i " + strings.Repeat("x", 300): {"/i", strings.Repeat("x", 250), true},
	} {
		kind, got := parseHead([]byte(in)[:min(len(in), headSize)])
		if kind != formatScript || got != want {
			t.Errorf("%q: %v %+v", in, kind, got)
		}
	}
	for _, in := range []string{"", "#", "#!\n", "#! \t \n", "#!" + strings.Repeat("x", 300), "!#/bin/sh\n", "#!" + strings.Repeat(" ", 254)} {
		if kind, s := parseHead([]byte(in)[:min(len(in), headSize)]); kind != formatUnknown {
			t.Errorf("%q: %v %+v", in, kind, s)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	family := func(n uint16) []byte { return []byte{byte(n), byte(n >> 8)} }
	f.Add([]byte{})
	f.Add(append(family(unix.AF_INET), make([]byte, 14)...))
	f.Add(append(family(unix.AF_INET6), make([]byte, 22)...))
	f.Add(append(family(unix.AF_INET6), make([]byte, 26)...))
	f.Add(append(family(unix.AF_UNIX), "/run/x\x00y"...))
	f.Add(append(family(unix.AF_UNIX), "\x00name"...))
	f.Add(append(family(unix.AF_UNIX), bytes.Repeat([]byte("x"), 108)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxSockaddr {
			return
		}
		a, err := parseAddress(b)
		if err != nil {
			return
		}
		switch a.family {
		case unix.AF_INET, unix.AF_INET6:
			ip := a.ip.Addr()
			if !ip.IsValid() || ip.Is4In6() || ip.IsUnspecified() || ip.Zone() != "" {
				t.Fatalf("%x: %v", b, ip)
			}
		case unix.AF_UNIX:
			if a.named == (a.path != "") || strings.Contains(a.path, "\x00") || len(a.path) > 108 {
				t.Fatalf("%x: %+v", b, a)
			}
		}
	})
}

func FuzzEscape(f *testing.F) {
	f.Add("a\\x00", "a\x00")
	f.Add("\xff", `\xff`)
	f.Add("ü\u2028", "")
	f.Fuzz(func(t *testing.T, a, b string) {
		ea, eb := escape(a), escape(b)
		if !utf8.ValidString(ea) || strings.ContainsAny(ea, "\x00\n\x1b") {
			t.Fatalf("%q: %q", a, ea)
		}
		if a != b && ea == eb {
			t.Fatalf("%q and %q are both %q", a, b, ea)
		}
	})
}

func FuzzArguments(f *testing.F) {
	f.Add([]byte("a\x00b\x00"), false)
	f.Add(bytes.Repeat([]byte("x\xff\x00"), 100), true)
	f.Add(bytes.Repeat([]byte("é"), 4000), true)
	f.Fuzz(func(t *testing.T, b []byte, cut bool) {
		a := arguments{raw: bytes.Split(b, []byte{0}), cut: cut}
		args, _ := a.forModel()
		action := model.Action{Kind: model.ActionExec, Resource: model.Resource{Kind: model.ResourceExecutable, ID: "/x"}, Args: args}
		if !action.WellFormed() {
			t.Fatalf("%q", args)
		}
		cmdline := append(bytes.Clone(b), 0)
		if !a.seenIn(cmdline) {
			t.Fatalf("%q does not see itself", b)
		}
		if a.seenIn(append(cmdline, "more\x00"...)) != cut {
			t.Fatalf("%q with more arguments", b)
		}
		if len(b) > 0 {
			other := bytes.Clone(cmdline)
			other[0] ^= 1
			if a.seenIn(other) {
				t.Fatalf("%q and %q are taken for the same", b, other)
			}
		}
	})
}
