//go:build linux

package e2e

import (
	_ "embed"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed testdata/git.sh
var gitScript string

//go:embed testdata/work.py
var pythonScript string

// python is Debian's: the first one in the path may be a shell script of a
// version manager's.
const python = "/usr/bin/python3"

func TestGit(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		p.write("git.sh", gitScript)
		o := p.succeed(command{argv: []string{"bash", "git.sh"}})
		const want = "8 commits, 199 files, tree 86aa3be63a94bcfa5359adb078e51bad5d6af98e\n"
		if o.stdout != want {
			t.Errorf("git printed %q, want %q\nstderr: %s", o.stdout, want, o.stderr)
		}
		if files := strings.TrimSpace(p.read("files.txt")); files != "204" {
			t.Errorf("git archive holds %s entries, want 204", files)
		}
	})
}

func TestPython(t *testing.T) {
	const want = `{"database": ["wal", 5000], "files": 304, "processes": [332833500, 8, 8], ` +
		`"signals": ["alarm", "usr1"], "subprocesses": ["100", -15, 5], "temporary": 1, "threads": [1, "ping", "pong"]}` + "\n"
	everywhere(t, func(t *testing.T, p *place) {
		p.write("work.py", pythonScript)
		if o := p.succeed(command{argv: []string{python, "work.py"}}); o.stdout != want {
			t.Errorf("the script printed %s, want %s", o.stdout, want)
		}
	})
}

// A manager of multiprocessing is reached through a unix socket in the
// temporary directory.
func TestPythonUnixSocket(t *testing.T) {
	const script = `
import multiprocessing
def put(d, k): d[k] = k * k
if __name__ == "__main__":
    with multiprocessing.Manager() as m:
        d = m.dict()
        ps = [multiprocessing.Process(target=put, args=(d, k)) for k in range(4)]
        for p in ps: p.start()
        for p in ps: p.join()
        print(sorted(d.items()))
`
	everywhere(t, func(t *testing.T, p *place) {
		p.write("manager.py", script)
		if o := p.succeed(command{argv: []string{python, "manager.py"}}); o.stdout != "[(0, 0), (1, 1), (2, 4), (3, 9)]\n" {
			t.Errorf("the manager held %s", o.stdout)
		}
	})
}

func TestCompileGo(t *testing.T) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSpace(string(goroot))
	everywhere(t, func(t *testing.T, p *place) {
		p.write("mod/go.mod", "module example.com/mod\n\ngo 1.26\n")
		p.write("mod/main.go", `package main

import (
	"os"

	"example.com/mod/sum"
)

func main() { os.Stdout.WriteString(sum.Text(40, 2) + "\n") }
`)
		p.write("mod/sum/sum.go", `// Package sum adds.
package sum

import "strconv"

// Text returns a+b in decimal.
func Text(a, b int) string { return strconv.Itoa(a + b) }
`)
		p.write("mod/sum/sum_test.go", `package sum

import "testing"

func TestText(t *testing.T) {
	if Text(1, 2) != "3" {
		t.Fatal("wrong")
	}
}
`)
		in := func(argv ...string) command {
			return command{
				argv:  []string{"sh", "-c", `cd mod && exec "$@"`, "sh", filepath.Join(root, "bin", "go")},
				flags: []string{"--read", root, "--exec", root},
				env: []string{"GOROOT=" + root, "GOCACHE=" + filepath.Join(p.dir, "cache"), "GOPROXY=off", "GOTOOLCHAIN=local",
					"GOFLAGS=-buildvcs=false", "GOENV=off", "GOTELEMETRY=off", "CGO_ENABLED=0"},
			}.with(argv...)
		}
		p.succeed(in("build", "-o", "../program", "."))
		if o := p.succeed(command{argv: []string{filepath.Join(p.dir, "program")}}); o.stdout != "42\n" {
			t.Errorf("the program compiled printed %q", o.stdout)
		}
		p.succeed(in("vet", "./sum"))
		if testing.Short() {
			return
		}
		if o := p.succeed(in("test", "./sum")); !strings.Contains(o.stdout, "ok") {
			t.Errorf("go test printed %q", o.stdout)
		}
	})
}

func TestCompileC(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		p.write("hello.c", "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 3; }\n")
		p.succeed(command{argv: []string{"gcc", "-O2", "-Wall", "-o", "hello", "hello.c"}})
		if o := p.run(command{argv: []string{"./hello"}}); o.code != 3 || o.stdout != "hello\n" {
			t.Errorf("the program compiled: %v", o)
		}
	})
}

// with returns c with further arguments.
func (c command) with(argv ...string) command {
	c.argv = append(c.argv[:len(c.argv):len(c.argv)], argv...)
	return c
}
