package modelserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
)

// maxRequest bounds a request's body: an agent's system prompt and tools are
// about 100 KiB.
const maxRequest = 16 << 20

// Request is one request as it arrived.
type Request struct {
	Method string
	Path   string // with the query
	Header http.Header
	Body   []byte
}

// Server plays a script. It is safe for concurrent use.
type Server struct {
	script []Turn
	mux    *http.ServeMux

	mu       sync.Mutex
	requests []Request
	results  []Result
	faults   []error
	sent     []chan struct{} // closed once the turn has been sent
}

// New returns a server that plays script. It starts nothing.
func New(script ...Turn) *Server {
	s := &Server{script: script, mux: http.NewServeMux(), sent: make([]chan struct{}, len(script))}
	for i := range s.sent {
		s.sent[i] = make(chan struct{})
	}
	s.mux.HandleFunc("POST /v1/messages", s.messages)
	s.mux.HandleFunc("POST /v1/messages/count_tokens", s.countTokens)
	s.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }) // HEAD too
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fault(fmt.Errorf("unexpected request: %s %s", r.Method, r.URL))
		writeError(w, http.StatusNotFound, "not_found_error", "no such endpoint")
	})
	return s
}

// ServeHTTP records the request and answers it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		s.fault(fmt.Errorf("reading the body of %s %s: %w", r.Method, r.URL, err))
		writeError(w, http.StatusRequestEntityTooLarge, "request_too_large", err.Error())
		return
	}
	s.mu.Lock()
	s.requests = append(s.requests, Request{r.Method, r.URL.RequestURI(), r.Header.Clone(), body})
	s.mu.Unlock()
	s.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), bodyKey{}, body)))
}

type bodyKey struct{}

func (s *Server) messages(w http.ResponseWriter, r *http.Request) {
	req, ok := s.read(w, r)
	if !ok {
		return
	}
	if req.MaxTokens <= 0 {
		s.refuse(w, errors.New("max_tokens is required"))
		return
	}
	if len(req.Tools) == 0 {
		// Not the agent's work but a side question of it, such as a title for
		// the conversation.
		reply(w, req, Turn{Text: "ok"}, "side", "")
		return
	}
	next, results, err := position(req.Messages)
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.note(results)
	if next >= len(s.script) {
		s.refuse(w, fmt.Errorf("the agent asks for turn %d of a script of %d", next, len(s.script)))
		return
	}
	if tool := s.script[next].Tool; tool != "" && !slices.Contains(req.Tools, wireTool{tool}) {
		s.refuse(w, fmt.Errorf("turn %d wants the tool %q, which the agent does not offer", next, tool))
		return
	}
	// Said before it is written: who waits for the turn must not wait for an
	// agent that is already stopped while it reads.
	s.mu.Lock()
	select {
	case <-s.sent[next]:
	default:
		close(s.sent[next])
	}
	s.mu.Unlock()
	reply(w, req, s.script[next], fmt.Sprintf("%04d", next), toolID(next))
}

func (s *Server) countTokens(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.read(w, r); !ok {
		return
	}
	body := r.Context().Value(bodyKey{}).([]byte)
	writeJSON(w, http.StatusOK, map[string]any{"input_tokens": len(body) / 4})
}

// read decodes a request and refuses one that the real API would refuse.
func (s *Server) read(w http.ResponseWriter, r *http.Request) (messagesRequest, bool) {
	var req messagesRequest
	if err := json.Unmarshal(r.Context().Value(bodyKey{}).([]byte), &req); err != nil {
		s.refuse(w, fmt.Errorf("decoding a request: %w", err))
		return req, false
	}
	switch {
	case r.Header.Get("anthropic-version") == "":
		s.refuse(w, errors.New("anthropic-version: header is required"))
	case req.Model == "":
		s.refuse(w, errors.New("model: field required"))
	case len(req.Messages) == 0:
		s.refuse(w, errors.New("messages: at least one message is required"))
	default:
		return req, true
	}
	return req, false
}

func (s *Server) refuse(w http.ResponseWriter, err error) {
	s.fault(err)
	writeError(w, http.StatusBadRequest, "invalid_request_error", err.Error())
}

func (s *Server) fault(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, err)
}

// note keeps the results that are new and has them checked.
func (s *Server) note(results []Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range results {
		if slices.ContainsFunc(s.results, func(known Result) bool { return known.Turn == r.Turn }) {
			continue
		}
		s.results = append(s.results, r)
		if r.Turn >= len(s.script) {
			s.faults = append(s.faults, fmt.Errorf("a tool result for turn %d of a script of %d", r.Turn, len(s.script)))
			continue
		}
		if check := s.script[r.Turn].Check; check != nil {
			if err := check(r); err != nil {
				s.faults = append(s.faults, fmt.Errorf("turn %d (%v): %w", r.Turn, s.script[r.Turn].Input["command"], err))
			}
		}
	}
}

// Sent waits until the turn with that index has been sent to the agent.
func (s *Server) Sent(ctx context.Context, turn int) error {
	select {
	case <-s.sent[turn]:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for turn %d to be asked for: %w", turn, context.Cause(ctx))
	}
}

// Requests returns all that arrived so far, in order of arrival.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Results returns what the tools answered so far, in order of the script.
func (s *Server) Results() []Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.results)
}

// Err returns everything that did not fit the script so far, failed checks
// included. It does not ask for the script to have been played to its end: see
// Finished.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.faults...)
}

// Finished tells whether the last turn has been sent.
func (s *Server) Finished() bool {
	if len(s.sent) == 0 {
		return true
	}
	select {
	case <-s.sent[len(s.sent)-1]:
		return true
	default:
		return false
	}
}
