package quorum

import (
	"errors"
	"fmt"
	"strings"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
)

// MaxCosigned bounds the bytes of a checkpoint with its cosignatures.
const MaxCosigned = 64 << 10

// Cosigned is a checkpoint with the witnesses that stand by it.
type Cosigned struct {
	checkpoint.Checkpoint
	// Signed is the checkpoint as it stands in the log: with the log's one
	// signature.
	Signed []byte
	// By are the witnesses of the policy that cosigned it, by index in
	// Policy.Witnesses, and when each says that it did.
	By map[int]time.Time
	// Lines are their signature lines, without the log's.
	Lines []string
}

// Has tells whether a witness, by its index in the policy, cosigned.
func (c Cosigned) Has(witness int) bool { _, ok := c.By[witness]; return ok }

// Open reads a checkpoint that the log's key signed, and the cosignatures of the
// policy's witnesses; p may be nil. Signatures of others are passed over, as
// signed-note demands; one that bears a known key's name and does not verify is
// an error. The error wraps checkpoint.ErrMalformed or checkpoint.ErrSignature.
func Open(b []byte, key note.Verifier, p *Policy) (Cosigned, error) {
	if len(b) > MaxCosigned {
		return Cosigned{}, fmt.Errorf("%w: too long", checkpoint.ErrMalformed)
	}
	known := []note.Verifier{key}
	if p != nil {
		for _, w := range p.Witnesses {
			known = append(known, w.Verifier)
		}
	}
	n, err := note.Open(b, note.VerifierList(known...))
	if err != nil {
		var bad *note.InvalidSignatureError
		var none *note.UnverifiedNoteError
		if errors.As(err, &bad) || errors.As(err, &none) {
			return Cosigned{}, fmt.Errorf("%w: %w", checkpoint.ErrSignature, err)
		}
		return Cosigned{}, fmt.Errorf("%w: %w", checkpoint.ErrMalformed, err)
	}
	c := Cosigned{By: map[int]time.Time{}}
	for _, s := range n.Sigs {
		line := "— " + s.Name + " " + s.Base64 + "\n"
		if s.Name == key.Name() && s.Hash == key.KeyHash() {
			c.Signed = []byte(n.Text + "\n" + line)
			continue
		}
		i := p.index(s)
		if i < 0 {
			continue
		}
		at, err := fnote.CoSigV1Timestamp(s)
		if err != nil {
			return Cosigned{}, fmt.Errorf("%w: cosignature of %s: %w", checkpoint.ErrMalformed, s.Name, err)
		}
		c.By[i] = at
		c.Lines = append(c.Lines, line)
	}
	if c.Signed == nil {
		return Cosigned{}, fmt.Errorf("%w: signed by %s, not by %s+%08x", checkpoint.ErrSignature, signers(n), key.Name(), key.KeyHash())
	}
	if c.Checkpoint, err = checkpoint.Open(c.Signed, key); err != nil {
		return Cosigned{}, err
	}
	return c, nil
}

func (p *Policy) index(s note.Signature) int {
	if p == nil {
		return -1
	}
	for i, w := range p.Witnesses {
		if w.Verifier.Name() == s.Name && w.Verifier.KeyHash() == s.Hash {
			return i
		}
	}
	return -1
}

func signers(n *note.Note) string {
	var names []string
	for _, s := range append(n.Sigs, n.UnverifiedSigs...) {
		names = append(names, fmt.Sprintf("%s+%08x", s.Name, s.Hash))
	}
	return strings.Join(names, ", ")
}

// Text returns what a witness's cosignature line, as it answers, is added to:
// the note's text and the empty line.
func Text(signed []byte) string {
	text, _, _ := strings.Cut(string(signed), "\n\n")
	return text + "\n\n"
}
