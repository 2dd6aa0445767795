//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/writ-run/writ/internal/enforce"
	"github.com/writ-run/writ/internal/model"
)

// bench is one run of the benchmark: where its files are and what it found.
type bench struct {
	dir    string // everything it makes; removed at the end
	shared string // a directory in memory, for counters; removed at the end
	bin    string // holds this program, as helper, and the tiny one
	writ   string
	short  bool
	report *report

	part     string // under way
	deadline time.Time
}

// newBench makes the directories and builds what is to be measured.
func newBench(ctx context.Context, o options) (b *bench, err error) {
	b = &bench{short: o.short}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.dir, err = os.MkdirTemp(o.dir, "writ-bench-"); err != nil {
		return nil, err
	}
	if b.dir, err = filepath.EvalSymlinks(b.dir); err != nil {
		return nil, err
	}
	if b.shared, err = os.MkdirTemp("/dev/shm", "writ-bench-"); err != nil {
		// Without it counters are on the disk, whose writing back can hold a
		// workload up for a moment.
		if b.shared, err = os.MkdirTemp(b.dir, "shared-"); err != nil {
			return nil, err
		}
	}
	b.bin = filepath.Join(b.dir, "bin")
	for _, dir := range []string{b.dir, b.bin} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			return nil, err
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(b.helper(), self, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(b.tiny(), tinyProgram(), 0o755); err != nil {
		return nil, err
	}
	b.writ = filepath.Join(b.bin, "writ")
	if o.writ != "" {
		content, err := os.ReadFile(o.writ)
		if err != nil {
			return nil, err
		}
		return b, os.WriteFile(b.writ, content, 0o755)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.writ, "github.com/writ-run/writ/cmd/writ")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building writ (run it inside the module, or give -writ): %w\n%s", err, out)
	}
	return b, nil
}

func (b *bench) helper() string { return filepath.Join(b.bin, "helper") }
func (b *bench) tiny() string   { return filepath.Join(b.bin, "tiny") }

// close removes what was made.
func (b *bench) close() {
	for _, dir := range []string{b.dir, b.shared} {
		if dir != "" {
			_ = os.RemoveAll(dir)
		}
	}
}

// add adds a figure to the report.
func (b *bench) add(f figure) {
	f.Part = b.part
	b.report.Figures = append(b.report.Figures, f)
}

// times picks how often something is repeated.
func (b *bench) times(full, short int) int {
	if b.short {
		return short
	}
	return full
}

// turns counts 0, 1, 2 and so on, for what is repeated: up to most times, and
// at least least, as long as the part of the time lasts that is left to it and
// the others that are to come.
func (b *bench) turns(most, least, others int) iter.Seq[int] {
	end := time.Now().Add(time.Until(b.deadline) / time.Duration(1+others))
	return func(yield func(int) bool) {
		for i := 0; i < most && (i < least || time.Now().Before(end)); i++ {
			if !yield(i) {
				return
			}
		}
	}
}

// tier is what the executions will be held under.
func (b *bench) tier() string {
	if os.Geteuid() == 0 {
		return model.TierKernel.String()
	}
	return model.TierUser.String()
}

// asUser runs the benchmark again as an ordinary user, with what is built.
func (b *bench) asUser(ctx context.Context, o options) error {
	uid, gid, err := ordinaryUser()
	if err != nil {
		return err
	}
	home := filepath.Join(b.dir, "user")
	if err := os.Mkdir(home, 0o755); err != nil {
		return err
	}
	if err := os.Chown(home, uid, gid); err != nil {
		return err
	}
	args := []string{"-o", o.output, "-writ", b.writ, "-dir", home}
	if o.short {
		args = append(args, "-short")
	}
	if len(o.only) > 0 {
		args = append(args, "-only", strings.Join(o.only, ","))
	}
	cmd := exec.CommandContext(ctx, b.helper(), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Dir, cmd.Stdout, cmd.Stderr = home, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "HOME="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("measuring as user %d: %w", uid, err)
	}
	return nil
}

// ordinaryUser is who called sudo, or else the first ordinary user there is.
func ordinaryUser() (uid, gid int, err error) {
	if uid, err := strconv.Atoi(os.Getenv("SUDO_UID")); err == nil && uid > 0 {
		if gid, err := strconv.Atoi(os.Getenv("SUDO_GID")); err == nil {
			return uid, gid, nil
		}
	}
	text, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(line, ":")
		if len(fields) < 4 {
			continue
		}
		uid, err1 := strconv.Atoi(fields[2])
		gid, err2 := strconv.Atoi(fields[3])
		if err1 == nil && err2 == nil && uid >= 1000 && uid < 60000 {
			return uid, gid, nil
		}
	}
	return 0, 0, errors.New("there is no ordinary user (1000 to 59999) in /etc/passwd to measure as")
}

// workdir makes a new directory for a workload, on the disk.
func (b *bench) workdir(name string) (string, error) {
	dir, err := os.MkdirTemp(b.dir, name+"-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// command is a command under `writ run`.
func (b *bench) command(ctx context.Context, state, dir string, flags []string, argv ...string) *exec.Cmd {
	args := append([]string{"run", "--state", state, "--dir", dir, "--tier", b.tier(), "--exec", b.bin, "--quiet"}, flags...)
	cmd := exec.CommandContext(ctx, b.writ, append(append(args, "--"), argv...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGKILL) }
	return cmd
}

// output runs a command, governed or not, and returns what it printed.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// boottime is the clock of leases.
func boottime() int64 { return enforce.Now() }
