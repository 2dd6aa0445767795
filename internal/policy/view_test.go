package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-run/writ/internal/model"
)

func show(v View) string {
	var b strings.Builder
	for _, p := range v.Places {
		fmt.Fprintf(&b, "%s %s", p.Rights, p.Path)
		if p.Exact {
			b.WriteString(" only")
		}
		if p.Masked() {
			b.WriteString(" masked")
		} else if p.Narrowed() {
			b.WriteString(" narrowed")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestViewOfTheBuiltin(t *testing.T) {
	v, err := load(t, Builtin()...).View(testZones, theSubmission)
	if err != nil {
		t.Fatal(err)
	}
	want := `r-x /bin
r-x /etc/ssl
--- /etc/ssl/private masked
rwx /home/agent
rwx /home/me/project
r-x /lib
rwx /tmp
r-x /usr
`
	if diff := cmp.Diff(want, show(v)); diff != "" {
		t.Error(diff)
	}
}

func TestView(t *testing.T) {
	open := func(effect, resource, access string) string {
		s := effect + ` (principal, action == Writ::Action::"open", resource ` + resource + `)`
		if access != "" {
			s += ` when { context.access == "` + access + `" }`
		}
		return s + ";"
	}
	in := func(p string) string { return `in Writ::Directory::"` + p + `"` }
	is := func(p string) string { return `== Writ::File::"` + p + `"` }
	tests := []struct {
		name     string
		policies []string
		want     string
	}{
		{"nothing", []string{`permit (principal, action == Writ::Action::"start", resource);`}, ""},
		{"everything", []string{open("permit", "", "")}, "rwx /\n"},
		{"everything by name", []string{open("permit", in("/"), "")}, "rwx /\n"},
		{"a file", []string{open("permit", is("/etc/hosts"), "read")}, "r-- /etc/hosts only\n"},
		{"a directory", []string{open("permit", in("/srv"), "read")}, "r-- /srv\n"},
		{"within another, the same", []string{open("permit", in("/srv"), "read"), open("permit", in("/srv/a"), "read")}, "r-- /srv\n"},
		{"within another, more", []string{open("permit", in("/srv"), "read"), open("permit", in("/srv/a/b"), "write")}, "r-- /srv\nrw- /srv/a/b\n"},
		{"masked", []string{open("permit", in("/srv"), ""), open("forbid", in("/srv/secret"), "")}, "rwx /srv\n--- /srv/secret masked\n"},
		{"narrowed", []string{open("permit", in("/srv"), ""), open("forbid", in("/srv/.git"), "write")}, "rwx /srv\nr-x /srv/.git narrowed\n"},
		{"a file masked, its neighbour not", []string{open("permit", in("/srv"), "read"), open("forbid", is("/srv/key"), "")}, "r-- /srv\n--- /srv/key only masked\n"},
		{"forbidden where nothing is allowed", []string{open("permit", in("/srv"), ""), open("forbid", in("/etc"), "")}, "rwx /srv\n"},
		{"masked and opened again", []string{open("permit", `in Writ::Zone::"system"`, "read"), `forbid (principal, action == Writ::Action::"open", resource in Writ::Directory::"/usr/share") unless { resource in Writ::Directory::"/usr/share/doc" };`},
			"r-- /bin\nr-- /etc/ssl\nr-- /lib\nr-- /usr\n--- /usr/share masked\nr-- /usr/share/doc\n"},
		{"a name that begins like another", []string{open("permit", in("/srv"), "read"), open("forbid", in("/srv/a"), ""), open("permit", in("/srv/ab"), "write")}, "r-- /srv\n--- /srv/a masked\nrw- /srv/ab\n"},
		{"by the principal", []string{`permit (principal == Writ::Agent::"tester", action == Writ::Action::"open", resource in Writ::Directory::"/a");`, `permit (principal == Writ::Agent::"x", action == Writ::Action::"open", resource in Writ::Directory::"/b");`}, "rwx /a\n"},
		{"by a set", []string{`permit (principal, action == Writ::Action::"open", resource) when { [Writ::File::"/a", Writ::File::"/b"].contains(resource) && context.access == "read" };`}, "r-- /a only\nr-- /b only\n"},
		{"both file and directory", []string{open("permit", is("/srv"), "read"), open("permit", in("/srv"), "write")}, "-w- /srv\nrw- /srv only\n"},
		{"a failing policy", []string{open("permit", in("/srv"), "read"), `forbid (principal, action == Writ::Action::"open", resource in Writ::Directory::"/srv/x") when { 9223372036854775807 + 1 > 0 };`}, "r-- /srv\n--- /srv/x masked\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := load(t, policies(tt.policies...)).View(testZones, theSubmission)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, show(v)); diff != "" {
				t.Error(diff)
			}
			if got := len(v.Allowed()) + len(v.Masked()); got != len(v.Places) {
				t.Errorf("%d allowed or masked of %d", got, len(v.Places))
			}
		})
	}
}

func TestViewRefusesBadZones(t *testing.T) {
	l := load(t, Builtin()...)
	for _, z := range []Zones{{Workdir: "relative"}, {Tmp: "/tmp/"}, {Home: "/home/../etc"}, {System: []string{"/usr", "lib"}}} {
		if _, err := l.View(z, theSubmission); err == nil {
			t.Errorf("%+v: no error", z)
		}
	}
	if _, err := l.View(testZones, nil); err == nil {
		t.Error("no submission: no error")
	}
}

// TestViewIsExact compares the view of random policies with what the policies
// decide about random paths, among them those that lie on, beside, beneath and
// above everything that is named.
func TestViewIsExact(t *testing.T) {
	rounds := 150
	if testing.Short() {
		rounds = 50
	}
	names := []string{"a", "b", "ab", "0", "1", "z"}
	for round := range rounds {
		rng := rand.New(rand.NewPCG(11, uint64(round)))
		path := func() string {
			p := ""
			for range rng.IntN(5) {
				p += "/" + pick(rng, names...)
			}
			if p == "" {
				return "/"
			}
			return p
		}
		zones := Zones{Workdir: path(), Home: path()}
		if rng.IntN(2) == 0 {
			zones.Tmp, zones.System = path(), []string{path(), path()}
		}
		for range rng.IntN(3) {
			zones.Shown = append(zones.Shown, path())
		}
		test := func() string {
			return pick(rng, `resource in Writ::Directory::"`+path()+`"`, `resource == Writ::File::"`+path()+`"`, `resource in Writ::Zone::"`+pick(rng, zoneNames...)+`"`,
				`context.access == "`+pick(rng, "read", "write", "execute")+`"`, `principal.host == "builder"`, `[Writ::File::"`+path()+`"].contains(resource)`,
				`resource in [Writ::Directory::"`+path()+`", Writ::Directory::"`+path()+`"]`, `9223372036854775807 + 1 > 0`)
		}
		var lines []string
		for range 1 + rng.IntN(8) {
			line := pick(rng, "permit", "permit", "forbid") + ` (principal, action == Writ::Action::"open", ` +
				pick(rng, `resource`, `resource == Writ::File::"`+path()+`"`, `resource in Writ::Directory::"`+path()+`"`, `resource in Writ::Zone::"`+pick(rng, zoneNames...)+`"`) + ")"
			for range rng.IntN(3) {
				line += pick(rng, " when { ", " unless { ") + test() + pick(rng, " && ", " || ") + test() + " }"
			}
			lines = append(lines, line+";")
		}
		var rules []*rule
		for _, line := range lines {
			more, problems := loadSource(policies(line))
			if len(problems) > 0 {
				continue // a random policy that the validator finds fault with
			}
			more[0].ref.ID = fmt.Sprint(len(rules))
			rules = append(rules, more...)
		}
		l := &Loaded{rules: rules, index: newIndex(rules)}
		v, err := l.View(zones, theSubmission)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := l.View(zones, theSubmission)
		if diff := cmp.Diff(v, again); diff != "" {
			t.Fatalf("round %d: the view differs from run to run:\n%s", round, diff)
		}
		for range 400 {
			p := path()
			var want Rights
			for a := model.AccessRead; a <= model.AccessExecute; a++ {
				r := model.Request{Kind: model.ActionOpen, Submission: theSubmission, Resource: model.Resource{Kind: model.ResourceFile, ID: p, Zones: zones.Of(p), Access: a}}
				if l.decide(&r, false).Allow {
					want |= 1 << (a - model.AccessRead)
				}
			}
			if got := v.At(p); got != want {
				t.Fatalf("round %d: at %s the view says %s, the policies %s\nzones %+v\n%s\n%s", round, p, got, want, zones, strings.Join(lines, "\n"), show(v))
			}
		}
		for i, p := range v.Places {
			if p.Rights == p.Around || p.Around != (View{Places: v.Places[:i]}).At(p.Path) {
				t.Fatalf("round %d: place %+v says nothing, or the wrong surroundings", round, p)
			}
		}
	}
}

func TestZonesOf(t *testing.T) {
	z := Zones{System: []string{"/usr", "/"}, Workdir: "/usr/src", Tmp: "/tmp"}
	for p, want := range map[string][]model.Zone{
		"/":           {model.ZoneSystem},
		"/usr/src":    {model.ZoneSystem, model.ZoneWorkdir},
		"/usr/src/x":  {model.ZoneSystem, model.ZoneWorkdir},
		"/usr/srcx":   {model.ZoneSystem},
		"/tmp/x":      {model.ZoneSystem, model.ZoneTmp},
		"/home/agent": {model.ZoneSystem},
	} {
		if diff := cmp.Diff(want, z.Of(p)); diff != "" {
			t.Errorf("%s: %s", p, diff)
		}
	}
	// The host's places inside of its own directories are not its own.
	z = Zones{Workdir: "/tmp/work", Tmp: "/tmp", Home: "/home/agent", Shown: []string{"/home/agent/.gitconfig", "/tmp"}}
	for p, want := range map[string][]model.Zone{
		"/tmp": {model.ZoneTmp}, "/tmp/x": {model.ZoneTmp}, "/tmp/work": {model.ZoneWorkdir}, "/tmp/work/x": {model.ZoneWorkdir}, "/tmp/workx": {model.ZoneTmp},
		"/home/agent/x": {model.ZoneHome}, "/home/agent/.gitconfig": nil, "/home/agent/.gitconfig/x": nil, "/home/agent/.gitconfig2": {model.ZoneHome},
	} {
		if diff := cmp.Diff(want, z.Of(p)); diff != "" {
			t.Errorf("%s: %s", p, diff)
		}
	}
	if got := z.Inside([]string{"/tmp", "/tmp/a", "/srv", "/home/agent/b"}); !slices.Equal(got, []string{"/tmp/a", "/home/agent/b"}) {
		t.Errorf("inside: %v", got)
	}
	if got := (Zones{}).Of("/x"); got != nil {
		t.Errorf("no zones: %v", got)
	}
}
