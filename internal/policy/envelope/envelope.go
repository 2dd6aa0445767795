package envelope

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/policy/text"
)

// Types of the statement (in-toto Attestation Framework v1).
const (
	PayloadType   = "application/vnd.in-toto+json"
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://writ.run/bundle/v1"
)

const maxEnvelope = 64 << 10

// Claim is what a signature says of a bundle.
type Claim struct {
	Bundle  model.Digest
	Version uint64 // goes up with every change
	Expires int64  // Unix nanoseconds; 0 is never
}

// Key is a public key that may sign bundles, under the name by which it is
// known.
type Key struct {
	Name   string
	Public ed25519.PublicKey
}

// Seen is the newest version of the policies that was accepted so far. The zero
// Seen is none.
type Seen struct {
	Version uint64
	Bundle  model.Digest
}

// Accepted is a claim that was verified, and who made it.
type Accepted struct {
	Claim
	Signer string
}

// Seen returns what must be kept, durably, to notice an older bundle later.
func (a Accepted) Seen() Seen { return Seen{Version: a.Version, Bundle: a.Bundle} }

type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     predicate `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

type predicate struct {
	Version uint64 `json:"version"`
	Expires string `json:"expires,omitempty"` // RFC 3339, UTC
}

const subjectName = "bundle"

// Sign returns the envelope, as JSON, by which key vouches for the claim.
func Sign(claim Claim, name string, key ed25519.PrivateKey) ([]byte, error) {
	if claim.Bundle.IsZero() || claim.Version == 0 {
		return nil, errors.New("signing a bundle: it needs a digest and a version of at least 1")
	}
	if len(key) != ed25519.PrivateKeySize || name == "" {
		return nil, errors.New("signing a bundle: no key, or one without a name")
	}
	body, err := json.Marshal(claim.statement())
	if err != nil {
		return nil, fmt.Errorf("signing a bundle: %w", err)
	}
	signer, err := dsse.NewEnvelopeSigner(&keyPair{name: name, private: key})
	if err != nil {
		return nil, fmt.Errorf("signing a bundle: %w", err)
	}
	e, err := signer.SignPayload(context.Background(), PayloadType, body)
	if err != nil {
		return nil, fmt.Errorf("signing a bundle: %w", err)
	}
	return json.Marshal(e)
}

func (c Claim) statement() statement {
	s := statement{Type: StatementType, PredicateType: PredicateType, Predicate: predicate{Version: c.Version},
		Subject: []subject{{Name: subjectName, Digest: map[string]string{"sha256": strings.TrimPrefix(c.Bundle.String(), "sha256:")}}}}
	if c.Expires != 0 {
		s.Predicate.Expires = time.Unix(0, c.Expires).UTC().Format(time.RFC3339Nano)
	}
	return s
}

// Verify checks that one of the trusted keys signed exactly the claim, that it
// has not expired at now (Unix nanoseconds), and that it is not older than what
// was seen. claim is what the bundle says of itself: its digest, and version and
// expiry from its settings. The error is a text.Problems with one of the codes
// CodeUnsigned, CodeWrongSignature, CodeExpired and CodeRolledBack.
func Verify(envelope []byte, claim Claim, trusted []Key, now int64, seen Seen) (Accepted, error) {
	signer, err := verifySignature(envelope, claim, trusted)
	if err != nil {
		return Accepted{}, err
	}
	if err := verifyTime(claim, now); err != nil {
		return Accepted{}, err
	}
	if err := verifyVersion(claim, seen); err != nil {
		return Accepted{}, err
	}
	return Accepted{Claim: claim, Signer: signer}, nil
}

func problem(code text.Code, what, why, fix string) error {
	return text.Problems{{Code: code, What: what, Why: why, Fix: fix}}
}

func verifySignature(envelope []byte, claim Claim, trusted []Key) (signer string, err error) {
	wrong := func(what, fix string) error {
		return problem(text.CodeWrongSignature, what, "whoever can put policies here without being trusted can permit anything", fix)
	}
	const again = "sign the bundle again with a trusted key"
	if len(bytes.TrimSpace(envelope)) == 0 {
		return "", problem(text.CodeUnsigned, "bundle "+claim.Bundle.Short()+" is not signed",
			"policies are only in force when somebody who may vouches for them", again)
	}
	if len(envelope) > maxEnvelope {
		return "", wrong("the signature has more than 64 KiB", again)
	}
	var e dsse.Envelope
	if err := decodeStrict(envelope, &e); err != nil {
		return "", wrong("the signature does not decode: "+err.Error(), again)
	}
	if len(e.Signatures) == 0 {
		return "", problem(text.CodeUnsigned, "bundle "+claim.Bundle.Short()+" has an envelope without a signature in it",
			"policies are only in force when somebody who may vouches for them", again)
	}
	if e.PayloadType != PayloadType {
		return "", wrong(fmt.Sprintf("the signature is for %q, not for a statement", e.PayloadType), again)
	}
	name, body, err := open(&e, trusted)
	if err != nil {
		return "", wrong("no trusted key made the signature ("+signers(&e)+")", "sign the bundle with a trusted key, or have the signer's key added to the trusted ones")
	}
	var s statement
	if err := decodeStrict(body, &s); err != nil {
		return "", wrong("the signed statement does not decode: "+err.Error(), again)
	}
	want, err := json.Marshal(claim.statement())
	if err != nil {
		return "", wrong(err.Error(), again)
	}
	if !bytes.Equal(body, want) {
		return "", wrong(difference(s, claim), again)
	}
	return name, nil
}

// difference says in what a signed statement is not about the claim.
func difference(s statement, claim Claim) string {
	want := claim.statement()
	switch {
	case s.Type != want.Type || s.PredicateType != want.PredicateType || len(s.Subject) != 1:
		return "the signed statement is not about a bundle of policies"
	case s.Subject[0].Digest["sha256"] != want.Subject[0].Digest["sha256"]:
		return "the signature is for another bundle: this one was changed after it was signed"
	case s.Predicate.Version != want.Predicate.Version:
		return fmt.Sprintf("the signature is for version %d, and the bundle says it is version %d", s.Predicate.Version, want.Predicate.Version)
	case s.Predicate.Expires != want.Predicate.Expires:
		return "the signature and the bundle do not agree on when it expires"
	}
	return "the signed statement is not written as Writ writes it"
}

func signers(e *dsse.Envelope) string {
	var names []string
	for _, s := range e.Signatures {
		names = append(names, fmt.Sprintf("it names %q", cut(s.KeyID)))
		if len(names) == 3 {
			break
		}
	}
	return strings.Join(names, ", ")
}

func cut(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "..."
	}
	return s
}

// open checks the signatures and returns the payload and the name of the key.
func open(signed *dsse.Envelope, trusted []Key) (name string, body []byte, err error) {
	e := &dsse.Envelope{PayloadType: signed.PayloadType, Payload: signed.Payload}
	for _, s := range signed.Signatures { // a key ID is only a hint (DSSE protocol, section "Protocol"): names differ from host to host
		e.Signatures = append(e.Signatures, dsse.Signature{Sig: s.Sig})
	}
	for _, k := range trusted { // one at a time, to know which it was
		if len(k.Public) != ed25519.PublicKeySize {
			continue
		}
		v, err := dsse.NewEnvelopeVerifier(&keyPair{public: k.Public})
		if err != nil {
			return "", nil, err
		}
		if _, body, err := v.VerifyAndDecode(context.Background(), e); err == nil {
			return k.Name, body, nil
		}
	}
	return "", nil, errors.New("no trusted key signed it")
}

func verifyTime(claim Claim, now int64) error {
	if claim.Expires == 0 || now < claim.Expires {
		return nil
	}
	return problem(text.CodeExpired, "bundle "+claim.Bundle.Short()+" expired on "+time.Unix(0, claim.Expires).UTC().Format(time.RFC3339),
		"whoever signed it vouches for it no longer than that", "get the current bundle, or set a later expires: and sign it again")
}

func verifyVersion(claim Claim, seen Seen) error {
	switch {
	case claim.Version > seen.Version, claim.Version == seen.Version && claim.Bundle == seen.Bundle:
		return nil
	case claim.Version == seen.Version:
		return problem(text.CodeRolledBack, fmt.Sprintf("bundle %s has version %d, and so has bundle %s that was in force", claim.Bundle.Short(), claim.Version, seen.Bundle.Short()),
			"two bundles with one version cannot be told apart by age", fmt.Sprintf("set version: %d in the settings and sign it again", seen.Version+1))
	}
	return problem(text.CodeRolledBack, fmt.Sprintf("bundle %s has version %d, and version %d was already in force", claim.Bundle.Short(), claim.Version, seen.Version),
		"an older bundle may permit what was since forbidden", fmt.Sprintf("to go back on purpose, set version: %d in the settings and sign it again", seen.Version+1))
}

// decodeStrict decodes one JSON value, with no field that is not known and
// nothing behind it.
func decodeStrict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one value")
	}
	return nil
}

// keyPair is an Ed25519 key in go-securesystemslib's terms.
type keyPair struct {
	name    string
	private ed25519.PrivateKey
	public  ed25519.PublicKey
}

func (k *keyPair) KeyID() (string, error) { return k.name, nil }

func (k *keyPair) Public() crypto.PublicKey { return k.public }

func (k *keyPair) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(k.private, data), nil
}

func (k *keyPair) Verify(_ context.Context, data, sig []byte) error {
	if len(sig) != ed25519.SignatureSize || !ed25519.Verify(k.public, data, sig) {
		return errors.New("signature does not verify")
	}
	return nil
}
