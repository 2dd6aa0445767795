package modelserver_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/writ-run/writ/e2e/modelserver"
)

// ask posts a conversation and returns the status and the body.
func ask(t *testing.T, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("anthropic-version", "2023-06-01")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

const (
	head   = `{"model":"m","max_tokens":10,"tools":[{"name":"Bash"}],"messages":[{"role":"user","content":"go"}`
	used   = `,{"role":"assistant","content":[{"type":"tool_use","id":"toolu_writ_0000","name":"Bash","input":{}}]}`
	result = `,{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_writ_0000","content":[{"type":"text","text":"hello"}]}]}`
)

func TestScript(t *testing.T) {
	s := modelserver.New(modelserver.Bash("echo hello").Expect("hello"), modelserver.Say("done"))
	srv := httptest.NewServer(s)
	defer srv.Close()
	url := srv.URL + "/v1/messages"

	for range 2 { // a repeated request gets the same turn
		status, body := ask(t, url, head+`]}`)
		var m struct {
			StopReason string `json:"stop_reason"`
			Content    []struct {
				Type, ID, Name string
				Input          struct{ Command string }
			}
		}
		if err := json.Unmarshal([]byte(body), &m); err != nil || status != 200 {
			t.Fatalf("status %d, %v: %s", status, err, body)
		}
		if m.StopReason != "tool_use" || len(m.Content) != 1 || m.Content[0].Name != "Bash" || m.Content[0].Input.Command != "echo hello" {
			t.Fatalf("unexpected message: %s", body)
		}
	}
	if s.Finished() {
		t.Fatal("finished before the last turn")
	}
	if _, body := ask(t, url, head+used+result+`]}`); !strings.Contains(body, `"done"`) || !strings.Contains(body, `"end_turn"`) {
		t.Fatalf("unexpected last turn: %s", body)
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	if !s.Finished() || len(s.Requests()) != 3 {
		t.Fatalf("finished %v after %d requests", s.Finished(), len(s.Requests()))
	}
	if r := s.Results(); len(r) != 1 || r[0].Text != "hello" || r[0].IsError {
		t.Fatalf("results %v", r)
	}
	if err := s.Sent(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
}

func TestStream(t *testing.T) {
	s := modelserver.New(modelserver.Turn{Text: "I shall run it.", Tool: "Bash", Input: map[string]any{"command": "echo 'ä'"}})
	srv := httptest.NewServer(s)
	defer srv.Close()
	status, body := ask(t, srv.URL+"/v1/messages?beta=true", strings.Replace(head, `"max_tokens"`, `"stream":true,"max_tokens"`, 1)+`]}`)
	if status != 200 {
		t.Fatalf("status %d: %s", status, body)
	}
	var names []string
	var text, input strings.Builder
	sc := bufio.NewScanner(strings.NewReader(body))
	for sc.Scan() {
		data, ok := strings.CutPrefix(sc.Text(), "data: ")
		if !ok {
			continue
		}
		var e struct {
			Type  string
			Delta struct {
				Text        string
				PartialJSON string `json:"partial_json"`
			}
		}
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatal(err)
		}
		if len(names) == 0 || names[len(names)-1] != e.Type {
			names = append(names, e.Type)
		}
		text.WriteString(e.Delta.Text)
		input.WriteString(e.Delta.PartialJSON)
	}
	block := "content_block_start ping content_block_delta content_block_stop "
	if got, want := strings.Join(names, " "), "message_start "+block+block+"message_delta message_stop"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	if text.String() != "I shall run it." || input.String() != `{"command":"echo 'ä'"}` {
		t.Errorf("text %q, input %q", text.String(), input.String())
	}
}

func TestFaults(t *testing.T) {
	script := []modelserver.Turn{modelserver.Bash("false").ExpectError("exit"), modelserver.Say("done")}
	for _, c := range []struct{ name, path, body, fault string }{
		{"check", "/v1/messages", head + used + result + `]}`, "want a failure"},
		{"beyond the script", "/v1/messages", head + strings.ReplaceAll(used+result, "0000", "0001") + `]}`, "turn 2 of a script of 2"},
		{"foreign tool use", "/v1/messages", head + strings.ReplaceAll(used, "toolu_writ_0000", "toolu_x") + `]}`, "not ours"},
		{"foreign tool result", "/v1/messages", head + strings.ReplaceAll(result, "toolu_writ_0000", "toolu_x") + `]}`, "not ours"},
		{"tool not offered", "/v1/messages", strings.Replace(head, "Bash", "Zsh", 1) + `]}`, `"Bash", which the agent does not offer`},
		{"no model", "/v1/messages", `{"messages":[{}]}`, "model"},
		{"no messages", "/v1/messages", `{"model":"m"}`, "messages"},
		{"no max_tokens", "/v1/messages", `{"model":"m","messages":[{}]}`, "max_tokens"},
		{"not JSON", "/v1/messages", `{`, "decoding"},
		{"unknown path", "/v1/other", `{}`, "POST /v1/other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := modelserver.New(script...)
			srv := httptest.NewServer(s)
			defer srv.Close()
			ask(t, srv.URL+c.path, c.body)
			if err := s.Err(); err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("fault %v, want one with %q", err, c.fault)
			}
		})
	}
}

func TestSideQuestions(t *testing.T) {
	s := modelserver.New(modelserver.Say("done"))
	srv := httptest.NewServer(s)
	defer srv.Close()
	if status, body := ask(t, srv.URL+"/v1/messages", `{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"title?"}]}`); status != 200 || !strings.Contains(body, `"ok"`) {
		t.Errorf("side question: %d %s", status, body)
	}
	if status, body := ask(t, srv.URL+"/v1/messages/count_tokens", head+`]}`); status != 200 || !strings.Contains(body, "input_tokens") {
		t.Errorf("count_tokens: %d %s", status, body)
	}
	res, err := http.Head(srv.URL)
	if err != nil || res.StatusCode != 200 {
		t.Errorf("HEAD /: %v %v", res, err)
	}
	if s.Finished() || s.Err() != nil {
		t.Errorf("a side question moved the script: finished %v, %v", s.Finished(), s.Err())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s.Sent(ctx, 0) == nil {
		t.Error("waited for a turn that was not asked for")
	}
}
