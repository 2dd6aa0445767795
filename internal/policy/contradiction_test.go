package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/policy/text"
)

func TestContradictions(t *testing.T) {
	const permit, forbid = `permit (principal, action == Writ::Action::"exec", %s);`, `forbid (principal, action == Writ::Action::"exec", %s);`
	dir, zone := func(p string) string { return `resource in Writ::Directory::"` + p + `"` }, `resource in Writ::Zone::"tmp"`
	file := func(p string) string { return `resource == Writ::Executable::"` + p + `"` }
	is := "resource is Writ::Executable"
	tests := []struct {
		permit, forbid string
		void           bool
	}{
		{"resource", "resource", true}, {is, "resource", true}, {dir("/a"), "resource", true}, {"resource", is, false}, {is, is, true},
		{file("/a/b"), is, true}, {is + " in " + dir("/a")[12:], is, true}, {dir("/a"), is, false}, // any resource of exec is one, but heads are compared by their text
		{file("/a/b"), file("/a/b"), true}, {file("/a/b"), file("/a/c"), false}, {file("/a/b"), dir("/a"), true}, {file("/a/b"), dir("/a/b"), true}, {file("/ab"), dir("/a"), false},
		{file("/a/b"), is + " in " + dir("/a")[12:], true}, {dir("/a/b"), dir("/a"), true}, {dir("/a"), dir("/a/b"), false}, {dir("/a"), dir("/"), true},
		{is + " in " + dir("/a/b")[12:], dir("/a"), true}, {is + " in " + dir("/a/b")[12:], is + " in " + dir("/a")[12:], true}, {zone, zone, true}, {zone, dir("/tmp"), false}, {dir("/tmp"), zone, false},
	}
	for _, tt := range tests {
		b, err := NewBundle([]Source{policies(fmt.Sprintf(permit, tt.permit), fmt.Sprintf(forbid, tt.forbid))}, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Load(b)
		if void := err != nil && err.(Problems).Has(text.CodeContradiction); void != tt.void {
			t.Errorf("permit %s against forbid %s: void %v, %v", tt.permit, tt.forbid, void, err)
		}
	}
}

// TestContradictionsAreReal: where a permit is called void, the forbid does match
// everything that it matches.
func TestContradictionsAreReal(t *testing.T) {
	requests := allKinds()
	found := 0
	for round := range 1500 {
		rng := rand.New(rand.NewPCG(3, uint64(round)))
		one := randomPolicy(rng)
		body := one[strings.IndexByte(one, '(')+1:]
		other := body
		if rng.IntN(2) == 0 { // widen it
			other = strings.Replace(other, pick(rng, `principal == Writ::Agent::"tester"`, `principal in Writ::Operator::"olga"`), "principal", 1)
		}
		if i := strings.LastIndex(other, " when {"); i > 0 && rng.IntN(2) == 0 {
			other = other[:i] + ";"
		}
		if rng.IntN(4) == 0 {
			another := randomPolicy(rng)
			other = another[strings.IndexByte(another, '(')+1:]
		}
		p, bad := loadSource(policies("permit (" + body))
		f, worse := loadSource(policies("forbid (" + other))
		if len(bad)+len(worse) > 0 {
			continue
		}
		f[0].ref.ID = "forbid"
		if len(checkContradictions(slices.Concat(p, f))) == 0 {
			continue
		}
		found++
		rules := slices.Concat(p, f)
		l := &Loaded{rules: rules, index: newIndex(rules)}
		for _, r := range requests {
			if d := l.Decide(r); d.Allow {
				t.Fatalf("called void, yet %s is allowed:\npermit (%s\nforbid (%s", r.Kind, body, other)
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d contradictions: the test tests too little", found)
	}
}

func TestNamedAndClaim(t *testing.T) {
	l := load(t, policies(
		`permit (principal, action == Writ::Action::"open", resource in Writ::Directory::"/srv/a") when { resource != Writ::File::"/srv/a/b" };`,
		`permit (principal, action == Writ::Action::"exec", resource in Writ::Directory::"/opt");`, `permit (principal, action == Writ::Action::"open", resource in Writ::Directory::"/");`))
	if got := l.Named(); !slices.Equal(got, []string{"/srv/a", "/srv/a/b"}) {
		t.Errorf("%v", got)
	}
	if c := l.Claim(); c.Bundle != l.Digest() || c.Version != 1 || c.Expires != 0 {
		t.Errorf("%+v", c)
	}
	if r := Read | Execute; !r.Has(Read) || r.Has(Read|Write) || r.String() != "r-x" {
		t.Errorf("%s", r)
	}
	if got := l.Policies(); len(got) != 3 || !got[1].Permit || !slices.Equal(got[1].Actions, []model.ActionKind{model.ActionExec}) || got[1].Ref.Line != 2 {
		t.Errorf("%+v", got)
	}
}
