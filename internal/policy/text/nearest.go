package text

import (
	"fmt"
	"slices"
	"strings"
)

// Nearest returns the candidate most like word, or "" if none is like it: at
// most a third of its letters, and at least one, may differ.
func Nearest(word string, candidates []string) string {
	if len(word) > 64 {
		return ""
	}
	best, bestDistance := "", max(1, len(word)/3)+1
	for _, c := range candidates {
		if strings.EqualFold(c, word) {
			return c
		}
		if d := distance(word, c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the number of letters to insert, remove, change or swap with
// their neighbour to get from a to b (optimal string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// Suggest says which of the known words may have been meant, and lists them.
func Suggest(word string, known []string) string {
	list := strings.Join(slices.Clone(known), ", ")
	if near := Nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %q? known: %s", near, list)
	}
	return "use one of: " + list
}

// SuggestOne is Suggest where the known words are too many to list, unless none
// of them is like the word.
func SuggestOne(word string, known []string) string {
	if near := Nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return Suggest(word, known)
}

// Quote returns s as a Cedar string literal (grammar rule STR). Whatever is
// not plain visible ASCII is escaped, so that nothing in s can end the literal
// or hide in it.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r >= ' ' && r < 0x7f:
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u{%x}`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
