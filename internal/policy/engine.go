package policy

import (
	"sync"

	"github.com/writ-run/writ/internal/core"
	"github.com/writ-run/writ/internal/model"
)

// Engine holds loaded bundles and decides under the one that is named. It is
// safe for concurrent use. The zero Engine knows no bundle and denies all.
type Engine struct {
	mu      sync.RWMutex
	bundles map[model.Digest]*Loaded
}

var _ core.Policies = (*Engine)(nil)

// Add makes a loaded bundle known. A bundle once known is never replaced: its
// digest is its content.
func (e *Engine) Add(l *Loaded) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.bundles == nil {
		e.bundles = map[model.Digest]*Loaded{}
	}
	if _, known := e.bundles[l.Digest()]; !known {
		e.bundles[l.Digest()] = l
	}
}

// Remove forgets a bundle; requests under it are denied from then on.
func (e *Engine) Remove(digest model.Digest) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.bundles, digest)
}

// Loaded returns the bundle with the digest, or nil.
func (e *Engine) Loaded(digest model.Digest) *Loaded {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.bundles[digest]
}

// Decide implements core.Policies: see Loaded.Decide. A bundle that is not known
// denies with ReasonUnknownBundle.
func (e *Engine) Decide(bundle model.Digest, request model.Request) model.Decision {
	l := e.Loaded(bundle)
	if l == nil {
		return model.Decision{Reason: model.ReasonUnknownBundle}
	}
	return l.decide(&request, true)
}
