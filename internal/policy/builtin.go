package policy

import (
	_ "embed"
	"strings"
)

//go:embed builtin/builtin.cedar
var builtinPolicy []byte

//go:embed builtin/settings.yaml
var builtinSettings []byte

const builtinPrefix = "builtin/"

// Builtin returns the built-in policy: what a command may do when nothing else
// is said.
func Builtin() []Source {
	return []Source{{Name: builtinPrefix + "builtin.cedar", Text: append([]byte{}, builtinPolicy...)}}
}

// BuiltinSettings returns the text of the built-in settings.
func BuiltinSettings() []byte { return append([]byte{}, builtinSettings...) }

// isBuiltin tells whether a source is built in: other sources may overrule it.
func isBuiltin(file string) bool { return strings.HasPrefix(file, builtinPrefix) }
