// Package escape is the adversary: programs that try to get out of a governed
// execution, to outlive it, or to bring down what governs it.
//
// Its tests are its only content. Each attempt is a function in testdata/*.c and
// a row in attempts_test.go: what it would gain, how a success shows, what the
// evidence must say. All of them run under the real writ binary, as root and as
// an ordinary user, and each must fail. So that a failure means something, they
// run ungoverned too, and must succeed there, but for those where that would
// harm the host; the row then says why.
//
// It does not attack single packages: see their own tests.
//
// The suite uses up processes and sends signals to all it can reach, and its
// control runs do so ungoverned. All of it, control runs included, happens in
// namespaces of the suite's own: see apart_test.go. What it shares with the
// machine is processor time, memory (400 MiB), descriptors (80,000), control
// groups of its own, and, as root, devices and kernel settings that it opens
// without writing. docs/reference/escapes.md lists the attempts; go generate
// writes it.
package escape

//go:generate go test . -run TestPage -rewrite
