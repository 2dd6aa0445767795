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
// control runs do so ungoverned. Until each of those is known to be harmless to
// what else runs on a machine, it is asked for by name:
//
//	go test -tags escape ./internal/enforce/escape
package escape
