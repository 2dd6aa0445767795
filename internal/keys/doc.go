// Package keys keeps the keys of one state directory, and signs and checks
// with them.
//
// Open is the entry point. It makes three Ed25519 keys at first use: operator
// (grants, revocations, orders, governance mode), governor (leases) and log
// (checkpoints), and writes their public halves to the trust file, one C2SP
// signed-note verifier key a line, named <host>/operator and so on. A key is
// used only if nobody else could have read or written its file. A signature is
// good only if the key's role may make such a statement: a governor's key
// cannot halt, an operator's cannot renew a lease.
//
// Seal and Unseal are the one pair of functions for every signed statement: an
// in-toto statement in a DSSE envelope, with exactly one accepted encoding.
//
// The package does not rotate or revoke keys, and knows no hardware keys yet.
package keys
