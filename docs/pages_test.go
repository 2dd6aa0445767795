package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// root is the repository, seen from this package.
const root = ".."

// pages returns the Markdown files of the repository, relative to its root.
func pages(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata") {
			return fs.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(path, ".md") {
			page, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			all = append(all, page)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(all, "README.md") || len(all) < 20 {
		t.Fatalf("these cannot be all pages: %v", all)
	}
	return all
}

func read(t *testing.T, page string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	fence  = regexp.MustCompile("(?ms)^[ ]*```[^\n]*\n.*?^[ ]*```[ ]*$")
	link   = regexp.MustCompile(`\[[^\]\n]*\]\(([^)\s]+)\)`)
	title  = regexp.MustCompile(`(?m)^#{1,6} +(.*)$`)
	marked = regexp.MustCompile("`[^`\n]*`")
)

// TestLinks follows every relative link of every page, to its heading too.
func TestLinks(t *testing.T) {
	checked := 0
	for _, page := range pages(t) {
		text := marked.ReplaceAllString(fence.ReplaceAllString(read(t, page), ""), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			checked++
			to := page
			if target != "" {
				to = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: the link %s leads nowhere", page, m[1])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(t, to), anchor) {
				t.Errorf("%s: the link %s names no heading of %s", page, m[1], to)
			}
		}
	}
	if checked < 30 {
		t.Fatalf("only %d links were found: the pattern is wrong", checked)
	}
}

// anchors are the headings of a page as GitHub names them in links.
func anchors(t *testing.T, page string) []string {
	t.Helper()
	if !strings.HasSuffix(page, ".md") {
		return nil
	}
	var all []string
	for _, m := range title.FindAllStringSubmatch(fence.ReplaceAllString(read(t, page), ""), -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])
		all = append(all, name)
	}
	return all
}

// TestEveryPageIsReached makes sure that a reader who starts at the README or
// at the index of the docs can get to every page under docs.
func TestEveryPageIsReached(t *testing.T) {
	reached := map[string]bool{}
	next := []string{"README.md"}
	for len(next) > 0 {
		page := next[0]
		next = next[1:]
		if reached[page] {
			continue
		}
		reached[page] = true
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(read(t, page), ""), -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") || !strings.HasSuffix(target, ".md") {
				continue
			}
			next = append(next, filepath.Join(filepath.Dir(page), target))
		}
	}
	for _, page := range pages(t) {
		if strings.HasPrefix(page, "docs/") && !reached[page] {
			t.Errorf("no way leads from README.md to %s", page)
		}
	}
}
