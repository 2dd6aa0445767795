package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// serve answers on a unix socket whose path is longer than an address takes.
func serve(t *testing.T, handler http.Handler) *Client {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	l, err := net.Listen("unix", "control.sock")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handler}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	c := Dial(filepath.Join(dir, "control.sock"))
	t.Cleanup(c.Close)
	return c
}

func TestStatus(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/execution", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"execution":"01ARZ3NDEKTSV4RRFFQ69G5FAV","argv":["ls"],"phase":"running","tier":"user","lease":{"seq":3,"deadline_in_ns":1500000000},
			"conditions":[{"condition":"scope","standing":"holds"}],"of_the_future":true}`)
	})
	got, err := serve(t, mux).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := Status{Execution: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Argv: []string{"ls"}, Phase: "running", Tier: "user",
		Lease: Lease{Seq: 3, DeadlineIn: 1500000000}, Conditions: []Condition{{Condition: "scope", Standing: "holds"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOrder(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/orders", func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Envelope string }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		if b, err := base64.StdEncoding.DecodeString(in.Envelope); err != nil || string(b) != "signed" {
			t.Errorf("got %q, %v", b, err)
		}
		fmt.Fprint(w, `{"phase":"paused"}`)
	})
	phase, err := serve(t, mux).Order(t.Context(), []byte("signed"))
	if err != nil || phase != "paused" {
		t.Errorf("%q, %v", phase, err)
	}
}

func TestRefusalIsAProblem(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/observe", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"title":"no","status":409,"code":"not_paused","detail":"it runs","fix":"wait"}`)
	})
	err := serve(t, mux).Observe(t.Context())
	want := &Problem{Title: "no", Status: 409, Code: "not_paused", Detail: "it runs", Fix: "wait"}
	got, ok := errors.AsType[*Problem](err)
	if !ok || cmp.Diff(want, got) != "" || err.Error() != "no: it runs" {
		t.Errorf("%v", err)
	}
}

func TestAnAnswerThatIsNoProblem(t *testing.T) {
	err := serve(t, http.NotFoundHandler()).Observe(t.Context())
	if p, ok := errors.AsType[*Problem](err); !ok || p.Status != 404 || p.Title != "Not Found" {
		t.Errorf("%v", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "no JSON") })
	if _, err := serve(t, mux).Status(t.Context()); err == nil {
		t.Error("nonsense was taken for an answer")
	}
	huge := http.NewServeMux()
	huge.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, maxAnswer+2)) })
	if _, err := serve(t, huge).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a huge answer: %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	dir := t.TempDir()
	if _, err := Dial(filepath.Join(dir, "none", "control.sock")).Status(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("no directory: %v", err)
	}
	path := filepath.Join(dir, "control.sock")
	if _, err := Dial(path).Status(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("no socket: %v", err)
	}
	t.Chdir(dir)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: "control.sock", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := Dial(path).Status(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("a socket that a dead governor left: %v", err)
	}
}

func TestEvents(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, ": hello\n\n")
		for i := range 3 {
			fmt.Fprintf(w, "id: %d\nevent: record\ndata: {\"index\":%d,\ndata: \"kind\":\"lease\",\"body\":{\"from\":%q}}\n\n", i, i, r.URL.Query().Get("from"))
		}
	})
	c := serve(t, mux)
	var got []string
	collect := func(e Event) error {
		got = append(got, fmt.Sprintf("%d %s %s", e.Index, e.Kind, e.Body))
		return nil
	}
	if err := c.Events(t.Context(), 7, collect); err != nil {
		t.Fatal(err)
	}
	want := []string{`0 lease {"from":"7"}`, `1 lease {"from":"7"}`, `2 lease {"from":"7"}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	enough := errors.New("enough")
	if err := c.Events(t.Context(), 0, func(Event) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("an error of the caller's: %v", err)
	}
}

func TestEventsEndWithTheContext(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "data: {\"index\":0}\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	err := serve(t, mux).Events(ctx, 0, func(Event) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
