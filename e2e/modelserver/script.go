package modelserver

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Turn is one thing the model says: a text, or a request to use a tool. The
// script ends with a turn that uses no tool, as that is what ends an agent's
// work.
type Turn struct {
	Text  string         // said before the tool is asked for, or alone
	Tool  string         // name of the tool, such as "Bash"; empty for a text
	Input map[string]any // what the tool is called with

	// Check, if set, judges what the tool answered. What it returns becomes a
	// fault. It is called once, however often the agent repeats its request.
	Check func(Result) error
}

// Say is a turn that ends the agent's work with a text.
func Say(text string) Turn { return Turn{Text: text} }

// Bash is a turn that asks for a shell command to be run.
func Bash(command string) Turn {
	return Turn{Tool: "Bash", Input: map[string]any{"command": command, "description": "Run a step of the script"}}
}

// Expect returns t with a Check that wants the tool to have worked and its
// answer to contain text.
func (t Turn) Expect(text string) Turn {
	t.Check = func(r Result) error {
		if r.IsError || !strings.Contains(r.Text, text) {
			return fmt.Errorf("tool answered %s, want success with %q in it", r, text)
		}
		return nil
	}
	return t
}

// ExpectError returns t with a Check that wants the tool to have failed with
// an answer that contains text.
func (t Turn) ExpectError(text string) Turn {
	t.Check = func(r Result) error {
		if !r.IsError || !strings.Contains(r.Text, text) {
			return fmt.Errorf("tool answered %s, want a failure with %q in it", r, text)
		}
		return nil
	}
	return t
}

// Result is what a tool answered.
type Result struct {
	Turn    int // index in the script
	Text    string
	IsError bool
}

func (r Result) String() string {
	word := "success"
	if r.IsError {
		word = "failure"
	}
	return fmt.Sprintf("%s %q", word, r.Text)
}

const toolIDPrefix = "toolu_writ_"

func toolID(turn int) string { return fmt.Sprintf("%s%04d", toolIDPrefix, turn) }

func turnOfToolID(id string) (int, bool) {
	var turn int
	if _, err := fmt.Sscanf(id, toolIDPrefix+"%04d", &turn); err != nil || toolID(turn) != id {
		return 0, false
	}
	return turn, true
}

// messagesRequest is what is read of a request; the rest of it is of no
// interest to a script.
type messagesRequest struct {
	Model     string        `json:"model"`
	MaxTokens int           `json:"max_tokens"`
	Stream    bool          `json:"stream"`
	Messages  []wireMessage `json:"messages"`
	Tools     []wireTool    `json:"tools"`
}

type wireTool struct {
	Name string `json:"name"`
}

type wireMessage struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"` // a string or a list of blocks
}

type wireBlock struct {
	Type      string          `json:"type"`
	Text      string          `json:"text"`
	ID        string          `json:"id"`          // of a tool_use
	ToolUseID string          `json:"tool_use_id"` // of a tool_result
	Content   json.RawMessage `json:"content"`     // of a tool_result: a string or a list of blocks
	IsError   bool            `json:"is_error"`
}

// blocks reads content that may be a bare string, which stands for one text
// block, or absent.
func blocks(content json.RawMessage) ([]wireBlock, error) {
	if len(content) == 0 {
		return nil, nil
	}
	if content[0] == '"' {
		var text string
		if err := json.Unmarshal(content, &text); err != nil {
			return nil, err
		}
		return []wireBlock{{Type: "text", Text: text}}, nil
	}
	var list []wireBlock
	if err := json.Unmarshal(content, &list); err != nil {
		return nil, err
	}
	return list, nil
}

// position reads from a conversation which turn comes next and what the tools
// answered so far.
func position(messages []wireMessage) (next int, results []Result, err error) {
	for _, m := range messages {
		list, err := blocks(m.Content)
		if err != nil {
			return 0, nil, fmt.Errorf("reading a %s message: %w", m.Role, err)
		}
		for _, b := range list {
			switch b.Type {
			case "tool_use":
				turn, ok := turnOfToolID(b.ID)
				if !ok {
					return 0, nil, fmt.Errorf("the conversation holds a tool use that is not ours: %q", b.ID)
				}
				next = max(next, turn+1)
			case "tool_result":
				turn, ok := turnOfToolID(b.ToolUseID)
				if !ok {
					return 0, nil, fmt.Errorf("a tool result for a tool use that is not ours: %q", b.ToolUseID)
				}
				answer, err := blocks(b.Content)
				if err != nil {
					return 0, nil, fmt.Errorf("reading the tool result of turn %d: %w", turn, err)
				}
				var text strings.Builder
				for _, a := range answer {
					text.WriteString(a.Text)
				}
				results = append(results, Result{Turn: turn, Text: text.String(), IsError: b.IsError})
			}
		}
	}
	return next, results, nil
}
