package publish_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/torchwood"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
	"github.com/writ-run/writ/internal/evidence/log"
	"github.com/writ-run/writ/internal/evidence/publish"
	"github.com/writ-run/writ/internal/evidence/quorum"
	"github.com/writ-run/writ/internal/evidence/testlog"
	"github.com/writ-run/writ/internal/evidence/tiles"
	"github.com/writ-run/writ/internal/evidence/verify"
	"github.com/writ-run/writ/internal/evidence/verify/offline"
	"github.com/writ-run/writ/internal/evidence/witness"
)

// site is a host's log with a witness elsewhere.
type site struct {
	t       *testing.T
	dir     string
	setting testlog.Setting
	life    *testlog.Life
	policy  *quorum.Policy
	written int
}

func newSite(t *testing.T) *site {
	dir := filepath.Join(t.TempDir(), "host")
	s := &site{t: t, dir: dir, setting: testlog.Real(t, dir, nil)}
	s.life = testlog.WholeIn(t, s.setting)
	server, err := witness.NewServer(witness.ServerOptions{
		Name: "w.example/a", Key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{5}, 32)), Logs: []string{s.setting.Keys.Log.VKey}, Dir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	at := httptest.NewServer(server)
	t.Cleanup(at.Close)
	s.policy, err = quorum.Parse([]byte("witness w " + server.VKey() + " " + at.URL + "\nquorum w\n"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) log() string { return filepath.Join(s.dir, "log") }

// record writes batches up to n.
func (s *site) record(n int) {
	s.t.Helper()
	l, err := log.Open(s.log(), s.setting.Keys.LogOptions(filepath.Join(s.dir, "second")))
	if err != nil {
		s.t.Fatal(err)
	}
	for ; s.written < min(n, len(s.life.Batches)); s.written++ {
		if _, err := l.Append(s.t.Context(), s.life.Batches[s.written]).Wait(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) step() (publish.State, error) {
	s.t.Helper()
	f, err := publish.New(publish.Options{
		Options: tiles.Options{Log: s.log(), Origin: s.origin(), VKey: s.setting.Keys.Log.VKey, Dir: filepath.Join(s.dir, "published")},
		Policy:  s.policy, Pace: &witness.Pace{},
	})
	if err != nil {
		return publish.State{}, err
	}
	defer f.Close()
	return f.Step(s.t.Context())
}

func (s *site) origin() string {
	return checkpoint.Origin(s.setting.Keys.Log.Signer.Name(), testlog.Execution)
}

func (s *site) verify(open bool, p *quorum.Policy) verify.Result {
	s.t.Helper()
	o := offline.Options(s.setting.Keys.Trust())
	o.Open, o.Quorum = open, p
	var err error
	if o.Checkpoint, err = os.ReadFile(filepath.Join(s.dir, "published", "witnessed")); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	return verify.Log(s.log(), o)
}

// TestPromises follows a log from its first record to its end, and has the
// verifier judge it at each step.
func TestPromises(t *testing.T) {
	s := newSite(t)
	s.record(3)
	if r := s.verify(true, s.policy); r.Verdict != verify.Unverifiable || r.Witnessed != 0 {
		t.Fatalf("%+v", r)
	}
	state, err := s.step()
	if err != nil || state.Witnessed == 0 || state.Witnessed != state.Published || state.Published != state.Recorded {
		t.Fatalf("%+v, %v", state, err)
	}
	if r := s.verify(true, s.policy); r.Verdict != verify.Valid || r.Witnessed != state.Witnessed || len(r.Witnesses) != 1 {
		t.Fatalf("%+v", r)
	}
	s.record(len(s.life.Batches))
	r := s.verify(false, s.policy)
	if r.Verdict != verify.Unverifiable || len(r.Missing) != 1 || r.Witnessed != state.Witnessed {
		t.Fatalf("%+v", r)
	}
	if r := s.verify(false, nil); r.Verdict != verify.Valid {
		t.Fatalf("%+v", r)
	}
	again, err := s.step()
	if err != nil || again.Witnessed <= state.Witnessed || time.Since(again.WitnessedAt) > time.Hour {
		t.Fatalf("%+v, %v", again, err)
	}
	if r := s.verify(false, s.policy); r.Verdict != verify.Valid || r.Witnessed != again.Witnessed {
		t.Fatalf("%+v", r)
	}
	read, err := publish.Read(filepath.Join(s.dir, "published"), s.origin(), s.setting.Keys.Log.VKey, s.policy)
	if err != nil || read.Witnessed != again.Witnessed || read.Published != again.Published {
		t.Fatalf("%+v, %v", read, err)
	}
	// Another witness's cosignature is not there.
	stranger, err := torchwood.NewCosignatureSigner("w.example/b", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{6}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	other, err := quorum.Parse([]byte("witness w " + stranger.Verifier().String() + "\nquorum w\n"))
	if err != nil {
		t.Fatal(err)
	}
	if r := s.verify(false, other); r.Verdict != verify.Unverifiable || r.Witnessed != 0 {
		t.Fatalf("%+v", r)
	}
}

// TestSnapshotRestore: the whole host is set back, log, second place and what
// was published. Nothing on it can tell; the witness can.
func TestSnapshotRestore(t *testing.T) {
	s := newSite(t)
	s.record(3)
	if _, err := s.step(); err != nil {
		t.Fatal(err)
	}
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	if err := os.CopyFS(snapshot, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	at := s.written
	s.record(at + 4)
	if _, err := s.step(); err != nil {
		t.Fatal(err)
	}
	cosigned, err := os.ReadFile(filepath.Join(s.dir, "published", "witnessed"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(s.dir, os.DirFS(snapshot)); err != nil {
		t.Fatal(err)
	}
	s.written = at
	if r := s.verify(true, nil); r.Verdict != verify.Valid {
		t.Fatalf("the host's own files tell of it: %+v", r)
	}
	// The log goes on from there: its own second place agrees.
	s.life = testlog.WholeIn(t, func() testlog.Setting { o := s.setting; o.Wall++; return o }())
	s.record(at + 1)
	if _, err := s.step(); !errors.Is(err, publish.ErrContradicted) || !errors.Is(err, witness.ErrBehind) {
		t.Fatalf("set back: %v", err)
	}
	s.record(len(s.life.Batches))
	if _, err := s.step(); !errors.Is(err, publish.ErrContradicted) || !errors.Is(err, witness.ErrFork) {
		t.Fatalf("gone on past what was seen: %v", err)
	}
	// Whoever has what the witness cosigned can show it, without the witness.
	o := offline.Options(s.setting.Keys.Trust())
	o.Checkpoint, o.Quorum = cosigned, s.policy
	if r := verify.Log(s.log(), o); r.Verdict != verify.Invalid || r.Reason != verify.Forked {
		t.Fatalf("%+v", r)
	}
}
