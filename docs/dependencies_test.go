package docs_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var moduleRow = regexp.MustCompile("(?m)^\\| (`[^|]*`) \\|")

// TestDependenciesHaveReasons makes sure that everything imported from elsewhere
// has a line of reason, and that no line is about something unused.
func TestDependenciesHaveReasons(t *testing.T) {
	used := map[string]bool{} // by module with a reason
	for _, row := range moduleRow.FindAllStringSubmatch(read(t, "docs/adr/0007-libraries.md"), -1) {
		for m := range strings.SplitSeq(row[1], ", ") {
			used[strings.Trim(m, "`")] = false
		}
	}
	if len(used) < 10 {
		t.Fatalf("these cannot be all modules: %v", used)
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata" || name == "tools") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			host, _, _ := strings.Cut(name, "/")
			if !strings.Contains(host, ".") || name == "github.com/writ-run/writ" || strings.HasPrefix(name, "github.com/writ-run/writ/") {
				continue
			}
			found := false
			for m := range used {
				if name == m || strings.HasPrefix(name, m+"/") {
					used[m], found = true, true
				}
			}
			if !found {
				t.Errorf("%s imports %s, for which docs/adr/0007-libraries.md gives no reason", path, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for m, is := range used {
		if !is {
			t.Errorf("docs/adr/0007-libraries.md gives a reason for %s, which nothing imports", m)
		}
	}
}
