// Package problem is the catalogue of everything that can be wrong in a way a
// person gets to see.
//
// New is the entry point: it makes one occurrence of a kind that the catalogue
// holds. A Problem is an error; it shows itself as text for a terminal and as
// problem+json (RFC 9457) for the local API, and docs/reference/problems.md is
// made of the same entries. Each entry has a stable code, a title, a why and a
// fix: a test holds that.
//
// Of Writ's other packages it knows only the observers, which document their own
// reasons. What errors mean as problems is package explain's to say.
package problem

//go:generate go test . -run TestReferenceIsCurrent -rewrite
