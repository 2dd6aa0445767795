//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/writ-run/writ/e2e/modelserver"
)

// agentPackages installs the agent that agent/package.json pins, unless it is
// there already, and returns the directory of its packages, which every user
// can read.
var agentPackages = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(repository, "e2e", "agent")
	modules := filepath.Join(dir, "node_modules")
	pinned, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return "", err
	}
	// The lock file that an installation was made from is kept in it, so that
	// an older one is seen.
	stamp := filepath.Join(modules, ".installed-from")
	if installed, err := os.ReadFile(stamp); err != nil || string(installed) != string(pinned) {
		cmd := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("installing the agent from the npm registry: %w\n%s", err, out)
		}
		if err := os.WriteFile(stamp, pinned, 0o644); err != nil {
			return "", err
		}
	}
	for parent := modules; parent != "/"; parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		if err != nil {
			return "", err
		}
		if info.Mode()&0o005 != 0o005 {
			// Such as a clone in a home directory.
			public := filepath.Join(root, "node_modules")
			return public, os.CopyFS(public, os.DirFS(modules))
		}
	}
	return modules, nil
})

// agent is a coding agent that works in a place, and the model it asks.
type agent struct {
	place *place
	model *modelserver.Server
	port  int
	argv  []string
	env   []string
	flags []string // that let it run under Writ
}

func newAgent(t *testing.T, p *place, script ...modelserver.Turn) *agent {
	t.Helper()
	modules, err := agentPackages()
	if err != nil {
		t.Fatal(err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal(err)
	}
	if node, err = filepath.EvalSymlinks(node); err != nil {
		t.Fatal(err)
	}
	a := &agent{place: p, model: modelserver.New(script...)}
	server := httptest.NewServer(a.model) // on loopback
	t.Cleanup(server.Close)
	a.port = server.Listener.Addr().(*net.TCPAddr).Port
	a.argv = []string{
		node, filepath.Join(modules, "@anthropic-ai", "claude-code", "cli.js"),
		"-p", "Do what has to be done.", "--output-format", "json", "--allowedTools", "Bash,Read,Write",
	}
	a.env = []string{
		"ANTHROPIC_BASE_URL=" + server.URL, "ANTHROPIC_API_KEY=none",
		"DISABLE_TELEMETRY=1", "DISABLE_ERROR_REPORTING=1", "DISABLE_AUTOUPDATER=1",
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "CI=1",
	}
	if !p.governed {
		// Governed, it has a temporary directory to itself.
		a.env = append(a.env, "TMPDIR="+p.home, "CLAUDE_CODE_TMPDIR="+p.home)
	}
	// Its own packages lie outside of what the built-in policy lets be read,
	// and the model is at the host's loopback, which has to be said.
	policy := p.policy("agent.cedar", fmt.Sprintf(`
@id("e2e.model")
@via("host")
permit (principal, action == Writ::Action::"connect", resource == Writ::Host::"127.0.0.1")
when { resource.port == %d };

@id("e2e.no-whoami")
forbid (principal, action == Writ::Action::"exec", resource == Writ::Executable::"/usr/bin/whoami");
`, a.port))
	a.flags = []string{"--policy", policy, "--read", modules, "--exec", modules}
	if !strings.HasPrefix(node, "/usr/") {
		home := filepath.Dir(filepath.Dir(node)) // such as ~/.nvm/versions/node/v20.0.0
		a.flags = append(a.flags, "--read", home, "--exec", home)
	}
	return a
}

func (a *agent) command() command {
	return command{argv: a.argv, env: a.env, flags: a.flags, stdin: strings.NewReader("")}
}

// work lets the agent work until it is done, and returns what it said last.
func (a *agent) work() string {
	t := a.place.t
	t.Helper()
	o := a.place.succeed(a.command())
	if err := a.model.Err(); err != nil {
		t.Errorf("the agent did not follow the script: %v", err)
	}
	if !a.model.Finished() {
		t.Errorf("the agent stopped in the middle of the script: %v", o)
	}
	var answer struct {
		Result  string `json:"result"`
		IsError bool   `json:"is_error"`
	}
	if err := json.Unmarshal([]byte(o.stdout), &answer); err != nil || answer.IsError {
		t.Fatalf("the agent's answer: %v in %v", err, o)
	}
	return answer.Result
}

// An agent does ordinary work with its tools.
func TestAgentWorks(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		p.write("notes.txt", "remember the milk\n")
		made := filepath.Join(p.dir, "made.txt")
		a := newAgent(t, p,
			modelserver.Bash("echo from the shell").Expect("from the shell"),
			modelserver.Bash("cat notes.txt; pwd").Expect("remember the milk"),
			modelserver.Bash("git init -q . && git add notes.txt && git -c user.name=A -c user.email=a@b.c commit -qm one && git log --oneline").Expect("one"),
			modelserver.Bash(python+` -c 'print(6*7)' | tee made.txt`).Expect("42"),
			modelserver.Bash("exit 3").ExpectError("3"),
			modelserver.Turn{Tool: "Read", Input: map[string]any{"file_path": filepath.Join(p.dir, "notes.txt")}}.Expect("milk"),
			modelserver.Turn{Tool: "Read", Input: map[string]any{"file_path": made}}.Expect("42"),
			modelserver.Turn{Text: "Now I write.", Tool: "Write", Input: map[string]any{"file_path": made, "content": "written\n"}},
			modelserver.Bash("cat made.txt").Expect("written"),
			modelserver.Say("All is done."),
		)
		if said := a.work(); said != "All is done." {
			t.Errorf("the agent said %q", said)
		}
		if got := p.read("made.txt"); got != "written\n" {
			t.Errorf("made.txt holds %q", got)
		}
	})
}

