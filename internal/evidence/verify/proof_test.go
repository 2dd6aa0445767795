package verify_test

import (
	"bytes"
	"crypto/ed25519"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
	"github.com/writ-run/writ/internal/evidence/publish"
	"github.com/writ-run/writ/internal/evidence/quorum"
	"github.com/writ-run/writ/internal/evidence/testlog"
	"github.com/writ-run/writ/internal/evidence/tiles"
	"github.com/writ-run/writ/internal/evidence/verify"
	"github.com/writ-run/writ/internal/evidence/witness"
)

// proofs makes the proofs of some records of a whole log that a witness has
// cosigned.
func proofs(t *testing.T) (keys testlog.Keys, policy *quorum.Policy, prove func(uint64) (proof, leaf []byte)) {
	t.Helper()
	dir := t.TempDir()
	keys = testlog.NewKeys(1)
	testlog.Whole(t, keys).Write(filepath.Join(dir, "log"), keys.LogOptions(""))
	server, err := witness.NewServer(witness.ServerOptions{Name: "w.example/a", Key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{5}, 32)), Logs: []string{keys.Log.VKey}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	at := httptest.NewServer(server)
	t.Cleanup(at.Close)
	if policy, err = quorum.Parse([]byte("witness w " + server.VKey() + " " + at.URL + "\nquorum w\n")); err != nil {
		t.Fatal(err)
	}
	o := tiles.Options{Log: filepath.Join(dir, "log"), Origin: checkpoint.Origin(keys.Log.Signer.Name(), testlog.Execution), VKey: keys.Log.VKey, Dir: filepath.Join(dir, "out")}
	f, err := publish.New(publish.Options{Options: o, Policy: policy, Pace: &witness.Pace{}})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if s, err := f.Step(t.Context()); err != nil || s.Witnessed == 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	return keys, policy, func(i uint64) ([]byte, []byte) {
		t.Helper()
		tree, err := tiles.OpenTree(o.Dir, o.Origin, o.VKey)
		if err != nil {
			t.Fatal(err)
		}
		b, leaf, err := tree.Proof(i, tree.Signed)
		if err != nil {
			t.Fatal(err)
		}
		return b, leaf
	}
}

