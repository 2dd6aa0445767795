// Package docs holds the documentation of Writ. Its tests hold the pages to the
// code: links resolve, commands and codes that a page names exist, and the
// tables that a page takes from the code are the code's.
//
// What stands between "<!-- generated: NAME -->" and "<!-- end -->" in a page is
// written by `go generate ./docs`.
package docs

//go:generate go test . -run TestGenerated -rewrite
