package policy

import "testing"

func TestBuiltinLoads(t *testing.T) {
	b, err := NewBundle(Builtin(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(b); err != nil {
		t.Fatal(err)
	}
	t.Log(EngineDigest())
}
