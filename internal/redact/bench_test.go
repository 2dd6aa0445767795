package redact

import (
	"testing"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/policy/settings"
)

func BenchmarkAction(b *testing.B) {
	r := New(settings.Redact{})
	a := model.Action{Args: []string{"gcc", "-O2", "-o", "/home/user/project/build/main.o", "-c", "/home/user/project/src/main.c", "-I/usr/include/x", "-DNAME=value"}}
	b.ReportAllocs()
	for b.Loop() {
		r.Action(a)
	}
}
