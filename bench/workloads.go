//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// write makes a file of the workload.
func (p *place) write(name, text string) error {
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// do runs a command ungoverned, to set up.
func (p *place) do(ctx context.Context, argv ...string) error {
	cmd := exec.CommandContext(ctx, "env", argv...)
	cmd.Dir, cmd.Env = p.dir, p.env
	_, err := output(cmd)
	return err
}

const modulePackages = 24

// makeModule writes a module of packages that use the standard library and
// stand on one of their own, and fills the build cache with the library.
func makeModule(ctx context.Context, p *place) error {
	if err := p.write("go.mod", "module example.test/bench\n\ngo 1.24\n"); err != nil {
		return err
	}
	var main strings.Builder
	main.WriteString("package main\n\nimport (\n\t\"fmt\"\n")
	for i := range modulePackages {
		fmt.Fprintf(&main, "\tp%d \"example.test/bench/p%d\"\n", i, i)
	}
	main.WriteString(")\n\nfunc main() {\n")
	for i := range modulePackages {
		fmt.Fprintf(&main, "\tfmt.Println(p%d.Handle())\n", i)
		if err := p.write(fmt.Sprintf("p%d/p.go", i), packageText(i)); err != nil {
			return err
		}
	}
	main.WriteString("}\n")
	if err := p.write("main.go", main.String()); err != nil {
		return err
	}
	if err := changeModule(p, 0); err != nil {
		return err
	}
	return p.do(ctx, "go", "build", "-o", "out", ".")
}

func packageText(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `package p%d

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"

	"example.test/bench/base"
)

func Handle() string { return fmt.Sprint(base.Run, F0(nil)) }
`, i)
	for f := range 30 {
		fmt.Fprintf(&b, `
type T%[1]d struct {
	Name  string            `+"`json:\"name\"`"+`
	Parts map[string][]int  `+"`json:\"parts\"`"+`
	Next  *T%[1]d
}

func F%[1]d(in []T%[1]d) error {
	sort.Slice(in, func(i, j int) bool { return in[i].Name < in[j].Name })
	for _, t := range in {
		if strings.Contains(t.Name, "x") {
			b, err := json.Marshal(t)
			if err != nil {
				return fmt.Errorf("%%s: %%w", t.Name, err)
			}
			os.Stdout.Write(b)
		}
	}
	return nil
}
`, f)
	}
	return b.String()
}

// changeModule changes the package that all others stand on, so that each run
// compiles all of them anew.
func changeModule(p *place, run int) error {
	return p.write("base/base.go", fmt.Sprintf("package base\n\nconst Run = %d\n", run))
}

// makeRepository commits a few thousand files and writes a script of what
// people do in a repository all day.
func makeRepository(ctx context.Context, p *place) error {
	for i := range 1500 {
		text := strings.Repeat(fmt.Sprintf("line of file %d\n", i), 40)
		if err := p.write(fmt.Sprintf("repo/d%d/e%d/f%d.txt", i%20, i%7, i), text); err != nil {
			return err
		}
	}
	for _, argv := range [][]string{
		{"git", "init", "-q", "-b", "main", "repo"},
		{"git", "-C", "repo", "config", "user.name", "bench"},
		{"git", "-C", "repo", "config", "user.email", "bench@example.test"},
		{"git", "-C", "repo", "config", "gc.auto", "0"},
		{"git", "-C", "repo", "add", "-A"},
		{"git", "-C", "repo", "commit", "-q", "-m", "first"},
	} {
		if err := p.do(ctx, argv...); err != nil {
			return err
		}
	}
	return p.write("git.sh", `set -e
cd repo
git checkout -q main
git reset -q --hard
for n in 1 2 3 4 5 6; do
	git checkout -q -B "topic$n" main
	for d in 1 2 3 4 5; do
		for f in d$d/e1/*.txt; do
			echo "change $n $$" >> "$f"
		done
	done
	git status --porcelain > /dev/null
	git diff > /dev/null
	git add -A
	git commit -q -m "change $n"
	git log --stat -3 > /dev/null
	git grep -c "change $n" > /dev/null
done
git checkout -q main
git merge -q topic6 -m merge
git reset -q --hard HEAD~1
git fsck > /dev/null 2>&1
`)
}

// makePython writes a script that makes, reads, renames and removes files.
func makePython(_ context.Context, p *place) error {
	return p.write("files.py", `import hashlib, os, shutil
root = "files"
shutil.rmtree(root, ignore_errors=True)
for i in range(2000):
    d = os.path.join(root, str(i % 50), str(i % 7))
    os.makedirs(d, exist_ok=True)
    with open(os.path.join(d, "f%d" % i), "w") as f:
        f.write("line %d\n" % i * 50)
for turn in range(6):
    seen = hashlib.sha256()
    for here, _, names in os.walk(root):
        for name in sorted(names):
            path = os.path.join(here, name)
            os.stat(path)
            with open(path, "rb") as f:
                seen.update(f.read())
            if turn == 2:
                os.rename(path, path + ".new")
    print(seen.hexdigest())
shutil.rmtree(root)
`)
}

// makeScript writes a script that runs a thousand short programs.
func makeScript(_ context.Context, p *place) error {
	return p.write("short.sh", `set -e
echo "some text" > text
for n in $(seq 1 250); do
	/bin/true
	cat text > /dev/null
	expr $n + 1 > /dev/null
	sed s/some/other/ text > /dev/null
done
`)
}
