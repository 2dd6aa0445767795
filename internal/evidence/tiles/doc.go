// Package tiles publishes an evidence log as a tiled transparency log
// (c2sp.org/tlog-tiles), and reads what was published.
//
// Open is the entry point: its Advance brings the files up to what the log has
// recorded. The files lag behind the log and never lead it: a tile is written
// from records that are under a signed checkpoint, and the checkpoint file
// names a size only when every tile of a tree of that size is durable. The
// system calls of one Advance, in order:
//
//	for each tile and entry bundle that the new size adds:
//	    mkdir (and fsync of its parent) where it is missing
//	    open(.name.tmp) write fsync rename(name) fsync(its directory)
//	open(.checkpoint.tmp) write fsync rename(checkpoint) fsync(directory)
//	unlink of the partial tiles that have become full
//
// Nothing else is kept, so a crash anywhere leaves the old checkpoint with its
// tiles or the new one with its, and the next Advance goes on from there. What
// is there already is read back and verified under its checkpoint, and the
// records again from the last tile that was not full: a log that is not a
// continuation of what was published is refused.
//
// A leaf is a record's canonical encoding. An entry bundle can hold entries of
// at most 65,535 bytes: where one is larger, the bundle is left out and the same
// entries stand under records/ with lengths of four bytes (Oversize). The tree
// is whole all the same.
//
// Tree reads published files, makes the proofs, and verifies each tile that it
// takes under the checkpoint. Handler serves them. The package does not ask
// witnesses: see the witness package.
package tiles
