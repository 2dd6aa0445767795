package modelserver

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// block is a content block of an answer.
type block struct {
	Type  string
	Text  string
	ID    string
	Name  string
	Input map[string]any
}

func contentOf(turn Turn, id string) (content []block, stopReason string) {
	if turn.Text != "" || turn.Tool == "" {
		content = append(content, block{Type: "text", Text: turn.Text})
	}
	if turn.Tool == "" {
		return content, "end_turn"
	}
	return append(content, block{Type: "tool_use", ID: id, Name: turn.Tool, Input: turn.Input}), "tool_use"
}

func (b block) json() map[string]any {
	if b.Type == "text" {
		return map[string]any{"type": "text", "text": b.Text}
	}
	return map[string]any{"type": "tool_use", "id": b.ID, "name": b.Name, "input": b.Input}
}

// reply answers with a turn, as one message or as a stream of events, whichever
// was asked for.
func reply(w http.ResponseWriter, req messagesRequest, turn Turn, name, toolID string) {
	content, stopReason := contentOf(turn, toolID)
	message := map[string]any{
		"id": "msg_writ_" + name, "type": "message", "role": "assistant", "model": req.Model,
		"content": []any{}, "stop_reason": nil, "stop_sequence": nil,
		"usage": map[string]any{"input_tokens": 1, "output_tokens": 1},
	}
	w.Header().Set("request-id", "req_writ_"+name)
	if !req.Stream {
		list := make([]any, len(content))
		for i, b := range content {
			list[i] = b.json()
		}
		message["content"], message["stop_reason"] = list, stopReason
		writeJSON(w, http.StatusOK, message)
		return
	}
	w.Header().Set("content-type", "text/event-stream")
	w.Header().Set("cache-control", "no-cache")
	w.WriteHeader(http.StatusOK)
	event(w, "message_start", map[string]any{"message": message})
	for i, b := range content {
		start, delta := streamed(b)
		event(w, "content_block_start", map[string]any{"index": i, "content_block": start})
		event(w, "ping", map[string]any{})
		for _, d := range delta {
			event(w, "content_block_delta", map[string]any{"index": i, "delta": d})
		}
		event(w, "content_block_stop", map[string]any{"index": i})
	}
	event(w, "message_delta", map[string]any{
		"delta": map[string]any{"stop_reason": stopReason, "stop_sequence": nil},
		"usage": map[string]any{"output_tokens": 1},
	})
	event(w, "message_stop", map[string]any{})
}

// streamed cuts a block in two, so that an agent has to put it together.
func streamed(b block) (start map[string]any, delta []map[string]any) {
	start = b.json()
	if b.Type == "text" {
		start["text"] = ""
		for _, part := range halves(b.Text) {
			delta = append(delta, map[string]any{"type": "text_delta", "text": part})
		}
		return start, delta
	}
	start["input"] = map[string]any{}
	input, err := json.Marshal(b.Input)
	if err != nil {
		panic(fmt.Sprintf("modelserver: a script's tool input is not JSON: %v", err))
	}
	for _, part := range halves(string(input)) {
		delta = append(delta, map[string]any{"type": "input_json_delta", "partial_json": part})
	}
	return start, delta
}

func halves(s string) []string {
	runes := []rune(s)
	if len(runes) < 2 {
		return []string{s}
	}
	return []string{string(runes[:len(runes)/2]), string(runes[len(runes)/2:])}
}

// event writes one server-sent event. An error is the agent having gone, which
// a test finds out from the agent.
func event(w http.ResponseWriter, name string, data map[string]any) {
	data["type"] = name
	text, err := json.Marshal(data)
	if err != nil {
		panic(fmt.Sprintf("modelserver: an event is not JSON: %v", err))
	}
	fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, text)
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

func writeError(w http.ResponseWriter, status int, kind, message string) {
	writeJSON(w, status, map[string]any{"type": "error", "error": map[string]any{"type": kind, "message": message}})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("modelserver: an answer is not JSON: %v", err))
	}
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	w.Write(text)
}
