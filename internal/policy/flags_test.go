package policy

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/google/go-cmp/cmp"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/policy/text"
)

func TestExtra(t *testing.T) {
	source, err := Extra([]string{"/srv/data"}, []string{"/var/cache/app"}, []string{"/opt/tool"}, []string{"localhost:8080", "10.0.0.1:443", "[::1]:53", "/run/app.sock"})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/extra.golden", source)
	l := load(t, append(Builtin(), Source{Name: ExtraName, Text: []byte(source)})...)
	tests := []struct {
		request model.Request
		allow   bool
		via     string
	}{
		{openRequest("/srv/data/x", model.AccessRead), true, ""},
		{openRequest("/srv/data/x", model.AccessWrite), false, ""},
		{openRequest("/srv/data/x", model.AccessExecute), false, ""},
		{openRequest("/var/cache/app", model.AccessRead), true, ""},
		{openRequest("/var/cache/app/x", model.AccessWrite), true, ""},
		{openRequest("/opt/tool/bin/x", model.AccessExecute), true, ""},
		{openRequest("/opt/tool/bin/x", model.AccessWrite), false, ""},
		{execRequest("/opt/tool/bin/x", "x"), true, ""},
		{execRequest("/srv/data/x", "x"), false, ""},
		{hostRequest("127.0.0.1", 8080), true, "host"},
		{hostRequest("::1", 8080), true, "host"},
		{hostRequest("::1", 53), true, "host"},
		{hostRequest("127.0.0.1", 8081), true, ""}, // built in: its own loopback
		{hostRequest("10.0.0.1", 443), true, "host"},
		{hostRequest("10.0.0.1", 80), false, ""},
		{hostRequest("10.0.0.2", 443), false, ""},
		{unixRequest("/run/app.sock"), true, ""},
		{unixRequest("/run/other.sock"), false, ""},
		{openRequest("/run/app.sock", model.AccessWrite), true, ""},
	}
	for _, tt := range tests {
		d := l.Decide(tt.request)
		if d.Allow != tt.allow || d.Obligation("via") != tt.via {
			t.Errorf("%s %s: %+v", tt.request.Kind, tt.request.Resource.ID, d)
		}
	}

	again, err := Extra([]string{"/srv/data", "/srv/data"}, []string{"/var/cache/app"}, []string{"/opt/tool"}, []string{"/run/app.sock", "[::1]:53", "[::ffff:10.0.0.1]:443", "10.0.0.1:443", "localhost:8080"})
	if err != nil || again != source {
		t.Errorf("the same flags in another order or twice: %v\n%s", err, cmp.Diff(source, again))
	}
	if none, err := Extra(nil, nil, nil, nil); none != "" || err != nil {
		t.Errorf("no flags: %q, %v", none, err)
	}
}

func TestExtraRefuses(t *testing.T) {
	var b strings.Builder
	for _, p := range []string{"relative", "", "/a/../b", "/a/", "/a\x00b", "/a\xff", "/" + strings.Repeat("x", 5000)} {
		for i, args := range [][3][]string{{{p}}, {nil, {p}}, {nil, nil, {p}}} {
			_, err := Extra(args[0], args[1], args[2], nil)
			ps, ok := errors.AsType[Problems](err)
			if !ok || !ps.Has(text.CodeFlag) {
				t.Errorf("flag %d, %q: %v", i, p, err)
			} else if i == 0 {
				b.WriteString(err.Error() + "\n")
			}
		}
	}
	for _, c := range []string{"", "example.org:443", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:080", "10.0.0.1:http", ":80", "[fe80::1%eth0]:80", "10.0.0.0/8:443", "1:2:3", "/run/../x", "*:80"} {
		_, err := Extra(nil, nil, nil, []string{c})
		if ps, ok := errors.AsType[Problems](err); !ok || !ps.Has(text.CodeFlag) {
			t.Errorf("%q: %v", c, err)
		} else {
			b.WriteString(err.Error() + "\n")
		}
	}
	golden(t, "testdata/extra-refused.golden", b.String())
}

// A grant on the command line that a policy overrides says so: it does not
// silently have no effect.
func TestExtraAgainstAForbid(t *testing.T) {
	source, err := Extra(nil, nil, nil, []string{"10.0.0.1:443"})
	if err != nil {
		t.Fatal(err)
	}
	ps := loadErr(t, append(Builtin(), Source{Name: ExtraName, Text: []byte(source)}, Source{Name: "team.cedar", Text: []byte(`@id("offline") forbid (principal, action == Writ::Action::"connect", resource);`)})...)
	if !ps.Has(text.CodeContradiction) || !strings.Contains(ps.Error(), `"offline" at team.cedar:1`) {
		t.Errorf("%v", ps)
	}
}

// FuzzExtra tries to make a value on the command line into more than the name
// that it is: whatever it is, it gives the policies of its flag about exactly
// that name, or none.
func FuzzExtra(f *testing.F) {
	for _, s := range []string{"/srv", `/srv"; permit (principal, action, resource); //`, `/a" }; permit(principal,action,resource) when { "" == "`, "/a\\", "/a\\\"", "/a\n@id(\"x\")", "/\u202e/x", "/café", "/\\u{0}", "/a*b", "10.0.0.1:80", "[::1]:1", "/a (its files)", "/\x7f"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, p, q string) {
		if source, err := Extra([]string{p}, []string{p}, []string{p, q}, nil); err == nil {
			l := load(t, Source{Name: ExtraName, Text: []byte(source)})
			want := 4
			if p != q {
				want = 6
			}
			if len(l.rules) != want {
				t.Fatalf("%d policies, want %d:\n%s", len(l.rules), want, source)
			}
			for _, r := range l.rules {
				scope, ok := r.ast.Resource.(ast.ScopeTypeIn)
				if !ok || !r.permits() || scope.Entity.Type != typeDirectory || scope.Entity.ID != types.String(p) && scope.Entity.ID != types.String(q) {
					t.Fatalf("a policy about something else:\n%s", source)
				}
				if r.actions.kinds()[0] == model.ActionOpen != (len(r.ast.Conditions) == 1) || len(r.actions.kinds()) != 1 {
					t.Fatalf("a policy with other conditions:\n%s", source)
				}
			}
		}
		if source, err := Extra(nil, nil, nil, []string{p, q}); err == nil {
			l := load(t, Source{Name: ExtraName, Text: []byte(source)})
			for _, r := range l.rules {
				scope, ok := r.ast.Resource.(ast.ScopeTypeEq)
				if !ok || !r.permits() || !slices.Contains([]types.EntityType{typeHost, typeFile}, scope.Entity.Type) {
					t.Fatalf("a policy about something else:\n%s", source)
				}
				if scope.Entity.Type == typeFile && scope.Entity.ID != types.String(p) && scope.Entity.ID != types.String(q) {
					t.Fatalf("a policy about another file:\n%s", source)
				}
			}
		}
	})
}
