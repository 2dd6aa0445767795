// Package cli is the command line of Writ.
//
// Main is the entry point: it runs one command and returns the exit code. Each
// command is one file; output.go owns everything that is printed. stdout is
// what was asked for, the rest goes to stderr, and every error is a problem of
// the catalogue (package problem).
//
// Exit codes: `writ run` exits with its command's own code, 128 and the number
// of the signal that ended it, 125 if Writ failed, 126 if the execution was not
// admitted, 127 if the command was not found, 137 if governance ended it. Every
// other command exits with 0, with 1 if it could not do what was asked, and with
// 2 if it was asked in a way that it does not understand.
//
// The commands decide nothing: they read the state directory, sign what the
// operator orders, and talk to governors.
package cli
