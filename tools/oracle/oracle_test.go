package oracle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
	"github.com/writ-run/writ/internal/evidence/log"
	"github.com/writ-run/writ/internal/evidence/testlog"
	"github.com/writ-run/writ/internal/evidence/tiles"
	"github.com/writ-run/writ/internal/model"
)

// watchdog is how long fsck may take; it needs a second.
const watchdog = 2 * time.Minute

const workers = 16

// published is a log of several segments, published in steps.
func published(t *testing.T, batches int) (o tiles.Options, sizes []uint64) {
	t.Helper()
	dir, keys := t.TempDir(), testlog.NewKeys(1)
	opts := keys.LogOptions("")
	opts.SegmentSize = 64 << 10
	l, err := log.Open(filepath.Join(dir, "log"), opts)
	if err != nil {
		t.Fatal(err)
	}
	o = tiles.Options{Log: filepath.Join(dir, "log"), Origin: checkpoint.Origin(keys.Log.Signer.Name(), testlog.Execution), VKey: keys.Log.VKey, Dir: filepath.Join(dir, "out")}
	p, err := tiles.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	next := uint64(0)
	for i := range batches {
		var batch []model.Record
		for range 1 + i*7%90 {
			batch = append(batch, model.Record{Execution: testlog.Execution, Seq: next, Boot: "boot", Kind: model.RecordHeartbeat, Body: bytes.Repeat([]byte{byte(next)}, 1+i)})
			next++
		}
		if _, err := l.Append(t.Context(), batch).Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if i%5 == 0 || i == batches-1 {
			now, err := p.Advance(t.Context())
			if err != nil || now.Size != next {
				t.Fatalf("%+v, %v", now, err)
			}
			sizes = append(sizes, now.Size)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return o, sizes
}

func hashes(bundle []byte) ([][]byte, error) {
	var b api.EntryBundle
	if err := b.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	var out [][]byte
	for _, e := range b.Entries {
		out = append(out, rfc6962.DefaultHasher.HashLeaf(e))
	}
	return out, nil
}

// check runs fsck under the watchdog. hung tells that it did not come back.
func check(t *testing.T, o tiles.Options, f fsck.Fetcher) (err error, hung bool) {
	t.Helper()
	v, err := note.NewVerifier(o.VKey)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- fsck.New(o.Origin, v, f, hashes, fsck.Opts{N: workers}).Check(ctx) }()
	select {
	case err := <-done:
		return err, false
	case <-time.After(watchdog + 10*time.Second):
		return nil, true
	}
}

// TestFsck: Tessera finds nothing wrong with what Writ publishes, in the files
// and over HTTP.
func TestFsck(t *testing.T) {
	o, _ := published(t, 60)
	if err, hung := check(t, o, client.FileFetcher{Root: o.Dir}); err != nil || hung {
		t.Errorf("files: %v, hung: %t", err, hung)
	}
	server := httptest.NewServer(tiles.Handler(o.Dir))
	defer server.Close()
	at, err := url.Parse(server.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	f, err := client.NewHTTPFetcher(at, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	if err, hung := check(t, o, f); err != nil || hung {
		t.Errorf("HTTP: %v, hung: %t", err, hung)
	}
}

// TestFsckFinds: the oracle is one: it finds each kind of damage.
func TestFsckFinds(t *testing.T) {
	o, sizes := published(t, 60)
	if last := sizes[len(sizes)-1]; last < 600 {
		t.Fatalf("%d records: no tile is full", last)
	}
	for _, name := range []string{"tile/0/000", "tile/entries/001", "checkpoint"} {
		path := filepath.Join(o.Dir, name)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Clone(content)
		damaged[len(damaged)/2] ^= 1
		if err := os.WriteFile(path, damaged, 0o644); err != nil {
			t.Fatal(err)
		}
		if err, hung := check(t, o, client.FileFetcher{Root: o.Dir}); err == nil && !hung {
			t.Errorf("%s: nothing was found", name)
		} else if hung {
			t.Errorf("%s: fsck hangs", name)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestClient: Tessera's client makes from our tiles the proofs that ours makes.
func TestClient(t *testing.T) {
	o, sizes := published(t, 40)
	v, err := note.NewVerifier(o.VKey)
	if err != nil {
		t.Fatal(err)
	}
	f := client.FileFetcher{Root: o.Dir}
	cp, _, _, err := client.FetchCheckpoint(t.Context(), f.ReadCheckpoint, v, o.Origin)
	if err != nil {
		t.Fatal(err)
	}
	builder, err := client.NewProofBuilder(t.Context(), cp.Size, f.ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := tiles.OpenTree(o.Dir, o.Origin, o.VKey)
	if err != nil || tree.Size != cp.Size || !bytes.Equal(tree.Root[:], cp.Hash) {
		t.Fatal(err)
	}
	for _, i := range []uint64{0, 1, 255, 256, 300, tree.Size - 1} {
		theirs, err := builder.InclusionProof(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		leaf, ours, err := tree.Record(i)
		if err != nil || len(ours) != len(theirs) {
			t.Fatalf("record %d: %v", i, err)
		}
		for n := range ours {
			if !bytes.Equal(ours[n][:], theirs[n]) {
				t.Errorf("record %d: the proofs differ at %d", i, n)
			}
		}
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, i, tree.Size, rfc6962.DefaultHasher.HashLeaf(leaf), theirs, tree.Root[:]); err != nil {
			t.Errorf("record %d: %v", i, err)
		}
		bundle, err := client.GetEntryBundle(t.Context(), f.ReadEntryBundle, i/256, tree.Size)
		if err != nil || sha256.Sum256(bundle.Entries[i%256]) != sha256.Sum256(leaf) {
			t.Errorf("record %d: another entry: %v", i, err)
		}
	}
	for _, old := range sizes[:len(sizes)-1] {
		theirs, err := builder.ConsistencyProof(t.Context(), old, tree.Size)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := tree.Consistency(old)
		if err != nil || len(ours) != len(theirs) {
			t.Fatalf("from %d: %v", old, err)
		}
		for n := range ours {
			if !bytes.Equal(ours[n][:], theirs[n]) {
				t.Errorf("from %d: the proofs differ at %d", old, n)
			}
		}
	}
}
