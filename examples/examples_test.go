package examples_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/policy"
)

var zones = policy.Zones{System: []string{"/usr", "/etc/ssl"}, Workdir: "/src/app", Tmp: "/tmp", Home: "/home/agent"}

func submission() *model.Submission {
	return &model.Submission{
		Execution: "01HZZZZZZZZZZZZZZZZZZZZZZZ", Boot: "boot", Host: "host", Agent: "agent", Operator: "olga", Argv: []string{"make", "test"}, Dir: "/src/app",
		Executable: model.Resource{Kind: model.ResourceExecutable, ID: "/usr/bin/make"}, Tier: model.TierKernel, GrantID: "grant",
	}
}

// load loads examples beside the built-in policy, as --policy does, or alone.
func load(t *testing.T, alone bool, files ...string) *policy.Loaded {
	t.Helper()
	var sources []policy.Source
	var settings []byte
	if !alone {
		sources = policy.Builtin()
	}
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Ext(f) == ".yaml" {
			settings = content
			continue
		}
		sources = append(sources, policy.Source{Name: f, Text: content})
	}
	b, err := policy.NewBundle(sources, settings)
	if err != nil {
		t.Fatal(err)
	}
	l, err := policy.Load(b)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func request(kind model.ActionKind, r model.Resource) model.Request {
	req := model.Request{Kind: kind, Submission: submission(), Resource: r}
	for i, c := range model.AllConditions() {
		req.Conditions[i] = model.ConditionState{Condition: c, Standing: model.Holds}
	}
	return req
}

func life(kind model.ActionKind) model.Request {
	return request(kind, model.Resource{Kind: model.ResourceExecution, ID: string(submission().Execution)})
}

func lost(c model.Condition) model.Request {
	r := life(model.ActionContinue)
	r.Conditions[c-1].Standing = model.Lost
	return r
}

func exec(p string, args ...string) model.Request {
	r := request(model.ActionExec, model.Resource{Kind: model.ResourceExecutable, ID: p, Zones: zones.Of(p)})
	r.Args = append([]string{filepath.Base(p)}, args...)
	return r
}

func open(p string, access model.Access) model.Request {
	return request(model.ActionOpen, model.Resource{Kind: model.ResourceFile, ID: p, Zones: zones.Of(p), Access: access})
}

func connect(host string, port uint16) model.Request {
	return request(model.ActionConnect, model.Resource{Kind: model.ResourceHost, ID: host, Port: port, Protocol: "tcp"})
}

func socket(p string) model.Request {
	return request(model.ActionConnect, model.Resource{Kind: model.ResourceFile, ID: p, Unix: true, Zones: zones.Of(p)})
}

// claim holds a policy to what it says it does.
func claim(t *testing.T, l *policy.Loaded, allow bool, requests ...model.Request) {
	t.Helper()
	for _, r := range requests {
		if d := l.Decide(r); d.Allow != allow {
			t.Errorf("%s %s %s %v: allowed %v, %s by %v", r.Kind, r.Resource.ID, r.Resource.Access, r.Args, d.Allow, d.Reason, d.Policies)
		}
	}
}

func TestAllowLoopback(t *testing.T) {
	l := load(t, false, "allow-loopback.cedar")
	if d := l.Decide(connect("127.0.0.1", 8080)); !d.Allow || d.Obligation("via") != "host" {
		t.Errorf("%+v", d)
	}
	for _, r := range []model.Request{connect("127.0.0.1", 8081), connect("127.0.0.2", 8080), connect("::1", 8080)} {
		if d := l.Decide(r); d.Obligation("via") != "" {
			t.Errorf("%s:%d leaves its own network: %+v", r.Resource.ID, r.Resource.Port, d)
		}
	}
	claim(t, l, false, connect("10.0.0.1", 8080))
}

func TestNoNetworkGit(t *testing.T) {
	l := load(t, false, "no-network-git.cedar")
	claim(t, l, true, life(model.ActionStart), exec("/usr/bin/git", "status"), exec("/usr/bin/git", "commit", "-m", "x"), exec("/usr/bin/git", "-C", "sub", "rebase"), exec("/usr/bin/make"), socket("/tmp/x.sock"))
	claim(t, l, false, exec("/usr/bin/git", "push"), exec("/usr/bin/git", "-C", "sub", "fetch", "origin"), exec("/usr/lib/git-core/git", "clone", "x"), exec("/usr/lib/git-core/git-remote-https", "origin"), exec("/usr/bin/ssh", "host"),
		connect("127.0.0.1", 80), connect("140.82.121.4", 443), connect("::1", 22))
}

