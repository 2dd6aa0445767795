package log

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
)

// childDir names the log that this process, started by TestKill, writes to.
const childDir = "WRIT_TEST_LOG_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		write(dir)
	}
	os.Exit(m.Run())
}

// write appends until it is killed, and prints how many records are acknowledged.
func write(dir string) {
	var t testing.T
	opts := testOptions(&t)
	opts.SecondPlace, opts.SegmentSize = filepath.Join(dir, "second", "checkpoint"), 1<<14
	l, err := Open(filepath.Join(dir, "log"), opts)
	if err != nil {
		fmt.Println("open:", err)
		os.Exit(1)
	}
	for next := l.Size(); ; {
		n := 1 + int(next%7)
		if _, err := l.Append(t.Context(), testBatch(next, n)).Wait(t.Context()); err != nil {
			fmt.Println("append:", err)
			os.Exit(1)
		}
		next += uint64(n)
		fmt.Println(next)
	}
}

// TestKill kills a process that writes a log, again and again, and finds every
// record that it said was acknowledged.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	opts := testOptions(t)
	opts.SecondPlace, opts.SegmentSize = filepath.Join(dir, "second", "checkpoint"), 1<<14
	rng := rand.New(rand.NewPCG(1, 1))
	kills := 200
	if testing.Short() {
		kills = 10
	}
	for range kills {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childDir+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		acked, lines := uint64(0), bufio.NewScanner(out)
		for left := rng.IntN(40); lines.Scan(); left-- {
			if acked, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
				t.Fatal(lines.Text())
			}
			if left == 0 {
				child.Process.Kill() // and read on what it said before it died
			}
		}
		child.Wait()
		l := mustOpen(t, filepath.Join(dir, "log"), opts)
		if l.Size() < acked {
			t.Fatalf("%d records were acknowledged, %d are left", acked, l.Size())
		}
		size := l.Size()
		mustClose(t, l)
		wantRecords(t, filepath.Join(dir, "log"), size)
	}
}
