// Package translate says what is in the evidence in words that other systems
// already take: OCSF events, OpenTelemetry spans, an in-toto statement.
//
// Read is the entry point: it goes through a log once and gives what the three
// are made of. Each names the record that it is made from, so that whoever
// doubts it can have that record proved. A translation proves nothing itself: it
// leaves things out, and it is not what was signed.
//
// The package does no I/O besides reading what it is given, sends nothing, and
// keeps no keys.
package translate
