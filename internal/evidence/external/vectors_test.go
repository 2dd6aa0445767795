package external_test

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/writ-run/writ/internal/evidence/canon"
	"github.com/writ-run/writ/internal/evidence/checkpoint"
	"github.com/writ-run/writ/internal/evidence/translate"
	"github.com/writ-run/writ/internal/model"
)

func load(t *testing.T, name string, to any) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(z).Decode(to); err != nil {
		t.Fatal(err)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// verifies tells whether a signature holds, by every way in which Writ verifies
// one: as a lease's (crypto/ed25519) and as a checkpoint's (a note's vkey). They
// must agree, or a log could be good for one verifier and bad for another.
func verifies(t *testing.T, key, msg, sig []byte) bool {
	t.Helper()
	lease := ed25519.Verify(key, msg, sig)
	vkey, err := note.NewEd25519VerifierKey("external.test", key)
	if err != nil {
		t.Fatal(err)
	}
	_, public, err := checkpoint.PublicKey(vkey)
	if err != nil || !bytes.Equal(public, key) {
		t.Fatalf("key %x: %v", key, err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	if v.Verify(msg, sig) != lease {
		t.Fatalf("a note and a lease disagree about %x", sig)
	}
	return lease
}

// TestCCTV: what Ed25519's specification leaves open is decided in one way, which
// is Go's: points whose low-order parts do not cancel out are refused, and so is
// an encoding of R that is not canonical.
func TestCCTV(t *testing.T) {
	var all []struct {
		Number        int
		Key, Sig, Msg string
		Flags         []string
	}
	load(t, "cctv-ed25519.json.gz", &all)
	accepted := 0
	for _, v := range all {
		want := true
		for _, f := range v.Flags {
			want = want && !slices.Contains([]string{"low_order_residue", "non_canonical_R"}, f)
		}
		if got := verifies(t, unhex(t, v.Key), []byte(v.Msg), unhex(t, v.Sig)); got != want {
			t.Errorf("vector %d (%v): %t, want %t", v.Number, v.Flags, got, want)
		}
		if want {
			accepted++
		}
	}
	if len(all) < 900 || accepted < 100 {
		t.Fatalf("%d vectors, %d to be accepted: these cannot be all", len(all), accepted)
	}
}

func TestWycheproof(t *testing.T) {
	var groups []struct {
		Key   string
		Tests []struct {
			TcID                      int
			Comment, Msg, Sig, Result string
		}
	}
	load(t, "wycheproof-ed25519.json.gz", &groups)
	n := 0
	for _, g := range groups {
		for _, v := range g.Tests {
			n++
			if got := verifies(t, unhex(t, g.Key), unhex(t, v.Msg), unhex(t, v.Sig)); got != (v.Result == "valid") {
				t.Errorf("%d (%s): %t, want %s", v.TcID, v.Comment, got, v.Result)
			}
		}
	}
	if n != 151 {
		t.Fatalf("%d tests", n)
	}
}

func hash(t *testing.T, text string) (h tlog.Hash, whole bool) {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return tlog.Hash(append(bytes.Clone(b), make([]byte, 32)...)[:32]), len(b) == 32
}

// TestMerkle: the proofs of records and of consistency that the verifier and the
// witness check, over the vectors of another implementation.
func TestMerkle(t *testing.T) {
	var all struct {
		Inclusion map[string]struct {
			LeafIdx, TreeSize uint64
			Root, LeafHash    string
			Proof             []string
			WantErr           bool
		}
		Consistency map[string]struct {
			Size1, Size2 uint64
			Root1, Root2 string
			Proof        []string
			WantErr      bool
		}
	}
	load(t, "merkle.json.gz", &all)
	if len(all.Inclusion) < 90 || len(all.Consistency) < 90 {
		t.Fatalf("%d and %d vectors: these cannot be all", len(all.Inclusion), len(all.Consistency))
	}
	proof := func(lines []string) (p []tlog.Hash, whole bool) {
		whole = true
		for _, l := range lines {
			h, ok := hash(t, l)
			p, whole = append(p, h), whole && ok
		}
		return p, whole
	}
	for name, v := range all.Inclusion {
		root, ok1 := hash(t, v.Root)
		leaf, ok2 := hash(t, v.LeafHash)
		p, ok3 := proof(v.Proof)
		// Hashes of other lengths do not come as far as the check.
		bad := !ok1 || !ok2 || !ok3 || v.TreeSize > math.MaxInt64 || v.LeafIdx >= v.TreeSize ||
			tlog.CheckRecord(p, int64(v.TreeSize), root, int64(v.LeafIdx), leaf) != nil
		if bad != v.WantErr {
			t.Errorf("inclusion %s: refused %t, want %t", name, bad, v.WantErr)
		}
	}
	for name, v := range all.Consistency {
		one, ok1 := hash(t, v.Root1)
		two, ok2 := hash(t, v.Root2)
		p, ok3 := proof(v.Proof)
		bad := !ok3
		switch {
		case bad:
		case v.Size1 == 0: // nothing is proved of nothing, and a witness asks for no proof then
			bad = true
		case v.Size1 == v.Size2: // decided by the witness without a proof
			bad = len(p) != 0 || v.Root1 != v.Root2
		case !ok1 || !ok2 || v.Size1 > v.Size2 || v.Size2 > math.MaxInt64:
			bad = true
		default:
			bad = tlog.CheckTree(p, int64(v.Size2), two, int64(v.Size1), one) != nil
		}
		if bad != v.WantErr {
			t.Errorf("consistency %s: refused %t, want %t: %+v", name, bad, v.WantErr, v)
		}
	}
}

// TestSumDB: notes and keys of golang.org/x/mod, the tree head of a log that is
// in use, and a CT log's proofs.
func TestSumDB(t *testing.T) {
	private := ed25519.NewKeyFromSeed(func() []byte {
		b, err := base64.StdEncoding.DecodeString("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")
		if err != nil {
			t.Fatal(err)
		}
		return b[1:]
	}())
	signer, vkey, err := checkpoint.NewSigner("PeterNeumann", private)
	if err != nil || vkey != "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW" {
		t.Fatal(vkey, err)
	}
	const text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil || string(signed) != text+"\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n" {
		t.Fatalf("%s%v", signed, err)
	}
	for _, bad := range []string{"PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==", "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"} {
		if _, _, err := checkpoint.PublicKey(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	const goSum = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
	if _, _, err := checkpoint.PublicKey(goSum); err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(goSum)
	if err != nil {
		t.Fatal(err)
	}
	head := "go.sum database tree\n72282352\nkwyIHd9CEi+H7T2fChza3IXugzaFw/lwaWM+ZYcpd2A=\n\n— sum.golang.org Az3grlmzkt3IdtfEHRFlPjj90jQqvEwuJwTTZxyS5DOmqkzQnRvsGf7qf9CPBS4mmyQCmkoye3j8ttGhR6u1FqXvEQY=\n"
	if n, err := note.Open([]byte(head), note.VerifierList(v)); err != nil || len(n.Sigs) != 1 {
		t.Fatal(err)
	}
	// A checkpoint of another log, without Writ's line, is not one of ours.
	if _, err := checkpoint.Open([]byte(head), v); err == nil {
		t.Error("a foreign tree head is taken for a checkpoint")
	}

	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/mod").Output()
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string, to any) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "sumdb/tlog/testdata/argon2020", name))
		if err == nil {
			err = json.Unmarshal(b, to)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var root struct {
		Size int64     `json:"tree_size"`
		Hash tlog.Hash `json:"sha256_root_hash"`
	}
	var entries struct {
		Entries []struct {
			Data []byte `json:"leaf_input"`
		}
	}
	var proof struct {
		Proof tlog.RecordProof `json:"audit_path"`
	}
	read("sth.json", &root)
	read("entries.json", &entries)
	read("proof.json", &proof)
	leaf, _ := checkpoint.LeafHash(entries.Entries[0].Data, nil)
	if err := tlog.CheckRecord(proof.Proof, root.Size, root.Hash, 10000, tlog.Hash(leaf)); err != nil {
		t.Error(err)
	}
}

// TestCBOR: of the examples in RFC 8949 those that are in the one encoding, of a
// type that records have, are taken; everything else is refused. Both decoders
// agree.
func TestCBOR(t *testing.T) {
	var all []struct {
		Hex, Decoded, Diagnostic string
		Roundtrip                bool
	}
	load(t, "rfc8949-appendix-a.json.gz", &all)
	taken := map[string]int{}
	for _, v := range all {
		b := unhex(t, v.Hex)
		try[uint64](t, taken, "uint", b)
		try[int64](t, taken, "int", b)
		try[bool](t, taken, "bool", b)
		try[string](t, taken, "text", b)
		try[[]byte](t, taken, "bytes", b)
		try[[]uint64](t, taken, "array", b)
		first := b[0] >> 5
		simple := v.Decoded == "true" || v.Decoded == "false" || v.Decoded == "null"
		elsewhere := !v.Roundtrip || first >= 6 && !simple || b[0] == 0x3b && len(b) == 9 && b[1] >= 0x80
		if got := taken[v.Hex]; elsewhere && got != 0 {
			t.Errorf("%s (%s%s) is taken", v.Hex, v.Decoded, v.Diagnostic)
		} else if !elsewhere && got == 0 && first != 4 && first != 5 {
			t.Errorf("%s (%s%s) is refused", v.Hex, v.Decoded, v.Diagnostic)
		}
		delete(taken, v.Hex)
	}
	for name, least := range map[string]int{"uint": 11, "int": 14, "bool": 2, "text": 7, "bytes": 3, "array": 3} {
		if taken[name] < least {
			t.Errorf("only %d of type %s are taken", taken[name], name)
		}
	}
	if len(all) < 80 {
		t.Fatalf("only %d examples", len(all))
	}
}

func try[T any](t *testing.T, taken map[string]int, name string, b []byte) {
	t.Helper()
	v, err := model.Decode[T](b)
	if checked := canon.Of[T]().Check(b); (checked == nil) != (err == nil) {
		t.Errorf("%x as %s: canon says %v, the decoder %v", b, name, checked, err)
	}
	if err != nil {
		return
	}
	if !bytes.Equal(model.Encode(v), b) {
		t.Errorf("%x as %s is encoded as %x", b, name, model.Encode(v))
	}
	taken[name]++
	taken[hex.EncodeToString(b)]++
}

func TestJCS(t *testing.T) {
	inputs, err := filepath.Glob("testdata/jcs/input-*.json")
	if err != nil || len(inputs) != 6 {
		t.Fatal(inputs, err)
	}
	for _, in := range inputs {
		b, err := os.ReadFile(in)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(strings.Replace(in, "input", "output", 1))
		if err != nil {
			t.Fatal(err)
		}
		got, err := translate.Canonical(jsontext.Value(b))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v\n%s\n%s", in, err, got, want)
		}
	}
}
