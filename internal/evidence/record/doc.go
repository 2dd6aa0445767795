// Package record lays the life of one execution out as evidence records, in
// the one way that the governor writes and the verifier expects.
//
// Book.Step is the entry point: the input that the core took and the effects
// that it returned become one batch, the input first, then each effect in
// order, all with the input's times. Keys, artifacts, heartbeats and outages
// stand only between steps. A log starts with its keys and artifacts; its first
// input is the submission.
//
// The package writes nothing and decides nothing.
package record
