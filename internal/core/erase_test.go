package core

import (
	"testing"

	"github.com/writ-run/writ/internal/model"
)

// An order to erase what is kept apart from the record is put on record, and
// changes nothing.
func TestErasureChangesNothing(t *testing.T) {
	m := New(nil)
	sub := model.Submission{
		Execution: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Boot: "b", Agent: "a", Operator: "o", Argv: []string{"a"}, Dir: "/", Tier: model.TierUser, Bundle: model.Digest{1}, Grant: model.Digest{1},
		Settings: model.Settings{LeaseLength: 9, RenewEvery: 1, KillGrace: 1, AdmitWithin: 9, PauseLimit: 1},
	}
	m.Step(model.Input{Kind: model.InputSubmit, Mono: 1, Submission: &sub})
	before := m.Status()
	if effects := m.Step(model.Input{Kind: model.InputOrder, Mono: 2, Order: &model.Order{Kind: model.OrderErase, Operator: "op"}}); len(effects) != 0 {
		t.Fatalf("%+v", effects)
	}
	if after := m.Status(); after.Phase != before.Phase || after.Since != before.Since {
		t.Fatalf("%+v", after)
	}
}