func TestReadonlyReview(t *testing.T) {
	l := load(t, false, "readonly-review.cedar")
	claim(t, l, true, open("/src/app/main.go", model.AccessRead), open("/tmp/x", model.AccessWrite), open("/home/agent/x", model.AccessWrite), exec("/usr/bin/grep", "x"))
	claim(t, l, false, open("/src/app/main.go", model.AccessWrite), open("/src/app", model.AccessWrite), open("/src/app/run.sh", model.AccessExecute), exec("/src/app/run.sh"), socket("/src/app/x.sock"))
	v, err := l.View(zones, submission())
	if err != nil {
		t.Fatal(err)
	}
	if got := v.At("/src/app/deep/er"); got != policy.Read {
		t.Errorf("the working directory is %s", got)
	}
}

func TestTierRequired(t *testing.T) {
	l := load(t, false, "tier-required.cedar")
	start := func(tier model.Tier, operator string, argv ...string) model.Request {
		r := life(model.ActionStart)
		r.Submission.Tier, r.Submission.Operator, r.Submission.Argv = tier, operator, argv
		return r
	}
	claim(t, l, true, start(model.TierKernel, "olga", "make"), start(model.TierKernel, "release", "npm", "publish"))
	claim(t, l, false, start(model.TierUser, "olga", "make"), start(model.TierCooperative, "release", "make"), start(model.TierKernel, "olga", "npm", "publish"), start(model.TierKernel, "olga", "twine", "upload", "x"))
}

func TestBudgeted(t *testing.T) {
	s := load(t, false, "budgeted.yaml").Settings()
	want := model.Settings{
		LeaseLength: int64(time.Second), RenewEvery: int64(200 * time.Millisecond), KillGrace: int64(500 * time.Millisecond), AdmitWithin: int64(10 * time.Second), PauseLimit: int64(time.Hour),
		Budget: model.Budget{Wall: int64(10 * time.Minute), CPU: int64(5 * time.Minute), Memory: 1 << 30, Processes: 100, Actions: 5000},
	}
	if diff := cmp.Diff(want, s.Execution); diff != "" {
		t.Error(diff)
	}
	if d := load(t, false, "budgeted.yaml").Decide(lost(model.Scope)); d.Response != model.RespondTerminate {
		t.Errorf("a spent budget: %+v", d)
	}
}

func TestPauseOnDrift(t *testing.T) {
	l := load(t, true, "pause-on-drift.cedar")
	claim(t, l, true, life(model.ActionStart), life(model.ActionContinue), exec("/usr/bin/make"), exec("/src/app/run"), open("/usr/lib/x", model.AccessRead), open("/usr/lib/x", model.AccessExecute),
		open("/src/app/x", model.AccessWrite), open("/tmp/x", model.AccessWrite), open("/home/agent/x", model.AccessWrite), connect("127.0.0.1", 80))
	claim(t, l, false, open("/usr/lib/x", model.AccessWrite), open("/etc/shadow", model.AccessRead), connect("10.0.0.1", 80), exec("/opt/x"))
	for c, want := range map[model.Condition]model.Response{
		model.Environment: model.RespondPause, model.Policy: model.RespondPause, model.Governance: model.RespondPause,
		model.Scope: model.RespondTerminate, model.Authorization: model.RespondTerminate, model.Integrity: model.RespondTerminate, model.Cryptography: model.RespondTerminate,
	} {
		d := l.Decide(lost(c))
		if d.Allow || d.Response != want || (want == model.RespondPause) != (d.Grace == int64(15*time.Minute)) {
			t.Errorf("%s lost: %+v", c, d)
		}
	}
	both := lost(model.Environment)
	both.Conditions[model.Integrity-1].Standing = model.Stale
	if d := l.Decide(both); d.Response != model.RespondTerminate {
		t.Errorf("drift, and integrity not known: %+v", d)
	}
}

// All of them but the one that stands alone can be used together.
func TestTogether(t *testing.T) {
	load(t, false, "no-network-git.cedar", "readonly-review.cedar", "tier-required.cedar", "budgeted.yaml")
}

// The README lists every example, and nothing else.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile(`\| \[([^\]]+)\]\(([^)]+)\) \|`).FindAllStringSubmatch(string(readme), -1) {
		if m[1] != m[2] {
			t.Errorf("%s leads to %s", m[1], m[2])
		}
		listed = append(listed, m[1])
	}
	var there []string
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext == ".cedar" || ext == ".yaml" {
			there = append(there, e.Name())
		}
	}
	slices.Sort(listed)
	if diff := cmp.Diff(there, listed); diff != "" {
		t.Errorf("the README (+) does not list what is there (-):\n%s", diff)
	}
	for _, f := range there {
		if filepath.Ext(f) == ".cedar" {
			content, _ := os.ReadFile(f)
			if !strings.HasPrefix(string(content), "// ") {
				t.Errorf("%s does not begin by saying what it is for", f)
			}
		}
	}
}
