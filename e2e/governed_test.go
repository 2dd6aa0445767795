//go:build linux

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// This file is the only one that knows what writ's commands print.

// writ runs a command of writ's to its end as the place's user.
func (p *place) writ(args ...string) outcome {
	p.t.Helper()
	return p.tool(binary(p.t, "writ"), args...)
}

func (p *place) tool(path string, args ...string) outcome {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env = p.home, p.environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		p.t.Fatalf("%s %q: %v", filepath.Base(path), args, err)
	}
	return outcome{exitCode(cmd.ProcessState), stdout.String(), stderr.String()}
}

// must runs a command of writ's that has to work, and returns what it printed.
func (p *place) must(args ...string) string {
	p.t.Helper()
	o := p.writ(args...)
	if o.code != 0 {
		p.t.Fatalf("writ %q: %v", args, o)
	}
	return o.stdout
}

// execution is one line of `writ ps`.
type execution struct {
	ID    string `json:"id"`
	Phase string `json:"phase"`
	Grant string `json:"grant_id"`
	Tier  string `json:"tier"`
}

// ps lists the executions that are alive or, with all, every one.
func (p *place) ps(all bool) (list []execution) {
	p.t.Helper()
	args := []string{"ps", "-o", "json"}
	if all {
		args = append(args, "--all")
	}
	text := p.must(args...)
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		p.t.Fatalf("writ ps: %v in %s", err, text)
	}
	return list
}

// running waits until the place's only live execution runs.
func (p *place) running() (found execution) {
	p.t.Helper()
	p.await("the execution to run", func() bool {
		for _, e := range p.ps(false) {
			if e.Phase == "running" {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

// executions returns the IDs of all executions of the place, from its state
// directory.
func (p *place) executions() (ids []string) {
	p.t.Helper()
	entries, err := os.ReadDir(filepath.Join(p.state, "executions"))
	if err != nil && !os.IsNotExist(err) {
		p.t.Fatal(err)
	}
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids
}

// last returns the ID of the newest execution: IDs sort by time.
func (p *place) last() string {
	p.t.Helper()
	ids := p.executions()
	if len(ids) == 0 {
		p.t.Fatal("the state directory holds no execution")
	}
	return ids[len(ids)-1]
}

// denial is a denied action as the evidence has it.
type denial struct {
	Kind     string // exec, connect, open
	Resource string // path, or address with port
	Reason   string
}

// denials reads the denied actions of an execution from `writ events`.
func (p *place) denials(id string) (list []denial) {
	p.t.Helper()
	actions := map[float64]map[string]any{}
	for _, e := range p.events(id) {
		if a, ok := find(e, "action").(map[string]any); ok {
			if n, ok := a["number"].(float64); ok {
				actions[n] = a
			}
		}
		ruling, ok := find(e, "ruling").(map[string]any)
		if !ok {
			continue
		}
		decision, _ := ruling["decision"].(map[string]any)
		number, _ := ruling["action"].(float64)
		action := actions[number]
		if allow, _ := decision["allow"].(bool); allow || action == nil {
			continue
		}
		resource, _ := action["resource"].(map[string]any)
		d := denial{Kind: fmt.Sprint(action["kind"]), Resource: fmt.Sprint(resource["id"]), Reason: fmt.Sprint(decision["reason"])}
		if port, ok := resource["port"].(float64); ok {
			d.Resource += ":" + strconv.Itoa(int(port))
		}
		list = append(list, d)
	}
	return list
}

// events returns the lines of `writ events`.
func (p *place) events(id string) (list []map[string]any) {
	p.t.Helper()
	sc := bufio.NewScanner(strings.NewReader(p.must("events", id, "-o", "jsonl")))
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		var line map[string]any
		if err := json.Unmarshal(sc.Bytes(), &line); err != nil {
			p.t.Fatalf("writ events: %v in %s", err, sc.Text())
		}
		list = append(list, line)
	}
	if err := sc.Err(); err != nil {
		p.t.Fatal(err)
	}
	return list
}

// find returns the first object or list called key in value, however deep.
func find(value any, key string) any {
	switch v := value.(type) {
	case map[string]any:
		if found, ok := v[key]; ok {
			switch found.(type) {
			case map[string]any, []any:
				return found
			}
		}
		for _, inner := range v {
			if found := find(inner, key); found != nil {
				return found
			}
		}
	case []any:
		for _, inner := range v {
			if found := find(inner, key); found != nil {
				return found
			}
		}
	}
	return nil
}

// verify wants the evidence of an execution to convince writ and the separate
// verifier, and its replay to give the same.
func (p *place) verify(id string) {
	p.t.Helper()
	p.must("evidence", "verify", id)
	p.must("replay", id)
	o := p.tool(binary(p.t, "writ-verify"), "--trust", filepath.Join(p.state, "trust"), filepath.Join(p.state, "executions", id, "log"))
	if o.code != 0 || !strings.Contains(o.stdout, "VALID") {
		p.t.Errorf("writ-verify of %s: %v", id, o)
	}
}

// checkNothingLeft wants every execution of the place to be over, with valid
// evidence and without leaving a process, a cgroup or a mount.
func (p *place) checkNothingLeft() {
	p.t.Helper()
	limit := time.Now().Add(patience)
	for strays := descendants(); len(strays) > 0; strays = descendants() {
		if time.Now().After(limit) {
			p.t.Errorf("processes left running: %v", strays)
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	reap()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		p.t.Fatal(err)
	}
	if strings.Contains(string(mounts), filepath.Dir(p.state)) {
		p.t.Errorf("mounts left:\n%s", mounts)
	}
	for _, id := range p.executions() {
		for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
			if dir := filepath.Join(mount, "writ", id); exists(dir) {
				p.t.Errorf("cgroup left: %s", dir)
			}
		}
		p.verify(id)
	}
}

// reap buries the dead that became ours. It is for when no command of the
// tests' own is running: it would take its exit code away.
func reap() {
	for {
		if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
			return
		}
	}
}

// living is a process below that of the tests.
type living struct {
	pid     int
	state   string   // the letter of /proc/PID/stat
	cmdline []string // empty while it is being replaced
}

func (l living) String() string { return fmt.Sprintf("%d %s %q", l.pid, l.state, l.cmdline) }

// descendants returns all processes below that of the tests, except the dead.
func descendants() (list []living) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return []living{{state: err.Error()}}
	}
	children := map[int][]int{}
	state := map[int]string{}
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], child)
		state[child] = fields[0]
	}
	queue := children[os.Getpid()]
	for len(queue) > 0 {
		child := queue[0]
		queue = append(queue[1:], children[child]...)
		if state[child] == "Z" || state[child] == "X" {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(child), "cmdline"))
		words := strings.FieldsFunc(string(cmdline), func(r rune) bool { return r == 0 })
		list = append(list, living{child, state[child], words})
	}
	return list
}
