package record_test

import (
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
	"github.com/writ-run/writ/internal/evidence/record"
	"github.com/writ-run/writ/internal/model"
)

type refusing struct{}

func (refusing) Sign([]byte) ([]byte, error) { return nil, errors.New("no key") }

func TestStep(t *testing.T) {
	private := ed25519.NewKeyFromSeed(make([]byte, 32))
	signer, _, err := checkpoint.NewSigner("host/governor", private)
	if err != nil {
		t.Fatal(err)
	}
	bundle, grant := model.DigestOf([]byte("b")), model.DigestOf([]byte("g"))
	b := record.Book{Execution: "e", Boot: "boot", Engine: model.DigestOf(nil), Signer: signer, Next: 7}
	in := model.Input{Kind: model.InputSubmit, Mono: 5, Wall: 6, Submission: &model.Submission{Bundle: bundle, Grant: grant}}
	lease := model.Lease{Seq: 1, Bundle: bundle, Grant: grant}
	effects := []model.Effect{
		{Number: 1, Kind: model.EffectPhase, Phase: model.Requested},
		{Number: 2, Kind: model.EffectDecision, Ruling: &model.Ruling{Bundle: bundle}},
		{Number: 3, Kind: model.EffectLease, Lease: &lease},
	}
	got, err := b.Step(in, effects)
	if err != nil {
		t.Fatal(err)
	}
	base := model.Record{Execution: "e", Mono: 5, Wall: 6, Boot: "boot", Engine: model.DigestOf(nil)}
	want := []model.Record{base, base, base, base}
	for i := range want {
		want[i].Seq = 7 + uint64(i)
	}
	want[0].Kind, want[0].Body, want[0].Deps = model.RecordInput, model.Encode(in), []model.Digest{bundle, grant}
	want[1].Kind, want[1].Body = model.RecordEffect, model.Encode(effects[0])
	want[2].Kind, want[2].Body, want[2].Deps = model.RecordDecision, model.Encode(effects[1]), []model.Digest{bundle}
	signature := ed25519.Sign(private, model.Encode(lease))
	want[3].Kind, want[3].Deps = model.RecordLease, []model.Digest{bundle, grant}
	want[3].Body = model.Encode(model.SignedLease{Effect: effects[2], Signature: signature})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if h := b.Heartbeat(record.Time{Mono: 9, Wall: 10}, model.Heartbeat{Every: 1}); h.Seq != 11 || h.Mono != 9 || h.Kind != model.RecordHeartbeat {
		t.Fatalf("%+v", h)
	}
}

// TestFailedStepTakesNoNumbers: the caller may still record what went wrong.
func TestFailedStepTakesNoNumbers(t *testing.T) {
	for _, signer := range []record.LeaseSigner{nil, refusing{}} {
		b := record.Book{Execution: "e", Signer: signer, Next: 7}
		effects := []model.Effect{{Number: 1, Kind: model.EffectThaw}, {Number: 2, Kind: model.EffectLease, Lease: &model.Lease{}}}
		if _, err := b.Step(model.Input{Kind: model.InputTick}, effects); err == nil || b.Next != 7 {
			t.Fatalf("%v, next %d", err, b.Next)
		}
	}
}
