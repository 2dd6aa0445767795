package verify_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/writ-run/writ/internal/evidence/testlog"
	"github.com/writ-run/writ/internal/evidence/verify"
	"github.com/writ-run/writ/internal/model"
)

func show(t *testing.T, r verify.Result) string {
	t.Helper()
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func options(keys testlog.Keys) verify.Options {
	return verify.Options{Trust: keys.Trust(), Load: testlog.Load, Engine: testlog.Engine}
}

func TestWholeLogIsValid(t *testing.T) {
	keys, dir := testlog.NewKeys(1), t.TempDir()
	life := testlog.Whole(t, keys)
	for _, size := range []int64{0, 4096} {
		path := filepath.Join(dir, "log", string(rune('a'+size%7)))
		opts := keys.LogOptions(filepath.Join(dir, "second", string(rune('a'+size%7))))
		opts.SegmentSize = size
		life.Write(path, opts)
		r := verify.Log(path, options(keys))
		if r.Verdict != verify.Valid || r.Records != life.Book.Next || !r.Replayed || r.Phase != model.Completed {
			t.Fatal(show(t, r))
		}
		t.Log(show(t, r))
	}
}
