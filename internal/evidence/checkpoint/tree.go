package checkpoint

import (
	"crypto/sha256"
	"slices"

	"github.com/transparency-dev/merkle/compact"

	"github.com/writ-run/writ/internal/model"
)

// EmptyRoot is the root of a tree without leaves (RFC 6962 section 2.1).
var EmptyRoot = model.Digest(sha256.Sum256(nil))

// factory hashes interior nodes (RFC 6962 section 2.1) with one allocation each.
var factory = &compact.RangeFactory{Hash: func(left, right []byte) []byte {
	var buf [1 + 2*sha256.Size]byte
	buf[0] = 1
	copy(buf[1:], left)
	copy(buf[1+sha256.Size:], right)
	sum := sha256.Sum256(buf[:])
	return sum[:]
}}

// LeafHash returns the RFC 6962 hash of a leaf. scratch is overwritten and
// returned for the next call, so that hashing many leaves does not allocate.
func LeafHash(leaf, scratch []byte) (hash model.Digest, next []byte) {
	scratch = append(append(scratch[:0], 0), leaf...)
	return sha256.Sum256(scratch), scratch
}

// Tree is the right edge of a Merkle tree: what is needed to append to it and
// to tell its root, O(log n) hashes. The zero Tree is empty. It is not safe
// for concurrent use.
type Tree struct{ edge *compact.Range }

// Append adds one leaf by its hash.
func (t *Tree) Append(leaf model.Digest) {
	if t.edge == nil {
		t.edge = factory.NewEmptyRange(0)
	}
	// Appending one leaf to a range that starts at 0 cannot fail.
	if err := t.edge.Append(slices.Clone(leaf[:]), nil); err != nil {
		panic("checkpoint: " + err.Error())
	}
}

// Size returns how many leaves the tree has.
func (t *Tree) Size() uint64 {
	if t.edge == nil {
		return 0
	}
	return t.edge.End()
}

// Root returns the Merkle tree hash.
func (t *Tree) Root() model.Digest {
	if t.Size() == 0 {
		return EmptyRoot
	}
	root, err := t.edge.GetRootHash(nil)
	if err != nil {
		panic("checkpoint: " + err.Error())
	}
	return model.Digest(root)
}

// Clone returns an independent copy.
func (t *Tree) Clone() Tree {
	if t.edge == nil {
		return Tree{}
	}
	edge, err := factory.NewRange(0, t.edge.End(), slices.Clone(t.edge.Hashes()))
	if err != nil {
		panic("checkpoint: " + err.Error())
	}
	return Tree{edge}
}
