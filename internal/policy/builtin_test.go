package policy

import (
	"testing"
	"time"

	"github.com/writ-run/writ/internal/model"
)

func TestBuiltinClaims(t *testing.T) {
	l := load(t, Builtin()...)
	allowed := []model.Request{
		lifeRequest(model.ActionStart), lifeRequest(model.ActionContinue),
		execRequest("/usr/bin/git", "git"), execRequest("/home/me/project/run.sh"), execRequest("/tmp/a.out"), execRequest("/home/agent/.local/bin/x"),
		openRequest("/usr/lib/libc.so", model.AccessRead), openRequest("/usr/bin/git", model.AccessExecute), openRequest("/usr", model.AccessRead),
		openRequest("/home/me/project", model.AccessRead), openRequest("/home/me/project/a", model.AccessWrite), openRequest("/home/me/project/a", model.AccessExecute),
		openRequest("/tmp/x", model.AccessWrite), openRequest("/tmp/x", model.AccessExecute), openRequest("/home/agent/.cache/x", model.AccessWrite),
		hostRequest("127.0.0.1", 8080), hostRequest("127.8.9.1", 1), hostRequest("::1", 22), hostRequest("0.0.0.0", 80), hostRequest("::ffff:127.0.0.1", 80),
		unixRequest("/tmp/x.sock"), unixRequest("/home/me/project/x.sock"), unixRequest("/home/agent/x.sock"),
	}
	for _, r := range allowed {
		if d := l.Decide(r); !d.Allow || len(d.Obligations) > 0 {
			t.Errorf("%s %s %s: %+v", r.Kind, r.Resource.ID, r.Resource.Access, d)
		}
	}
	kinds := allKinds()
	denied := []model.Request{
		execRequest("/opt/tool"), execRequest("/home/me/other/x"), execRequest("/proc/self/exe"), execRequest("/dev/shm/x"),
		openRequest("/usr/bin/git", model.AccessWrite), openRequest("/srv/data", model.AccessRead), openRequest("/home/me/.ssh/id_ed25519", model.AccessRead), openRequest("/", model.AccessRead),
		openRequest("/home/me", model.AccessRead), openRequest("/var/lib/writ", model.AccessRead),
		hostRequest("10.0.0.1", 443), hostRequest("169.254.169.254", 80), hostRequest("example.org", 443), hostRequest("localhost", 80), hostRequest("fe80::1", 80), hostRequest("::ffff:10.0.0.1", 80),
		unixRequest("/run/docker.sock"), unixRequest("/usr/x.sock"), unixRequest("/var/run/dbus/system_bus_socket"),
		kinds[9], kinds[10], kinds[11], kinds[12],
	}
	for _, r := range denied {
		if d := l.Decide(r); d.Allow || d.Reason != model.ReasonNoPermit {
			t.Errorf("%s %s: %+v", r.Kind, r.Resource.ID, d)
		}
	}
}

func TestBuiltinResponses(t *testing.T) {
	l := load(t, Builtin()...)
	losses := map[model.Condition]struct {
		response model.Response
		grace    time.Duration
	}{
		model.Scope: {model.RespondTerminate, 0}, model.Policy: {model.RespondPause, 10 * time.Second}, model.Authorization: {model.RespondTerminate, 0},
		model.Integrity: {model.RespondTerminate, 0}, model.Cryptography: {model.RespondTerminate, 0}, model.Environment: {model.RespondTerminate, 0},
		model.Governance: {model.RespondPause, 10 * time.Minute},
	}
	for c, want := range losses {
		if d := l.Decide(lose(lifeRequest(model.ActionContinue), c, "test")); d.Allow || d.Response != want.response || d.Grace != int64(want.grace) {
			t.Errorf("%s lost: %+v", c, d)
		}
		if d := l.Decide(stale(lifeRequest(model.ActionContinue), c)); d.Allow || d.Response != model.RespondPause || d.Grace != int64(10*time.Second) {
			t.Errorf("%s stale: %+v", c, d)
		}
	}
	halted := lose(lifeRequest(model.ActionContinue), model.Governance, "halted")
	if d := l.Decide(lose(halted, model.Authorization, "revoked")); d.Response != model.RespondTerminate || d.Grace != 0 {
		t.Errorf("halted and revoked: %+v", d)
	}
	if d := l.Decide(stale(halted, model.Integrity)); d.Response != model.RespondPause || d.Grace != int64(10*time.Second) {
		t.Errorf("halted and stale: %+v", d)
	}
}

// The system's secrets are in the zone system, and not to be read.
func TestBuiltinHidesTheSystemsSecrets(t *testing.T) {
	l := load(t, Builtin()...)
	for _, p := range []string{"/etc/shadow", "/etc/gshadow-", "/etc/sudoers.d/x", "/etc/ssh/ssh_host_ed25519_key", "/etc/ssl/private/key.pem"} {
		r := openRequest(p, model.AccessRead)
		r.Resource.Zones = []model.Zone{model.ZoneSystem}
		if d := l.Decide(r); d.Allow || d.Reason != model.ReasonForbidden {
			t.Errorf("%s: %+v", p, d)
		}
	}
}
