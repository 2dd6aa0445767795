package model

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ExecutionID names one execution. Its text is a ULID: 26 characters of
// Crockford base32, sortable by creation time (github.com/ulid/spec).
type ExecutionID string

// ErrBadExecutionID is returned for text that is not a ULID in upper case.
var ErrBadExecutionID = errors.New("not an execution ID: want 26 characters of 0-9 and A-Z without I, L, O, U")

const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// ParseExecutionID checks that s is the canonical text of an execution ID.
func ParseExecutionID(s string) (ExecutionID, error) {
	if len(s) != 26 || s[0] > '7' {
		return "", ErrBadExecutionID
	}
	for i := 0; i < len(s); i++ {
		if strings.IndexByte(crockford, s[i]) < 0 {
			return "", ErrBadExecutionID
		}
	}
	return ExecutionID(s), nil
}

// Digest is a SHA-256 sum. The zero Digest means "none".
type Digest [sha256.Size]byte

// DigestOf returns the SHA-256 sum of b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

// String returns "sha256:" and 64 lower-case hexadecimal digits.
func (d Digest) String() string { return "sha256:" + hex.EncodeToString(d[:]) }

// Short returns the first twelve hexadecimal digits, for people.
func (d Digest) Short() string { return hex.EncodeToString(d[:6]) }

// IsZero tells whether d is the absent digest.
func (d Digest) IsZero() bool { return d == Digest{} }

// ParseDigest reads what String writes.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	text, ok := strings.CutPrefix(s, "sha256:")
	if !ok || len(text) != 2*len(d) || strings.ToLower(text) != text {
		return d, fmt.Errorf("not a digest: %q: want sha256: and 64 lower-case hexadecimal digits", s)
	}
	if _, err := hex.Decode(d[:], []byte(text)); err != nil {
		return Digest{}, fmt.Errorf("not a digest: %q: %w", s, err)
	}
	return d, nil
}

// MarshalText implements encoding.TextMarshaler, for JSON.
func (d Digest) MarshalText() ([]byte, error) {
	if d.IsZero() {
		return nil, nil
	}
	return []byte(d.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler. Empty text is the zero Digest.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = Digest{}
		return nil
	}
	v, err := ParseDigest(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}
