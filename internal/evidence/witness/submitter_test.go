package witness_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
	"github.com/writ-run/writ/internal/evidence/quorum"
	"github.com/writ-run/writ/internal/evidence/witness"
)

// hosts answers requests by host name, in the process, so that time can be the
// test's own.
type hosts map[string]http.Handler

func (h hosts) RoundTrip(r *http.Request) (*http.Response, error) {
	handler, ok := h[r.URL.Host]
	if !ok {
		return nil, fmt.Errorf("%s is down", r.URL.Host)
	}
	w := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		handler.ServeHTTP(w, r)
	}()
	select {
	case <-done:
		return w.Result(), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// panel is a log with three witnesses, of which two make a quorum.
type panel struct {
	h       *history
	dirs    []string
	servers []*witness.Server
	hosts   hosts
	policy  *quorum.Policy
}

func newPanel(t testing.TB) *panel {
	t.Helper()
	p := &panel{h: newHistory(t), hosts: hosts{}}
	text := ""
	for i := range byte(3) {
		dir := t.TempDir()
		s := newServer(t, i+1, p.h.vkey, dir, nil)
		p.dirs, p.servers = append(p.dirs, dir), append(p.servers, s)
		host := fmt.Sprintf("w%d", i)
		p.hosts[host] = s
		text += fmt.Sprintf("witness w%d %s http://%s/prefix/../\n", i, s.VKey(), host)
	}
	text = strings.ReplaceAll(text, "prefix/../", "")
	var err error
	if p.policy, err = quorum.Parse([]byte(text + "group g 2 w0 w1 w2\nquorum g\n")); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *panel) submitter(t testing.TB) *witness.Submitter {
	t.Helper()
	s, err := witness.NewSubmitter(witness.SubmitterOptions{Policy: p.policy, Key: p.h.key, Pace: &witness.Pace{}, Client: &http.Client{Transport: p.hosts}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func round(t testing.TB, s *witness.Submitter, p witness.Point, witnessed bool, class error) witness.Round {
	t.Helper()
	r, err := s.Round(t.Context(), p)
	if !errors.Is(err, class) || class == nil && err != nil || r.Witnessed != witnessed {
		t.Fatalf("witnessed %t, %v: %+v", r.Witnessed, err, r.Said)
	}
	return r
}

func TestWitnessed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(t)
		s := p.submitter(t)
		for range 5 {
			point := p.h.grow(7, "a")
			r := round(t, s, point, true, nil)
			c, err := quorum.Open(r.Cosigned, p.h.key, p.policy)
			if err != nil || len(c.By) != 3 || c.Size != point.Size {
				t.Fatalf("%+v, %v", c, err)
			}
		}
		// One that begins anew learns from the witnesses where they are.
		round(t, p.submitter(t), p.h.grow(1, "a"), true, nil)
	})
}

// TestDownAndSlow: a quorum does without those that do not answer, and what is
// missing is no word against the log.
func TestDownAndSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(t)
		slow := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		p.hosts["w0"] = slow
		s := p.submitter(t)
		began := time.Now()
		r := round(t, s, p.h.grow(3, "a"), true, nil)
		if r.Said[0].Cosigned || r.Said[0].Error == "" || time.Since(began) > 10*time.Second {
			t.Fatalf("%+v after %s", r.Said, time.Since(began))
		}
		delete(p.hosts, "w1")
		round(t, s, p.h.grow(3, "a"), false, nil)
		delete(p.hosts, "w2")
		round(t, s, p.h.grow(3, "a"), false, nil)
	})
}

// TestOneASecond: no witness is asked more often, whoever asks.
func TestOneASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(t)
		var mu sync.Mutex
		asked := map[string][]time.Time{}
		for host, next := range p.hosts {
			p.hosts[host] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				asked[host] = append(asked[host], time.Now())
				mu.Unlock()
				next.ServeHTTP(w, r)
			})
		}
		pace := &witness.Pace{Dir: t.TempDir()}
		var all sync.WaitGroup
		point := p.h.grow(3, "a")
		for range 3 {
			s, err := witness.NewSubmitter(witness.SubmitterOptions{Policy: p.policy, Key: p.h.key, Pace: pace, Client: &http.Client{Transport: p.hosts}})
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				for range 3 {
					if _, err := s.Round(t.Context(), point); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		for host, times := range asked {
			if len(times) < 9 {
				t.Errorf("%s was asked %d times", host, len(times))
			}
			for i := 1; i < len(times); i++ {
				if d := times[i].Sub(times[i-1]); d < witness.Apart {
					t.Errorf("%s was asked again after %s", host, d)
				}
			}
		}
	})
}

