package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree makes files (content), directories (name/) and links (name -> target)
// in a new directory, and returns it.
func tree(t *testing.T, entries ...string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name, to, link := strings.Cut(e, " -> ")
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case err != nil:
		case link:
			err = os.Symlink(strings.ReplaceAll(to, "DIR", dir), path)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		default:
			err = os.WriteFile(path, nil, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// places reads "rwx path" lines, DIR being dir; "?" makes one optional.
func places(dir string, lines ...string) []Place {
	var list []Place
	for _, l := range lines {
		rights, path, _ := strings.Cut(l, " ")
		list = append(list, Place{
			Path: strings.ReplaceAll(path, "DIR", dir),
			Read: strings.Contains(rights, "r"), Write: strings.Contains(rights, "w"), Execute: strings.Contains(rights, "x"),
			Optional: strings.Contains(rights, "?"),
		})
	}
	return list
}

// shown writes the mounts below dir as lines.
func shown(p Plan, dir string) []string {
	var lines []string
	for _, m := range p.Mounts {
		if !under(m.Path, dir) {
			continue
		}
		rights := ""
		for _, r := range []struct {
			has  bool
			name string
		}{{m.Read, "r"}, {m.Write, "w"}, {m.Execute, "x"}} {
			if r.has {
				rights += r.name
			}
		}
		lines = append(lines, string(m.Kind)+" "+rights+" "+strings.ReplaceAll(m.Path, dir, "DIR"))
	}
	for _, l := range p.Links {
		if under(l.At, dir) {
			lines = append(lines, strings.ReplaceAll(l.At+" -> "+l.To, dir, "DIR"))
		}
	}
	return lines
}

func TestResolve(t *testing.T) {
	for _, c := range []struct {
		name    string
		tree    []string
		places  []string
		private []string
		hidden  []string
		want    []string
	}{
		{"parents come first", []string{"a/b/c/"}, []string{"rw DIR/a/b/c", "r DIR/a"}, nil, nil,
			[]string{"bind r DIR/a", "bind rw DIR/a/b/c"}},
		{"the same again is nothing", []string{"a/b/c/"}, []string{"rx DIR/a", "rx DIR/a/b", "r DIR/a/b/c"}, nil, nil,
			[]string{"bind rx DIR/a", "bind r DIR/a/b/c"}},
		{"nothing inside something is hidden", []string{"a/b", "a/c/"}, []string{"rw DIR/a", " DIR/a/b", " DIR/a/c"}, nil, nil,
			[]string{"bind rw DIR/a", "empty  DIR/a/b", "empty  DIR/a/c"}},
		{"nothing outside is not there", []string{"a/"}, []string{" DIR/a"}, nil, nil, nil},
		{"not readable inside readable is hidden", []string{"a/b"}, []string{"r DIR/a", "w DIR/a/b"}, nil, nil,
			[]string{"bind r DIR/a", "empty  DIR/a/b"}},
		{"not readable by itself is not", []string{"a/b"}, []string{"x DIR/a/b"}, nil, nil, []string{"bind x DIR/a/b"}},
		{"allowed inside hidden inside allowed", []string{"a/b/c/"}, []string{"rw DIR/a", " DIR/a/b", "r DIR/a/b/c"}, nil, nil,
			[]string{"bind rw DIR/a", "empty  DIR/a/b", "bind r DIR/a/b/c"}},
		{"what is on the way cannot be renamed", []string{"a/b/c/d", "a/b/e/"}, []string{"rwx DIR/a", "r DIR/a/b/c/d", "rw DIR/a/b/e"}, nil, nil,
			[]string{"bind rwx DIR/a", "pin rwx DIR/a/b", "pin rwx DIR/a/b/c", "bind r DIR/a/b/c/d", "bind rw DIR/a/b/e"}},
		{"nor on the way to what is hidden", []string{"a/b/state/"}, []string{"rw DIR/a"}, nil, []string{"DIR/a/b/state"},
			[]string{"bind rw DIR/a", "pin rw DIR/a/b", "empty  DIR/a/b/state"}},
		{"nor in a private directory", []string{"home/src/work/"}, []string{"rw DIR/home/src/work"}, []string{"DIR/home"}, nil,
			[]string{"fresh rw DIR/home", "pin rw DIR/home/src", "bind rw DIR/home/src/work"}},
		{"where nothing can be renamed, nothing is pinned", []string{"a/b/c/d"}, []string{"r DIR/a", "rw DIR/a/b/c/d"}, nil, nil,
			[]string{"bind r DIR/a", "bind rw DIR/a/b/c/d"}},
		{"links are followed and kept", []string{"real/sub/", "link -> real", "abs -> DIR/real/sub"}, []string{"r DIR/link/sub", "x DIR/abs"}, nil, nil,
			[]string{"bind rx DIR/real/sub", "DIR/abs -> DIR/real/sub", "DIR/link -> real"}},
		{"a link up", []string{"a/b/", "a/up -> ../c", "c/d/"}, []string{"r DIR/a/up/d"}, nil, nil,
			[]string{"bind r DIR/c/d", "DIR/a/up -> ../c"}},
		{"private with a place inside", []string{"home/work/"}, []string{"rw DIR/home/work"}, []string{"DIR/home"}, nil,
			[]string{"fresh rw DIR/home", "bind rw DIR/home/work"}},
		{"private that is a place", []string{"home/"}, []string{"rw DIR/home"}, []string{"DIR/home"}, nil,
			[]string{"bind rw DIR/home"}},
		{"private that is not on the host", nil, nil, []string{"DIR/none/at/all"}, nil, []string{"fresh rw DIR/none/at/all"}},
		{"hidden inside", []string{"a/state/key"}, []string{"rw DIR/a"}, nil, []string{"DIR/a/state", "DIR/gone"},
			[]string{"bind rw DIR/a", "empty  DIR/a/state"}},
		{"hidden by another name", []string{"a/state/key", "s -> a/state"}, []string{"rw DIR/a"}, nil, []string{"DIR/s"},
			[]string{"bind rw DIR/a", "empty  DIR/a/state", "DIR/s -> a/state"}},
		{"optional that is not there", nil, []string{"r? DIR/gone", "r? DIR/gone/too"}, nil, nil, nil},
		{"own directories need no place", nil, []string{"rw /proc", "rw /dev"}, nil, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tree(t, c.tree...)
			config := Config{Places: places(dir, c.places...)}
			for _, p := range c.private {
				config.Private = append(config.Private, Private{Path: strings.ReplaceAll(p, "DIR", dir)})
			}
			for _, h := range c.hidden {
				config.Hidden = append(config.Hidden, strings.ReplaceAll(h, "DIR", dir))
			}
			plan, err := Resolve(config)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, shown(plan, dir)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWhatIsFixedIsNotWritable(t *testing.T) {
	dir := tree(t, "w/a/policy", "w/bin/writ", "link -> w/bin/writ", "w/named", "r/f", "w/p/")
	plan, err := Resolve(Config{
		Places: places(dir, "rwx DIR/w", "rw DIR/w/named", "r DIR/r"),
		Fixed:  []string{dir + "/w/a/policy", dir + "/link", dir + "/w/named", dir + "/r/f", dir + "/gone", dir + "/w/p", dir + "/w/a/policy", dir + "/w"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"bind r DIR/r", "bind rwx DIR/w", "pin rwx DIR/w/a", "bind rx DIR/w/a/policy", "pin rwx DIR/w/bin", "bind rx DIR/w/bin/writ",
		"bind r DIR/w/named", "bind rx DIR/w/p",
	}
	if d := cmp.Diff(want, shown(plan, dir)); d != "" {
		t.Error(d)
	}
}

func TestResolveRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		tree   []string
		places []string
		hidden []string
		want   string
	}{
		{"missing", nil, []string{"r DIR/gone"}, nil, "no such file"},
		{"below a file", []string{"a"}, []string{"r DIR/a/b"}, nil, "not a directory"},
		{"a loop", []string{"a -> b", "b -> a"}, []string{"r DIR/a"}, nil, "too many symbolic links"},
		{"a link in a writable place", []string{"w/in -> /etc"}, []string{"rw DIR/w", "rw DIR/w/in"}, nil, "could have made"},
		{"the same, on the way", []string{"w/in -> /", "x -> w/in"}, []string{"rw DIR/w", "r DIR/x/etc"}, nil, "could have made"},
		{"a hidden place", []string{"s/"}, []string{"r DIR/s"}, []string{"DIR/s"}, "kept from every workload"},
		{"inside a hidden place", []string{"s/work/"}, []string{"rw DIR/s/work"}, []string{"DIR/s"}, "kept from every workload"},
		{"relative", nil, []string{"r etc"}, nil, "clean absolute"},
		{"not clean", nil, []string{"r /etc/"}, nil, "clean absolute"},
		{"of /proc", nil, []string{"r /proc/sys"}, nil, "of its own"},
		{"writing /sys", nil, []string{"rw /sys"}, nil, "changes the host"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tree(t, c.tree...)
			config := Config{Places: places(dir, c.places...)}
			for _, h := range c.hidden {
				config.Hidden = append(config.Hidden, strings.ReplaceAll(h, "DIR", dir))
			}
			_, err := Resolve(config)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) || e.Hint == "" {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestRules(t *testing.T) {
	dir := tree(t, "a/hidden/", "a/b/", "f", "x/")
	plan, err := Resolve(Config{Places: places(dir, "r DIR/a", " DIR/a/hidden", "rw DIR/a/b", "r DIR/f")})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	listed := false
	for _, r := range plan.Rules() {
		listed = listed || r.Path == "/" && r.List && !r.Read && !r.Write && !r.Execute
		if under(r.Path, dir) {
			got = append(got, strings.ReplaceAll(r.Path, dir, "DIR"))
		}
		if r.Path == "/proc" && (r.Write || r.Execute) {
			t.Error("/proc can be written to")
		}
	}
	if d := cmp.Diff([]string{"DIR/a", "DIR/a/b", "DIR/f"}, got); d != "" || !listed {
		t.Error(d, listed)
	}
	plan, err = Resolve(Config{Places: places(dir, "x DIR/x")})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range plan.Rules() {
		if r.List {
			t.Error("names of a place that may not be read can be listed")
		}
	}
}
