// Package checkpoint says how the state of an evidence log is stated and
// signed: a C2SP tlog-checkpoint (c2sp.org/tlog-checkpoint) as a signed note
// (c2sp.org/signed-note) over an RFC 6962 Merkle tree.
//
// Open is the entry point for readers: what it returns was signed by the given
// key, and the bytes are the only encoding of it. Tree is the compact range
// from which the root is made, in O(log n) memory.
//
// The package does no I/O and keeps no keys.
package checkpoint