// TestRollback: the state directory, the log and everything next to it are set
// back to a snapshot. The witnesses remember.
func TestRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(t)
		s := p.submitter(t)
		p.h.grow(5, "a")
		snapshot := p.h.fork()
		old := snapshot.grow(1, "a")
		round(t, s, p.h.grow(20, "a"), true, nil)
		r := round(t, p.submitter(t), old, false, witness.ErrBehind)
		if r.Said[0].Against != "behind" || r.Said[0].Seen != 25 {
			t.Errorf("%+v", r.Said)
		}
		// It goes on from there, and past what was seen: now it is a fork.
		round(t, p.submitter(t), snapshot.grow(30, "b"), false, witness.ErrFork)
		// A single witness that remembers is not a quorum, and is said.
		for i := 1; i < 3; i++ {
			p.forget(t, i)
		}
		r = round(t, p.submitter(t), snapshot.grow(1, "b"), true, nil)
		if r.Said[0].Against != "fork" {
			t.Errorf("%+v", r.Said)
		}
	})
}

// forget makes a witness lose its directory: what no witness may do.
func (p *panel) forget(t testing.TB, i int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dirs[i], "*.checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSplitView: two logs under one origin, each shown to other witnesses. No
// two histories can both get a quorum.
func TestSplitView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(t)
		p.h.grow(5, "a")
		other := p.h.fork()
		left, right := p.h.grow(5, "a"), other.grow(5, "b")
		for i, point := range []witness.Point{left, right} {
			w := post(t, p.servers[i], request(t, 0, point))
			if w.Code != http.StatusOK {
				t.Fatal(w.Code)
			}
		}
		gotLeft, errLeft := p.submitter(t).Round(t.Context(), left)
		gotRight, errRight := p.submitter(t).Round(t.Context(), right)
		if errLeft != nil || !gotLeft.Witnessed {
			t.Errorf("left: %t, %v", gotLeft.Witnessed, errLeft)
		}
		if !errors.Is(errRight, witness.ErrFork) || gotRight.Witnessed {
			t.Errorf("right: %t, %v", gotRight.Witnessed, errRight)
		}
	})
}

// TestLiars: one witness that lies neither stops a log nor makes a quorum, and
// its lies do not get into what is kept.
func TestLiars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		honest := newPanel(t)
		elsewhere := newServer(t, 7, honest.h.vkey, t.TempDir(), nil)
		answer := func(code int, kind, body string) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", kind)
				w.WriteHeader(code)
				fmt.Fprint(w, body)
			})
		}
		sizes := new(atomic.Int64)
		for name, liar := range map[string]http.Handler{
			"more records than there are": answer(409, "text/x.tlog.size", "1000000\n"),
			"another history":             answer(422, "text/plain", "no"),
			"409 without a size":          answer(409, "text/plain", "5\n"),
			"a size that is none":         answer(409, "text/x.tlog.size", "-5\n"),
			"a size that is its own":      answer(409, "text/x.tlog.size", "0\n"),
			"nothing":                     answer(200, "text/plain", ""),
			"not a signature":             answer(200, "text/plain", "— w1.example/a AAAA\n"),
			"too much":                    answer(200, "text/plain", strings.Repeat("x", 1<<20)),
			"a redirect":                  http.RedirectHandler("http://w1/add-checkpoint", http.StatusTemporaryRedirect),
			"another's cosignature":       elsewhere,
			"a terminal's codes":          answer(500, "text/plain", "\x1b[2J"),
			"a changing size": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/x.tlog.size")
				w.WriteHeader(409)
				fmt.Fprintf(w, "%d\n", 1+sizes.Add(1)%3)
			}),
		} {
			p := newPanel(t)
			p.hosts["w0"] = liar
			r := round(t, p.submitter(t), p.h.grow(9, "a"), true, nil)
			c, err := quorum.Open(r.Cosigned, p.h.key, p.policy)
			if err != nil || len(c.By) != 2 || r.Said[0].Cosigned || r.Said[0].Error == "" || strings.Contains(r.Said[0].Error, "\x1b") {
				t.Errorf("%s: %+v, %v, %+v", name, c.By, err, r.Said[0])
			}
			delete(p.hosts, "w1")
			// The one that is down could still make the quorum.
			round(t, p.submitter(t), p.h.grow(1, "a"), false, nil)
		}
	})
}

