// Package policy decides: it reads bundles of Cedar policies and answers
// whether an action is allowed, why, and what would have to change.
//
// A Bundle is named sources, a schema and settings, known by one digest. Load
// checks all of it and gives a Loaded, which decides requests; an Engine holds
// the loaded bundles and is the core's Policies. Decide is a pure function of
// the bundle and the request: the same arguments give the same Decision, to
// the byte, whatever the order in which the sources were given and however many
// goroutines ask.
//
// The guarantee is DESIGN invariant 7: a policy that cannot be evaluated
// against the schema does not load, a request that does not fit the schema is
// denied, and any error while evaluating denies. The zero of everything denies.
// Sizes and nesting are bounded before anything is parsed, and an index by
// action and resource keeps the cost of a decision to the policies that can
// match it; it never changes one.
//
// The package does not fetch, store or watch bundles, holds no keys, and knows
// nothing of phases or leases. Observations and enforcement are others' work.
package policy

import (
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"io/fs"
	"slices"
	"sync"

	"github.com/writ-run/writ/internal/core"
	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/policy/settings"
	"github.com/writ-run/writ/internal/policy/text"
)

// Sources are this package's own sources, its schema and its built-in policy.
//
//go:embed *.go schema.cedarschema builtin
var Sources embed.FS

// CedarVersion is the version of github.com/cedar-policy/cedar-go that decides.
const CedarVersion = "v1.9.0"

// EngineDigest names what decides and what acts on decisions: the sources of
// model, core and policy, and the version of cedar-go. Tests are not part of
// it. A record carries it, so that a replay knows whether it runs the same
// engine.
func EngineDigest() model.Digest { return engineDigest() }

var engineDigest = sync.OnceValue(func() model.Digest {
	return digestSources([]namedSources{
		{"core", core.Sources},
		{"model", model.Sources},
		{"policy", Sources},
		{"policy/settings", settings.Sources},
		{"policy/text", text.Sources},
	}, CedarVersion)
})

type namedSources struct {
	name  string
	files fs.FS
}

// digestSources hashes every file but tests, in the order of package and path,
// each part preceded by its length.
func digestSources(packages []namedSources, version string) model.Digest {
	h := sha256.New()
	part := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	part([]byte("writ engine v1"))
	part([]byte("cedar-go " + version))
	for _, p := range packages {
		var names []string
		err := fs.WalkDir(p.files, ".", func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !isTest(path) {
				names = append(names, path)
			}
			return err
		})
		if err != nil {
			panic("policy: embedded sources of " + p.name + ": " + err.Error())
		}
		slices.Sort(names)
		for _, name := range names {
			content, err := fs.ReadFile(p.files, name)
			if err != nil {
				panic("policy: embedded sources of " + p.name + ": " + err.Error())
			}
			part([]byte(p.name + "/" + name))
			part(content)
		}
	}
	return model.Digest(h.Sum(nil))
}

func isTest(path string) bool {
	const suffix = "_test.go"
	return len(path) >= len(suffix) && path[len(path)-len(suffix):] == suffix
}
