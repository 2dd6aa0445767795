package problem

import (
	"fmt"
	"strings"
)

// Markdown returns the reference page of the catalogue.
func Markdown() string {
	var b strings.Builder
	b.WriteString("# Problems\n\n" +
		"Everything that can be wrong in a way you get to see has one entry here: on the command line, as `problem+json` from the local API, and as the reason of a denial. " +
		"The code is stable; the words may improve. " +
		"This page is made from the catalogue in `internal/problem`: change it there, then `go generate ./internal/problem`.\n\n" +
		"A message looks like this:\n\n" +
		"    writ: what happened\n      why: why it is so\n      fix: what to do\n      see: docs/reference/problems.md#code\n\n" +
		"Exit codes: `writ run` exits with its command's own code (128 and the signal's number where a signal ended it), 125 if Writ failed, 126 if the execution was not admitted, 127 if the command was not found, 137 if governance ended it. " +
		"Every other command exits with 0, with 1 if it could not do what was asked, and with 2 if it was asked in a way that it does not understand.\n")
	for _, a := range areas {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", a.title, a.about)
		for _, e := range a.entries {
			fmt.Fprintf(&b, "\n### %s\n\n%s.\n\n- Why: %s.\n- Fix: %s.\n", e.Code, capital(e.Title), e.Why, e.Fix)
			fmt.Fprintf(&b, "- HTTP status %d, exit code %d.\n", e.Status, (&Problem{Entry: e}).ExitCode())
		}
	}
	return b.String()
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