// TestCrashBetweenPersistAndAnswer: the witness has kept the checkpoint, and its
// answer never comes. The log is told the size, and gets the cosignature.
func TestCrashBetweenPersistAndAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(t)
		s := p.submitter(t)
		round(t, s, p.h.grow(4, "a"), true, nil)
		for i := range p.servers {
			next := p.servers[i]
			p.hosts[fmt.Sprintf("w%d", i)] = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(httptest.NewRecorder(), r) // it is kept
				next.Close()
				panicking(w)
			})
		}
		point := p.h.grow(4, "a")
		if r := round(t, s, point, false, nil); r.Said[0].Error == "" {
			t.Fatalf("%+v", r.Said)
		}
		for i, dir := range p.dirs { // they are started again
			p.hosts[fmt.Sprintf("w%d", i)] = newServer(t, byte(i)+1, p.h.vkey, dir, nil)
		}
		round(t, s, point, true, nil)
		// And before it was kept: nothing is remembered of it.
		round(t, s, p.h.grow(4, "a"), true, nil)
	})
}

// panicking answers what a connection that broke off leaves.
func panicking(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }

// TestFailedWrite: what cannot be kept is not cosigned.
func TestFailedWrite(t *testing.T) {
	if os.Getuid() == 0 {
		t.Log("root writes where nobody may: a directory in the file's place does it")
	}
	h := newHistory(t)
	dir := t.TempDir()
	s := newServer(t, 1, h.vkey, dir, nil)
	first := h.grow(3, "a")
	if w := post(t, s, request(t, 0, first)); w.Code != http.StatusOK {
		t.Fatal(w.Code)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.checkpoint"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	next := h.grow(3, "a")
	temporary := filepath.Join(dir, "."+filepath.Base(files[0])+".tmp")
	if err := os.Mkdir(temporary, 0o700); err != nil {
		t.Fatal(err)
	}
	if w := post(t, s, request(t, 3, next)); w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), dir) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if w := post(t, s, request(t, 3, next)); w.Code != http.StatusOK {
		t.Fatal(w.Code, w.Body)
	}
	// What it has seen is damaged: it signs nothing for the log any more.
	if err := os.WriteFile(files[0], []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if w := post(t, s, request(t, 0, next)); w.Code != http.StatusInternalServerError {
		t.Fatal(w.Code, w.Body)
	}
}

// TestConcurrent is the race of tlog-witness: two requests that both continue
// the last checkpoint. Exactly one wins, and nothing is rolled back.
func TestConcurrent(t *testing.T) {
	h := newHistory(t)
	dir := t.TempDir()
	s := newServer(t, 1, h.vkey, dir, nil)
	known := uint64(0)
	for range 20 {
		one, two := h.fork(), h.fork()
		points := []witness.Point{one.grow(1, "a"), two.grow(2, "a")}
		histories := []*history{one, two}
		codes := make([]int, 2)
		var both sync.WaitGroup
		for i := range points {
			body := request(t, known, points[i])
			both.Go(func() { codes[i] = post(t, s, body).Code })
		}
		both.Wait()
		won := -1
		for i, code := range codes {
			if code == http.StatusOK {
				if won >= 0 {
					t.Fatal("both were cosigned from one size")
				}
				won = i
			} else if code != http.StatusConflict {
				t.Fatal(codes)
			}
		}
		if won < 0 {
			t.Fatal(codes)
		}
		h, known = histories[won], points[won].Size
		seen, err := witness.List(dir)
		if err != nil || len(seen) != 1 || seen[0].Size != known {
			t.Fatalf("%+v, %v", seen, err)
		}
	}
}

func TestManyLogs(t *testing.T) {
	h := newHistory(t)
	dir := t.TempDir()
	s := newServer(t, 1, h.vkey, dir, func(o *witness.ServerOptions) { o.MaxLogs = 1 })
	if w := post(t, s, request(t, 0, h.grow(1, "a"))); w.Code != http.StatusOK {
		t.Fatal(w.Code)
	}
	other := *h
	other.origin = strings.TrimSuffix(h.origin, "V") + "W"
	if w := post(t, s, request(t, 0, other.grow(1, "a"))); w.Code != http.StatusTooManyRequests {
		t.Fatal(w.Code)
	}
	if w := post(t, s, request(t, 1, h.grow(1, "a"))); w.Code != http.StatusOK {
		t.Fatal(w.Code)
	}
}

// TestTwoHostsOneName: a host cannot have another's logs refused by signing for
// them under the same name.
func TestTwoHostsOneName(t *testing.T) {
	h := newHistory(t)
	_, other, err := checkpoint.NewSigner("host.test/log", private(9))
	if err != nil {
		t.Fatal(err)
	}
	o := witness.ServerOptions{Name: "w.example/a", Key: private(1), Logs: []string{h.vkey, other}, Dir: t.TempDir()}
	if _, err := witness.NewServer(o); !errors.Is(err, witness.ErrTwoKeys) {
		t.Fatal(err)
	}
	o.Logs = []string{h.vkey, h.vkey}
	s, err := witness.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r, err := p.submitter(t).Round(ctx, p.h.grow(1, "a"))
		if err != nil || r.Witnessed {
			t.Fatalf("%+v, %v", r, err)
		}
	})
}
