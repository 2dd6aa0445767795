package envelope

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/policy/text"
)

func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func public(seed byte) ed25519.PublicKey { return key(seed).Public().(ed25519.PublicKey) }

var (
	claim   = Claim{Bundle: model.DigestOf([]byte("bundle")), Version: 5, Expires: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()}
	trusted = []Key{{Name: "other", Public: public(1)}, {Name: "host/operator", Public: public(2)}}
	now     = time.Date(2029, 12, 31, 23, 59, 59, 0, time.UTC).UnixNano()
)

func sign(t *testing.T, c Claim, seed byte) []byte {
	t.Helper()
	e, err := Sign(c, "host/operator", key(seed))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSignAndVerify(t *testing.T) {
	for _, c := range []Claim{claim, {Bundle: claim.Bundle, Version: 1}, {Bundle: claim.Bundle, Version: math.MaxUint64, Expires: now + 1}} {
		got, err := Verify(sign(t, c, 2), c, trusted, now, Seen{})
		if err != nil || got.Claim != c || got.Signer != "host/operator" || got.Seen() != (Seen{Version: c.Version, Bundle: c.Bundle}) {
			t.Errorf("%+v: %v", got, err)
		}
	}
	// The signer calls itself otherwise than the host knows it: the key counts.
	if got, err := Verify(sign(t, claim, 1), claim, trusted, now, Seen{}); err != nil || got.Signer != "other" {
		t.Errorf("%+v: %v", got, err)
	}
	if !bytes.Equal(sign(t, claim, 2), sign(t, claim, 2)) {
		t.Error("signing twice gives two envelopes")
	}
}

func TestSignRefuses(t *testing.T) {
	for name, try := range map[string]func() ([]byte, error){
		"no digest":  func() ([]byte, error) { return Sign(Claim{Version: 1}, "x", key(1)) },
		"no version": func() ([]byte, error) { return Sign(Claim{Bundle: claim.Bundle}, "x", key(1)) },
		"no key":     func() ([]byte, error) { return Sign(claim, "x", nil) },
		"no name":    func() ([]byte, error) { return Sign(claim, "", key(1)) },
	} {
		if _, err := try(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	good := sign(t, claim, 2)
	var e dsse.Envelope
	if err := json.Unmarshal(good, &e); err != nil {
		t.Fatal(err)
	}
	with := func(change func(*dsse.Envelope)) []byte {
		c := e
		c.Signatures = slices.Clone(e.Signatures)
		change(&c)
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	// payload signs any statement with a trusted key.
	payload := func(body string) []byte {
		s, err := dsse.NewEnvelopeSigner(&keyPair{name: "x", private: key(2)})
		if err != nil {
			t.Fatal(err)
		}
		e, err := s.SignPayload(context.Background(), PayloadType, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(e)
		return b
	}
	body, _ := base64.StdEncoding.DecodeString(e.Payload)
	other := claim
	other.Bundle = model.DigestOf([]byte("other"))
	newer := claim
	newer.Version++
	longer := claim
	longer.Expires++
	const what = "policies"
	tests := []struct {
		name     string
		envelope []byte
		code     text.Code
		says     string
	}{
		{"nothing", nil, text.CodeUnsigned, "not signed"},
		{"blanks", []byte(" \n"), text.CodeUnsigned, "not signed"},
		{"no signature", with(func(e *dsse.Envelope) { e.Signatures = nil }), text.CodeUnsigned, "without a signature"},
		{"not JSON", []byte("{"), text.CodeWrongSignature, "decode"},
		{"unknown field", append([]byte(`{"x":1,`), good[1:]...), text.CodeWrongSignature, "unknown field"},
		{"two values", append(slices.Clone(good), good...), text.CodeWrongSignature, "more than one"},
		{"too long", append(slices.Clone(good), bytes.Repeat([]byte(" "), 70<<10)...), text.CodeWrongSignature, "64 KiB"},
		{"unknown key", sign(t, claim, 9), text.CodeWrongSignature, "no trusted key"},
		{"other payload type", with(func(e *dsse.Envelope) { e.PayloadType = "text/plain" }), text.CodeWrongSignature, "not for a statement"},
		{"signature changed", with(func(e *dsse.Envelope) { e.Signatures[0].Sig = base64.StdEncoding.EncodeToString(make([]byte, 64)) }), text.CodeWrongSignature, "no trusted key"},
		{"signature cut", with(func(e *dsse.Envelope) { e.Signatures[0].Sig = e.Signatures[0].Sig[:40] }), text.CodeWrongSignature, "no trusted key"},
		{"signature empty", with(func(e *dsse.Envelope) { e.Signatures[0].Sig = "" }), text.CodeWrongSignature, "no trusted key"},
		{"payload changed", with(func(e *dsse.Envelope) { e.Payload = base64.StdEncoding.EncodeToString(append(body, ' ')) }), text.CodeWrongSignature, "no trusted key"},
		{"another bundle's", sign(t, other, 2), text.CodeWrongSignature, "changed after it was signed"},
		{"another version", sign(t, newer, 2), text.CodeWrongSignature, "version 6"},
		{"another expiry", sign(t, longer, 2), text.CodeWrongSignature, "when it expires"},
		{"a grant's statement", payload(strings.ReplaceAll(string(body), "bundle/v1", "grant/v1")), text.CodeWrongSignature, "not about a bundle"},
		{"two subjects", payload(strings.ReplaceAll(string(body), `"subject":[`, `"subject":[{"name":"x","digest":{}},`)), text.CodeWrongSignature, "not about a bundle"},
		{"another subject name", payload(strings.ReplaceAll(string(body), `"name":"bundle"`, `"name":"other"`)), text.CodeWrongSignature, "not written as"},
		{"field twice", payload(strings.ReplaceAll(string(body), `"version":5`, `"version":4,"version":5`)), text.CodeWrongSignature, "not written as"},
		{"not a statement", payload(what), text.CodeWrongSignature, "decode"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Verify(tt.envelope, claim, trusted, now, Seen{})
			ps, ok := errors.AsType[text.Problems](err)
			if !ok || !ps.Has(tt.code) || !strings.Contains(err.Error(), tt.says) || got != (Accepted{}) {
				t.Errorf("%+v, %v", got, err)
			}
			for _, p := range ps {
				if p.What == "" || p.Why == "" || p.Fix == "" {
					t.Errorf("incomplete: %+v", p)
				}
			}
		})
	}
	if _, err := Verify(good, claim, nil, now, Seen{}); err == nil {
		t.Error("no trusted keys: no error")
	}
	if _, err := Verify(good, claim, []Key{{Name: "short", Public: public(2)[:31]}}, now, Seen{}); err == nil {
		t.Error("a short key: no error")
	}
	for i := range good { // whatever byte changes, it is still this claim by this key, or an error
		damaged := slices.Clone(good)
		damaged[i] ^= 1
		if got, err := Verify(damaged, claim, trusted, now, Seen{}); err == nil && (got.Claim != claim || got.Signer != "host/operator") {
			t.Errorf("byte %d: %+v", i, got)
		}
	}
}

func TestExpiry(t *testing.T) {
	e := sign(t, claim, 2)
	for at, ok := range map[int64]bool{claim.Expires - 1: true, claim.Expires: false, claim.Expires + 1: false, math.MinInt64: true} {
		_, err := Verify(e, claim, trusted, at, Seen{})
		if ps, _ := errors.AsType[text.Problems](err); (err == nil) != ok || !ok && !ps.Has(text.CodeExpired) {
			t.Errorf("at %d: %v", at, err)
		}
	}
}

func TestVersionsOnlyGoUp(t *testing.T) {
	e := sign(t, claim, 2)
	other := model.DigestOf([]byte("another bundle"))
	for _, tt := range []struct {
		seen Seen
		ok   bool
	}{
		{Seen{}, true}, {Seen{4, other}, true}, {Seen{5, claim.Bundle}, true}, {Seen{5, other}, false}, {Seen{6, other}, false}, {Seen{6, claim.Bundle}, false},
	} {
		_, err := Verify(e, claim, trusted, now, tt.seen)
		if ps, _ := errors.AsType[text.Problems](err); (err == nil) != tt.ok || !tt.ok && !ps.Has(text.CodeRolledBack) {
			t.Errorf("after %+v: %v", tt.seen, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	e, err := Sign(claim, "host/operator", key(2))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e)
	f.Add([]byte(`{"payload":"","payloadType":"","signatures":[{"keyid":"","sig":""}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := Verify(b, claim, trusted, now, Seen{}); err == nil && got.Claim != claim {
			t.Errorf("%+v", got)
		}
	})
}