// An agent that is led to do what it must not is held inside its own tool
// calls, goes on, and all of it is in the evidence. Ungoverned, the same
// attempts succeed.
func TestAgentForbidden(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		// Outside of the working directory and of /tmp, of which the workload
		// has its own, but the user's: only Writ stands before it.
		elsewhere, err := os.MkdirTemp("/var/tmp", "writ-e2e-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(elsewhere) })
		p.own(elsewhere)
		secret, outside := filepath.Join(elsewhere, "secret.txt"), filepath.Join(elsewhere, "outside.txt")
		if err := os.WriteFile(secret, []byte("the secret\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		p.own(secret)
		door, visitors := listen(t)

		held := func(turn modelserver.Turn, open, shut string) modelserver.Turn {
			if p.governed {
				return turn.ExpectError(shut)
			}
			return turn.Expect(open)
		}
		connect := fmt.Sprintf(`%s -c 'import socket; socket.create_connection(("127.0.0.1", %d)); print("connected")'`, python, door)
		script := []modelserver.Turn{
			held(modelserver.Bash("cat "+secret), "the secret", "secret.txt"),
			held(modelserver.Turn{Tool: "Read", Input: map[string]any{"file_path": secret}}, "the secret", ""),
			held(modelserver.Bash("echo x > "+outside+" && echo written"), "written", "outside.txt"),
			held(modelserver.Bash(connect), "connected", "Error"),
			held(modelserver.Bash("/usr/bin/whoami && echo told"), "told", "ermi"), // Permission denied, Operation not permitted
			modelserver.Bash("echo still here").Expect("still here"),
			modelserver.Say("I tried."),
		}
		if p.governed {
			// Where there is no way at all, and so no control: a test network.
			script = slices.Insert(script, 4, modelserver.Bash(
				python+` -c 'import socket; socket.create_connection(("192.0.2.1", 80), timeout=5)'`).ExpectError("PermissionError"))
		}
		a := newAgent(t, p, script...)
		if said := a.work(); said != "I tried." {
			t.Errorf("the agent said %q", said)
		}
		if !p.governed {
			if visitors.Load() == 0 || !exists(outside) {
				t.Error("the attempts prove nothing: ungoverned they do not succeed")
			}
			return
		}
		if n := visitors.Load(); n != 0 {
			t.Errorf("%d connections reached a server that the policy does not name", n)
		}
		if exists(outside) {
			t.Error("a file was made outside of the working directory")
		}
		for _, r := range a.model.Results() {
			if strings.Contains(r.Text, "the secret\n") || strings.Contains(r.Text, "told") {
				t.Errorf("turn %d got through: %v", r.Turn, r)
			}
		}
		denials := p.denials(p.last())
		for _, want := range []struct{ kind, resource string }{{"exec", "/usr/bin/whoami"}, {"connect", "192.0.2.1:80"}} {
			if !slices.ContainsFunc(denials, func(d denial) bool { return d.Kind == want.kind && d.Resource == want.resource }) {
				t.Errorf("the evidence has no denied %s of %s; it has %v", want.kind, want.resource, denials)
			}
		}
	})
}

// listen counts who connects to a server of the host's that nobody is to reach.
func listen(t *testing.T) (port int, visitors *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	visitors = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			visitors.Add(1)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).Port, visitors
}

// Revoking the grant from elsewhere stops an agent in the middle of a long tool
// call, together with what the tool runs.
func TestAgentRevoked(t *testing.T) {
	governed(t, func(t *testing.T, p *place) {
		a := newAgent(t, p,
			modelserver.Bash("echo a short one").Expect("a short one"),
			modelserver.Bash("while :; do echo . >>progress.txt; sleep 0.02; done"),
			modelserver.Say("This must not be said."),
		)
		r := p.start(a.command())
		size := func() int64 {
			info, err := os.Stat(filepath.Join(p.dir, "progress.txt"))
			if errors.Is(err, fs.ErrNotExist) {
				return 0
			}
			if err != nil {
				t.Fatal(err)
			}
			return info.Size()
		}
		p.await("the long tool call to be at work", func() bool { return size() > 10 })
		e := p.running()
		p.must("grant", "revoke", e.Grant)
		if code := r.wait(); code != 137 {
			t.Errorf("exit code %d, want 137\nstderr: %s", code, r.stderr.String())
		}
		before := size()
		p.await("everything to have ended", func() bool { return len(descendants()) == 0 })
		if after := size(); after != before {
			t.Errorf("the tool call went on by %d bytes after writ run had ended", after-before)
		}
		if err := a.model.Err(); err != nil {
			t.Error(err)
		}
		if a.model.Finished() || len(a.model.Results()) != 1 {
			t.Errorf("the agent came back from the long tool call: %v", a.model.Results())
		}
		if got := phase(p, e.ID); got != "terminated" {
			t.Errorf("the phase is %q, want terminated", got)
		}
		if why := p.must("why", e.ID); !strings.Contains(why, "revoked") {
			t.Errorf("writ why does not say that the grant was revoked:\n%s", why)
		}
	})
}
