// Package quorum says when a checkpoint counts as witnessed: which witnesses
// there are, and how many of them must have cosigned it.
//
// Parse reads a policy file (c2sp.org/tlog-policy), Open a checkpoint with its
// cosignatures (c2sp.org/tlog-cosignature). What Open returns was signed by the
// log's key, and each witness it names has cosigned these very bytes; whether
// they are enough, Policy.Satisfied says.
//
// The package does no I/O and keeps no keys. It does not ask witnesses: see the
// witness package. It has nothing that opens a socket, so that the verifier can
// use it.
package quorum
