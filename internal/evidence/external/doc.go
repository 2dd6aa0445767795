// Package external holds Writ to what other people say is right: published test
// vectors for the signatures, trees, encodings and notes that evidence rests on.
// It has tests only. Where the vectors are from is in testdata/README.md.
package external
