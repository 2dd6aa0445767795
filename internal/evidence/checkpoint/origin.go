package checkpoint

import (
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// OriginKey returns the vkey of the log's key under the log's origin as its
// name. A signed note's signature is over the text alone, so the same key and
// the same signature stand under both names.
func OriginKey(vkey, origin string) (string, error) {
	_, key, err := PublicKey(vkey)
	if err != nil {
		return "", err
	}
	if !validOrigin(origin) {
		return "", fmt.Errorf("naming the key of %q: %w", origin, ErrMalformed)
	}
	return note.NewEd25519VerifierKey(origin, key)
}

// UnderOrigin adds a second signature line to a signed checkpoint: the same
// signature under the log's origin as the key's name. A host signs all its logs
// with one key, and many clients and policies take a log's key only under the
// log's own name (tlog-policy, "Defining a log").
func UnderOrigin(signed []byte, vkey string) ([]byte, error) {
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("reading vkey: %w", err)
	}
	c, err := Open(signed, v)
	if err != nil {
		return nil, err
	}
	named, err := OriginKey(vkey, c.Origin)
	if err != nil {
		return nil, err
	}
	v, err = note.NewVerifier(named)
	if err != nil {
		return nil, fmt.Errorf("reading vkey: %w", err)
	}
	_, line, _ := strings.Cut(string(signed), "\n\n")
	fields := strings.Fields(line)
	raw, err := base64.StdEncoding.DecodeString(fields[len(fields)-1])
	if err != nil {
		return nil, fmt.Errorf("%w: signature line", ErrMalformed)
	}
	h := v.KeyHash()
	again := append([]byte{byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}, raw[4:]...)
	return fmt.Appendf(append([]byte(nil), signed...), "— %s %s\n", c.Origin, base64.StdEncoding.EncodeToString(again)), nil
}
