// Package witness is both sides of c2sp.org/tlog-witness: Server is a witness
// that a second party runs, Submitter brings a log's checkpoints before the
// witnesses of a policy.
//
// A Server cosigns a checkpoint only if it continues the last one that it
// cosigned for the same log, and has that on disk before it answers. The system
// calls of one answer, in order, under the lock of the log's origin:
//
//	read(last)                                   what was cosigned before
//	open(.last.tmp) write fsync rename(last) fsync(directory)
//	                                             the cosignature is made and sent here
//
// A crash before the rename has cosigned nothing; one after it has answered
// nobody, and the log asks again from the size that it is told. One process at
// a time has the directory.
//
// A Submitter never asks a witness more than once a second, over all the
// processes that share its directory, and never believes one alone: what
// witnesses say against the log counts when those that do not say it can no
// longer make a quorum.
//
// The package does not publish: see the tiles package. It does not judge
// evidence: see the verify package, which has no network.
package witness
