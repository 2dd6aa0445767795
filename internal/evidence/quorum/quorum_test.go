package quorum_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
	"github.com/writ-run/writ/internal/evidence/quorum"
	"github.com/writ-run/writ/internal/model"
)

func cosigner(t testing.TB, n byte) *torchwood.CosignatureSigner {
	t.Helper()
	s, err := torchwood.NewCosignatureSigner(fmt.Sprintf("w%d.example/a", n), ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func logKey(t testing.TB, n byte) (note.Signer, note.Verifier, string) {
	t.Helper()
	signer, vkey, err := checkpoint.NewSigner("host.test/log", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return signer, v, vkey
}

var sample = checkpoint.Checkpoint{Origin: "host.test/log/01ARZ3NDEKTSV4RRFFQ69G5FAV", Size: 7, Root: model.DigestOf([]byte("root")), Previous: checkpoint.LinkTo(5, []byte("before"))}

// witnesses gives the lines of n witnesses, named a, b, c...
func witnesses(t testing.TB, n byte) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "witness %c %s http://127.0.0.1:1/\n", 'a'+i, cosigner(t, i+1).Verifier())
	}
	return b.String()
}

func parse(t testing.TB, text string) *quorum.Policy {
	t.Helper()
	p, err := quorum.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestAgreesWithTorchwood holds our reading of a policy to another
// implementation's, over every set of cosignatures.
func TestAgreesWithTorchwood(t *testing.T) {
	signer, verifier, vkey := logKey(t, 100)
	signed, err := checkpoint.Sign(sample, signer)
	if err != nil {
		t.Fatal(err)
	}
	served, err := checkpoint.UnderOrigin(signed, vkey)
	if err != nil {
		t.Fatal(err)
	}
	originKey, err := checkpoint.OriginKey(vkey, sample.Origin)
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range []string{
		"quorum a", "group g any a b c d e\nquorum g", "group g all a b c\nquorum g", "group g 2 a b c\nquorum g",
		"group x 2 a b c\ngroup y any d e\ngroup z all x y\nquorum z", "quorum none",
	} {
		text := witnesses(t, 5) + rule + "\n"
		ours := parse(t, text)
		theirs, err := torchwood.ParsePolicy([]byte("log " + originKey + "\n" + text))
		if err != nil {
			t.Fatal(err)
		}
		for set := range 32 {
			b := bytes.Clone(served)
			for i := range byte(5) {
				if set>>i&1 == 1 {
					b = cosign(t, b, cosigner(t, i+1))
				}
			}
			c, err := quorum.Open(b, verifier, ours)
			if err != nil {
				t.Fatal(err)
			}
			if c.Checkpoint != sample || !bytes.Equal(c.Signed, signed) {
				t.Fatalf("%+v\n%s", c.Checkpoint, c.Signed)
			}
			_, _, theirErr := torchwood.VerifyCheckpoint(b, theirs)
			if ours.Satisfied(c.Has) != (theirErr == nil) {
				t.Fatalf("%q with %05b: ours %t, theirs %v", rule, set, ours.Satisfied(c.Has), theirErr)
			}
		}
	}
}

func cosign(t testing.TB, signed []byte, by note.Signer) []byte {
	t.Helper()
	text, _, _ := strings.Cut(string(signed), "\n\n")
	out, err := note.Sign(&note.Note{Text: text + "\n"}, by)
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := bytes.Cut(out, []byte("\n\n"))
	return append(bytes.Clone(signed), line...)
}

func TestParseRefuses(t *testing.T) {
	two := witnesses(t, 2)
	_, _, vkey := logKey(t, 100)
	a := cosigner(t, 1).Verifier().String()
	for name, text := range map[string]string{
		"empty": "", "no quorum": two, "two quorums": two + "quorum a\nquorum b\n", "undefined": two + "quorum c\n",
		"member twice": two + "group g 2 a a\nquorum g\n", "member of two groups": two + "group g any a\ngroup h any a b\nquorum h\n",
		"threshold 0": two + "group g 0 a b\nquorum g\n", "threshold 3": two + "group g 3 a b\nquorum g\n", "threshold 01": two + "group g 01 a b\nquorum g\n",
		"no member": two + "group g any\nquorum g\n", "none as a member": two + "group g any none\nquorum g\n", "none as a name": "witness none " + a + "\nquorum none\n",
		"key twice": "witness a " + a + "\nwitness b " + a + "\nquorum a\n", "name twice": two + "group a any b\nquorum a\n",
		"a log's key as a witness": "witness a " + vkey + "\nquorum a\n", "a witness's key as a log": "log " + a + "\nquorum none\n",
		"log twice": "log " + vkey + "\nlog " + vkey + "\nquorum none\n", "later definition": "group g any a\n" + two + "quorum g\n",
		"unknown word": "wintess a " + a + "\nquorum none\n", "control character": "quorum none\r\n", "too many fields": two + "quorum a b\n",
		"broken key": "witness a " + a[:len(a)-2] + "\nquorum a\n",
	} {
		if p, err := quorum.Parse([]byte(text)); !errors.Is(err, quorum.ErrPolicy) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	p := parse(t, "# a comment\n\n \t # another\nlog "+vkey+" https://log.example/\n"+two+"quorum\ta")
	if len(p.Logs) != 1 || len(p.Witnesses) != 2 || p.Witnesses[0].URL != "http://127.0.0.1:1/" || p.None() {
		t.Fatalf("%+v", p)
	}
	if p := parse(t, "quorum none"); !p.None() || !p.Satisfied(func(int) bool { return false }) {
		t.Fatal("none is not satisfied by nobody")
	}
}

// TestOpenRefuses: a signature that bears a known name and does not hold makes
// the whole note bad; others are passed over.
func TestOpenRefuses(t *testing.T) {
	signer, verifier, _ := logKey(t, 100)
	p := parse(t, witnesses(t, 2)+"quorum a\n")
	signed, err := checkpoint.Sign(sample, signer)
	if err != nil {
		t.Fatal(err)
	}
	other := sample
	other.Size++
	elsewhere, err := checkpoint.Sign(other, signer)
	if err != nil {
		t.Fatal(err)
	}
	_, moved, _ := bytes.Cut(cosign(t, elsewhere, cosigner(t, 1)), []byte("\n\n"))
	_, moved, _ = bytes.Cut(moved, []byte("\n")) // the cosignature alone
	stranger := cosign(t, signed, cosigner(t, 9))
	if c, err := quorum.Open(stranger, verifier, p); err != nil || len(c.By) != 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	_, wrong, _ := logKey(t, 101)
	for name, b := range map[string][]byte{
		"a cosignature of another checkpoint": append(bytes.Clone(signed), moved...),
		"no signature of the log":             cosign(t, []byte(sample.Text()+"\n"), cosigner(t, 1)),
		"empty":                               nil, "long": make([]byte, quorum.MaxCosigned+1),
	} {
		if c, err := quorum.Open(b, verifier, p); err == nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if _, err := quorum.Open(signed, wrong, p); !errors.Is(err, checkpoint.ErrSignature) {
		t.Errorf("another log's key: %v", err)
	}
	good := cosign(t, signed, cosigner(t, 1))
	for i := range good {
		mutant := bytes.Clone(good)
		mutant[i] ^= 4
		if c, err := quorum.Open(mutant, verifier, p); err == nil && (c.Checkpoint != sample || p.Satisfied(c.Has) && !bytes.HasPrefix(mutant, signed)) {
			t.Fatalf("byte %d: %+v", i, c)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(witnesses(f, 3) + "group g 2 a b c\nquorum g\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := quorum.Parse(b)
		if err != nil {
			return
		}
		if !p.None() && p.Satisfied(func(int) bool { return false }) {
			t.Fatalf("nobody is a quorum of %q", b)
		}
		if !p.Satisfied(func(int) bool { return true }) {
			t.Fatalf("everybody is no quorum of %q", b)
		}
	})
}
