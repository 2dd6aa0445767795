// Package e2e governs real programs with the real binaries: git, a compiler, a
// Python program, process trees, terminals and a coding agent, as root and as
// an ordinary user.
//
// Its tests are its only content. Each program first runs ungoverned, which
// shows that the test itself is right and that what Writ later forbids would
// have worked; then it runs governed, with the same expectations. After every
// governed run the evidence must verify, and no process, cgroup or mount may be
// left.
//
// It does not test single packages, nor what an adversary tries: see the
// packages themselves.
package e2e
