// Package grant issues, attenuates, verifies and revokes grants: the signed,
// expiring authority under which an execution runs.
//
// Issue makes a root grant, Attenuate a weaker one beneath it. Check verifies
// a chain of them, from the root to the leaf, once; Chain.At tells cheaply
// whether it stands at an instant. Authority only shrinks along a chain:
// whatever a leaf allows, every grant above it allows too, and revoking any of
// them revokes all beneath it. What cannot be read, understood or verified is
// refused with a Refusal that names the reason and the grant.
//
// Store keeps grants and revocations in a state directory. The package does
// not decide actions, and does not know whether a subject's session is alive.
package grant
