package verify

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
)

// The roles of keys, which are also the last part of their names.
const (
	roleLog      = "log"
	roleGovernor = "governor"
	roleOperator = "operator"
)

// ParseTrust reads a trust file: one C2SP signed-note verifier key a line;
// empty lines and lines that start with # are skipped.
func ParseTrust(content []byte) ([]string, error) {
	var vkeys []string
	for i, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if _, _, err := checkpoint.PublicKey(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		vkeys = append(vkeys, line)
	}
	return vkeys, nil
}

// trusted is the set of keys that the caller vouches for.
type trusted []string

// holds tells whether the key is trusted; forged that a trusted key bears the
// same name, and none of that name is this key.
func (t trusted) holds(vkey string) (holds, forged bool) {
	name, _, _ := strings.Cut(vkey, "+")
	for _, v := range t {
		if v == vkey {
			return true, false
		}
		forged = forged || strings.HasPrefix(v, name+"+")
	}
	return false, forged
}

// key is a public key of the log.
type key struct {
	vkey     string
	public   ed25519.PublicKey
	verifier note.Verifier
}

func newKey(vkey string) (key, error) {
	_, public, err := checkpoint.PublicKey(vkey)
	if err != nil {
		return key{}, err
	}
	v, err := note.NewVerifier(vkey)
	return key{vkey, public, v}, err
}

// roleOf returns the last part of a key's name.
func roleOf(vkey string) string {
	name, _, _ := strings.Cut(vkey, "+")
	return name[strings.LastIndexByte(name, '/')+1:]
}

func knownRole(role string) bool {
	return slices.Contains([]string{roleLog, roleGovernor, roleOperator}, role)
}
