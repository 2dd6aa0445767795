package checkpoint

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/writ-run/writ/internal/model"
)

// MaxSize bounds the bytes of a signed checkpoint.
const MaxSize = 4096

var (
	// ErrMalformed is returned for bytes that are not a checkpoint in its one form.
	ErrMalformed = errors.New("malformed checkpoint")
	// ErrSignature is returned for a checkpoint that the given key did not sign.
	ErrSignature = errors.New("checkpoint is not signed by the log's key")
)

// Checkpoint says that the log named Origin has Size records under Root, and
// that the checkpoint before it had Previous. So none can be left out unseen.
type Checkpoint struct {
	Origin   string
	Size     uint64
	Root     model.Digest
	Previous uint64 // 0 in the first
}

// previous starts the extension line (tlog-checkpoint, "Note text") with
// Checkpoint.Previous.
const previous = "writ.run/previous "

// Origin names the log of one execution: the name of the key that signs it, a
// slash, and the execution. No two logs share an origin.
func Origin(keyName string, id model.ExecutionID) string { return keyName + "/" + string(id) }

// Text returns the note text (tlog-checkpoint, "Note text").
func (c Checkpoint) Text() string {
	return c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n" +
		previous + strconv.FormatUint(c.Previous, 10) + "\n"
}

// Sign returns the signed note. The origin must be one non-empty line without
// spaces or plus signs.
func Sign(c Checkpoint, by note.Signer) ([]byte, error) {
	if !validOrigin(c.Origin) {
		return nil, fmt.Errorf("signing checkpoint: origin %q: %w", c.Origin, ErrMalformed)
	}
	b, err := note.Sign(&note.Note{Text: c.Text()}, by)
	if err != nil {
		return nil, fmt.Errorf("signing checkpoint: %w", err)
	}
	return b, nil
}

// Open reads a checkpoint that has exactly one signature, by key. Bytes that
// differ from what Sign returns are refused, also where a lenient reader would
// see the same statement.
func Open(b []byte, key note.Verifier) (Checkpoint, error) {
	c, name, hash, err := Peek(b)
	if err != nil {
		return Checkpoint{}, err
	}
	if name != key.Name() || hash != key.KeyHash() {
		return Checkpoint{}, fmt.Errorf("%w: signed by %s+%08x, not by %s+%08x", ErrSignature, name, hash, key.Name(), key.KeyHash())
	}
	n, err := note.Open(b, note.VerifierList(key))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("%w: %s", ErrSignature, err)
	}
	if n.Text != c.Text() {
		return Checkpoint{}, ErrMalformed
	}
	return c, nil
}

// Peek reads a checkpoint and the name and key hash of its one signature
// without verifying anything but the form.
func Peek(b []byte) (c Checkpoint, signer string, hash uint32, err error) {
	bad := func(what string) (Checkpoint, string, uint32, error) {
		return Checkpoint{}, "", 0, fmt.Errorf("%w: %s", ErrMalformed, what)
	}
	if len(b) > MaxSize {
		return bad("too long")
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) != 7 || lines[4] != "" || lines[6] != "" {
		return bad("want four lines, an empty one and one signature")
	}
	if !validOrigin(lines[0]) {
		return bad("origin")
	}
	size, err := strconv.ParseUint(lines[1], 10, 63)
	if err != nil {
		return bad("size")
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) {
		return bad("root")
	}
	before, err := strconv.ParseUint(strings.TrimPrefix(lines[3], previous), 10, 63)
	if err != nil || before > size {
		return bad("previous size")
	}
	name, sig64, ok := strings.Cut(strings.TrimPrefix(lines[5], "— "), " ")
	sig, err := base64.StdEncoding.Strict().DecodeString(sig64)
	if !ok || err != nil || len(sig) != 4+64 {
		return bad("signature line")
	}
	c = Checkpoint{Origin: lines[0], Size: size, Root: model.Digest(root), Previous: before}
	if again := c.Text() + "\n— " + name + " " + sig64 + "\n"; !bytes.Equal([]byte(again), b) {
		return bad("not the one form")
	}
	return c, name, uint32(sig[0])<<24 | uint32(sig[1])<<16 | uint32(sig[2])<<8 | uint32(sig[3]), nil
}

func validOrigin(s string) bool {
	return s != "" && len(s) <= 1024 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '+' || r == 0xfffd })
}
