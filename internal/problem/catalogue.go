package problem

import (
	"net/http"
	"slices"
	"sync"
)

// Codes that more than one place of the program gives.
const (
	Internal = "internal"

	UnknownCommand  = "unknown_command"
	UnknownFlag     = "unknown_flag"
	BadValue        = "bad_value"
	MissingArgument = "missing_argument"
	ExtraArgument   = "extra_argument"
)

// area is the entries of one part of the program, as the reference lists them.
type area struct {
	title   string
	about   string
	entries []Entry
}

var areas = []area{usage, running, commanding, reasons, losses, policies, state, keyring, records}

var index = sync.OnceValue(func() map[string]Entry {
	m := map[string]Entry{}
	for _, a := range areas {
		for _, e := range a.entries {
			m[e.Code] = e
		}
	}
	return m
})

// Lookup returns the entry with the code.
func Lookup(code string) (Entry, bool) {
	e, ok := index()[code]
	return e, ok
}

// All returns every entry, in the order of the reference.
func All() []Entry {
	var all []Entry
	for _, a := range areas {
		all = append(all, slices.Clone(a.entries)...)
	}
	return all
}

var usage = area{
	title: "On the command line",
	about: "These exit with 2; `writ run` exits with 125, since 2 could be its command's own code.",
	entries: []Entry{
		{Code: UnknownCommand, Title: "there is no such command", Status: http.StatusBadRequest, Exit: 2,
			Why: "a word that Writ does not know is never guessed at", Fix: "`writ help` lists the commands"},
		{Code: UnknownFlag, Title: "there is no such flag", Status: http.StatusBadRequest, Exit: 2,
			Why: "a flag that Writ does not know would be ignored in silence", Fix: "add --help to the command to see its flags; put -- before the command that is to be run"},
		{Code: BadValue, Title: "the value will not do", Status: http.StatusBadRequest, Exit: 2,
			Why: "it does not say what Writ needs to know", Fix: "add --help to the command to see what it takes"},
		{Code: MissingArgument, Title: "something is missing from the command", Status: http.StatusBadRequest, Exit: 2,
			Why: "the command does not know what to work on", Fix: "add --help to the command to see what it takes"},
		{Code: ExtraArgument, Title: "there is more on the command line than the command takes", Status: http.StatusBadRequest, Exit: 2,
			Why: "the rest would be ignored in silence", Fix: "add --help to the command to see what it takes"},
		{Code: Internal, Title: "something went wrong inside Writ", Status: http.StatusInternalServerError,
			Why: "this is a fault of Writ's, or one of the operating system's that Writ has no words for yet",
			Fix: "`writ doctor` may find the cause; if not, report it with the whole message and the output of `writ version`"},
	},
}