func TestProof(t *testing.T) {
	keys, policy, prove := proofs(t)
	stranger, err := torchwood.NewCosignatureSigner("w.example/b", ed25519.NewKeyFromSeed(bytes.Repeat([]byte{6}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	other, err := quorum.Parse([]byte("witness w " + stranger.Verifier().String() + "\nquorum w\n"))
	if err != nil {
		t.Fatal(err)
	}
	b, leaf := prove(9)
	_, another := prove(10)
	bare := []byte(strings.Replace(string(b), "extra ", "", 1))
	bare = append([]byte("c2sp.org/tlog-proof@v1\n"), bare[bytes.Index(bare, []byte("index ")):]...)
	trust := keys.Trust()
	for name, c := range map[string]struct {
		proof   []byte
		options verify.ProofOptions
		verdict verify.Verdict
	}{
		"trusted":                 {b, verify.ProofOptions{Trust: trust}, verify.Valid},
		"and witnessed":           {b, verify.ProofOptions{Trust: trust, Quorum: policy}, verify.Valid},
		"the record apart":        {bare, verify.ProofOptions{Trust: trust, Record: leaf}, verify.Valid},
		"nobody trusted":          {b, verify.ProofOptions{}, verify.Unverifiable},
		"another host trusted":    {b, verify.ProofOptions{Trust: []string{keys.Governor.VKey}}, verify.Unverifiable},
		"another witness":         {b, verify.ProofOptions{Trust: trust, Quorum: other}, verify.Unverifiable},
		"no record":               {bare, verify.ProofOptions{Trust: trust}, verify.Unverifiable},
		"another record":          {b, verify.ProofOptions{Trust: trust, Record: another}, verify.Invalid},
		"a forged key's name":     {b, verify.ProofOptions{Trust: testlog.NewKeys(2).Trust()}, verify.Unverifiable},
		"another index":           {bytes.Replace(b, []byte("index 9\n"), []byte("index 10\n"), 1), verify.ProofOptions{Trust: trust}, verify.Invalid},
		"an index with a zero":    {bytes.Replace(b, []byte("index 9\n"), []byte("index 09\n"), 1), verify.ProofOptions{Trust: trust}, verify.Invalid},
		"carriage returns":        {bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")), verify.ProofOptions{Trust: trust}, verify.Invalid},
		"nothing":                 {nil, verify.ProofOptions{Trust: trust}, verify.Invalid},
		"too much":                {make([]byte, verify.MaxProof+1), verify.ProofOptions{Trust: trust}, verify.Invalid},
		"bytes behind the record": {bare, verify.ProofOptions{Trust: trust, Record: append(bytes.Clone(leaf), 0)}, verify.Invalid},
	} {
		r := verify.Proof(c.proof, c.options)
		if r.Verdict != c.verdict || (r.Record != nil) != (c.verdict == verify.Valid) || r.Witnessed != (name == "and witnessed") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	// Another implementation takes it, too.
	named, err := checkpoint.OriginKey(keys.Log.VKey, checkpoint.Origin(keys.Log.Signer.Name(), testlog.Execution))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := torchwood.ParsePolicy([]byte("log " + named + "\nwitness w " + policy.Witnesses[0].VKey + "\nquorum w\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := torchwood.VerifyProof(theirs, tlog.RecordHash(leaf), b); err != nil {
		t.Error(err)
	}
}

// TestProofMutants flips two bits of every byte of a proof: it never verifies as another
// record, and never with a record that is not the one that was recorded.
func TestProofMutants(t *testing.T) {
	keys, policy, prove := proofs(t)
	b, leaf := prove(9)
	whole := verify.Proof(b, verify.ProofOptions{Trust: keys.Trust(), Quorum: policy})
	if whole.Verdict != verify.Valid {
		t.Fatalf("%+v", whole)
	}
	for i := range b {
		for _, bit := range []int{i % 8, 5} {
			mutant := bytes.Clone(b)
			mutant[i] ^= 1 << bit
			r := verify.Proof(mutant, verify.ProofOptions{Trust: keys.Trust(), Quorum: policy})
			if r.Verdict != verify.Valid {
				continue
			}
			// What may change is the signature line of a key that is not asked for.
			if r.Index != whole.Index || r.Root != whole.Root || r.Records != whole.Records || string(r.Record.Body) != string(whole.Record.Body) {
				t.Fatalf("byte %d bit %d: %+v", i, bit, r)
			}
			if !bytes.Contains(mutant, []byte("\nindex 9\n")) || i < bytes.Index(b, []byte("\n\n")) {
				t.Fatalf("byte %d bit %d is not looked at", i, bit)
			}
		}
	}
	for n := 0; n < len(b); n += 3 {
		if r := verify.Proof(b[:n], verify.ProofOptions{Trust: keys.Trust(), Quorum: policy}); r.Verdict == verify.Valid {
			t.Fatalf("cut at %d of %d it verifies", n, len(b))
		}
	}
	if len(leaf) == 0 {
		t.Fatal("no record")
	}
}

// TestGivenWithCosignatures: the checkpoint given may bear cosignatures, and
// counts as the one in the log.
func TestGivenWithCosignatures(t *testing.T) {
	dir := t.TempDir()
	keys := testlog.NewKeys(1)
	testlog.Whole(t, keys).Write(filepath.Join(dir, "log"), keys.LogOptions(filepath.Join(dir, "second")))
	signed, err := os.ReadFile(filepath.Join(dir, "second"))
	if err != nil {
		t.Fatal(err)
	}
	served, err := checkpoint.UnderOrigin(signed, keys.Log.VKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, given := range map[string][]byte{"bare": signed, "with both names": served} {
		r := verify.Log(filepath.Join(dir, "log"), verify.Options{Trust: keys.Trust(), Checkpoint: given})
		if r.Verdict == verify.Invalid || len(r.Missing) > 0 && strings.Contains(strings.Join(r.Missing, " "), "checkpoint given") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	forged := bytes.Clone(served)
	forged[len(forged)-20] ^= 1
	if r := verify.Log(filepath.Join(dir, "log"), verify.Options{Trust: keys.Trust(), Checkpoint: forged[:len(signed)-20]}); !strings.Contains(strings.Join(r.Missing, " "), "checkpoint given cannot be used") {
		t.Errorf("%+v", r)
	}
}

func FuzzProof(f *testing.F) {
	f.Add([]byte("c2sp.org/tlog-proof@v1\nextra AA==\nindex 0\n\nhost.test/log/01ARZ3NDEKTSV4RRFFQ69G5FAV\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— host.test/log AAAA\n"))
	trust := testlog.NewKeys(1).Trust()
	f.Fuzz(func(t *testing.T, b []byte) {
		if r := verify.Proof(b, verify.ProofOptions{Trust: trust}); r.Verdict == verify.Valid {
			t.Fatalf("forged: %q", b)
		}
	})
}
