package settings

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/writ-run/writ/internal/policy/text"
)

// MaxBytes bounds a settings file.
const MaxBytes = 16 << 10

// Parse reads a settings file. file is the name that problems carry. The error
// is a text.Problems.
func Parse(file string, source []byte) (Settings, error) {
	p := &reading{file: file, settings: Default()}
	if len(source) > MaxBytes {
		p.problem(nil, fmt.Sprintf("the settings have %d bytes", len(source)), fmt.Sprintf("they have at most %d", MaxBytes), "remove what is not a setting")
		return Settings{}, p.problems.Err()
	}
	if bad := text.Check(file, source); bad != nil {
		bad.Code = text.CodeSettings
		return Settings{}, text.Problems{bad}
	}
	root, ok := p.tree(source)
	if ok && root != nil {
		p.mapping("", root, topKeys)
	}
	if len(p.problems) == 0 {
		p.together()
	}
	if err := p.problems.Err(); err != nil {
		return Settings{}, err
	}
	return p.settings, nil
}

type reading struct {
	file     string
	settings Settings
	problems text.Problems
	at       map[string]*token.Token // where each key was set
}

func (p *reading) problem(at *token.Token, what, why, fix string) {
	bad := &text.Problem{Code: text.CodeSettings, File: p.file, What: what, Why: why, Fix: fix}
	if at != nil && at.Position != nil {
		bad.Line, bad.Column = at.Position.Line, at.Position.Column
	}
	p.problems = append(p.problems, bad)
}

// tree parses the source to its one mapping; nil where it says nothing.
func (p *reading) tree(source []byte) (root *ast.MappingNode, ok bool) {
	defer func() {
		if r := recover(); r != nil { // the YAML parser is not ours; a source it cannot bear is a bad source
			p.problem(nil, "the settings are not YAML", "the parser cannot read them", "write `key: value` lines")
			root, ok = nil, false
		}
	}()
	if strings.Count(string(source), "[")+strings.Count(string(source), "{") > 64 {
		p.problem(nil, "the settings are nested", "settings are keys and plain values", "remove the brackets")
		return nil, false
	}
	file, err := parser.ParseBytes(source, 0)
	if err != nil {
		var at *token.Token
		message := "not YAML"
		if e, ok := errors.AsType[yaml.Error](err); ok {
			at, message = e.GetToken(), e.GetMessage()
		}
		p.problem(at, "the settings do not parse: "+message, "they are YAML: `key: value` lines, indented by blanks", "mend this line")
		return nil, false
	}
	for i, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if _, comment := doc.Body.(*ast.CommentGroupNode); comment {
			continue
		}
		if _, null := doc.Body.(*ast.NullNode); null {
			continue
		}
		m := asMapping(doc.Body)
		if m == nil {
			p.problem(doc.Body.GetToken(), "the settings are not a mapping", "they are `key: value` lines", "write for example `lease:` and beneath it `  length: 2s`")
			return nil, false
		}
		if i > 0 || root != nil {
			p.problem(doc.Body.GetToken(), "a second YAML document", "only one is read, and the rest would be ignored", "remove the line ---")
			return nil, false
		}
		root = m
	}
	return root, true
}

// asMapping returns a node as a mapping: the parser gives one pair by itself.
func asMapping(n ast.Node) *ast.MappingNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n
	case *ast.MappingValueNode:
		return &ast.MappingNode{Values: []*ast.MappingValueNode{n}}
	}
	return nil
}

// key is one setting: a value to be read, or keys beneath it.
type key struct {
	name  string
	read  func(p *reading, n ast.Node, name string)
	below []key
}

func (p *reading) mapping(prefix string, m *ast.MappingNode, keys []key) {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.name
	}
	if p.at == nil {
		p.at = map[string]*token.Token{}
	}
	for _, pair := range m.Values {
		at := pair.Key.GetToken()
		name, plain := scalar(pair.Key)
		if !plain {
			p.problem(at, "this key is not a plain word", "anchors, aliases, merges and tags are not read", text.Suggest("", names))
			continue
		}
		i := indexKey(keys, name)
		if i < 0 {
			p.problem(at, fmt.Sprintf("unknown setting %q", prefix+name), "a setting that is not known would be ignored in silence", text.Suggest(name, names))
			continue
		}
		if _, twice := p.at[prefix+name]; twice {
			p.problem(at, fmt.Sprintf("%q is set twice", prefix+name), "only one of them would count", "remove one")
			continue
		}
		p.at[prefix+name] = at
		if keys[i].below == nil {
			keys[i].read(p, pair.Value, prefix+name)
			continue
		}
		below := asMapping(pair.Value)
		if below == nil {
			p.problem(pair.Value.GetToken(), fmt.Sprintf("%q holds no settings", prefix+name), "it is a group", "write its settings on lines of their own, indented beneath it")
			continue
		}
		p.mapping(prefix+name+".", below, keys[i].below)
	}
}

func indexKey(keys []key, name string) int {
	for i, k := range keys {
		if k.name == name {
			return i
		}
	}
	return -1
}

// scalar returns the text of a plain or quoted scalar on one line.
func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode:
		return n.Token.Value, true
	case *ast.FloatNode:
		return n.Token.Value, true
	}
	return "", false
}
