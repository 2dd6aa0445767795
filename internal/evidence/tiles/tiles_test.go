package tiles

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
	"github.com/writ-run/writ/internal/evidence/log"
	"github.com/writ-run/writ/internal/evidence/testlog"
	"github.com/writ-run/writ/internal/model"
)

// growing is a log that a test writes to.
type growing struct {
	t    testing.TB
	keys testlog.Keys
	dir  string
	log  *log.Log
	next uint64
	flag byte // makes the records differ from another log's
}

func newGrowing(t testing.TB, dir string) *growing {
	g := &growing{t: t, keys: testlog.NewKeys(1), dir: dir}
	g.open()
	return g
}

func (g *growing) open() {
	g.t.Helper()
	var err error
	if g.log, err = log.Open(g.dir, g.keys.LogOptions("")); err != nil {
		g.t.Fatal(err)
	}
}

func (g *growing) close() {
	g.t.Helper()
	if err := g.log.Close(); err != nil {
		g.t.Fatal(err)
	}
}

// add appends batches of the given numbers of records; extra bytes go into the
// first record's body.
func (g *growing) add(extra int, sizes ...int) {
	g.t.Helper()
	for _, n := range sizes {
		var batch []model.Record
		for range n {
			batch = append(batch, model.Record{Execution: testlog.Execution, Seq: g.next, Boot: "boot", Kind: model.RecordHeartbeat, Body: append(bytes.Repeat([]byte{g.flag}, extra), byte(g.next))})
			g.next++
			extra = 0
		}
		if _, err := g.log.Append(g.t.Context(), batch).Wait(g.t.Context()); err != nil {
			g.t.Fatal(err)
		}
	}
}

func (g *growing) options(to string) Options {
	return Options{Log: g.dir, Origin: checkpoint.Origin(g.keys.Log.Signer.Name(), testlog.Execution), VKey: g.keys.Log.VKey, Dir: to}
}

func publishTo(t testing.TB, o Options) Published {
	t.Helper()
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	now, err := p.Advance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// theirs opens what is published as another implementation's client does.
func theirs(t testing.TB, o Options, base string) (*torchwood.Client, torchwood.Checkpoint) {
	t.Helper()
	fetcher, err := torchwood.NewTileFetcher(base)
	if err != nil {
		t.Fatal(err)
	}
	client, err := torchwood.NewClient(fetcher)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := fetcher.ReadEndpoint(t.Context(), "checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	named, err := checkpoint.OriginKey(o.VKey, o.Origin)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := torchwood.ParsePolicy([]byte("log " + named + "\nquorum none\n"))
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := torchwood.VerifyCheckpoint(signed, policy)
	if err != nil {
		t.Fatal(err)
	}
	return client, c
}

// TestOthersReadIt publishes at sizes around every boundary, and reads each with
// another implementation's client, over HTTP and with only the log's policy.
func TestOthersReadIt(t *testing.T) {
	dir := t.TempDir()
	g := newGrowing(t, filepath.Join(dir, "log"))
	defer g.close()
	o := g.options(filepath.Join(dir, "out"))
	server := httptest.NewServer(Handler(o.Dir))
	defer server.Close()
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var roots []Published
	for _, n := range []int{1, 1, 253, 1, 1, 254, 1, 300, 2000} {
		g.add(0, n)
		now, err := p.Advance(t.Context())
		if err != nil || now.Size != g.next {
			t.Fatalf("%+v, %v", now, err)
		}
		roots = append(roots, now)
		client, c := theirs(t, o, server.URL)
		if c.N != int64(g.next) || model.Digest(c.Hash) != now.Root {
			t.Fatalf("%+v", c)
		}
		read := int64(0)
		for i, entry := range client.AllEntries(t.Context(), c.Tree, 0) {
			if r, err := model.Decode[model.Record](entry); err != nil || i != read || r.Seq != uint64(i) {
				t.Fatalf("entry %d: %+v, %v", i, r, err)
			}
			read++
		}
		if err := client.Err(); err != nil || read != c.N {
			t.Fatalf("%d of %d: %v", read, c.N, err)
		}
	}
	tree, err := p.Tree()
	if err != nil {
		t.Fatal(err)
	}
	for _, before := range roots {
		consistency, err := tree.Consistency(before.Size)
		if err != nil {
			t.Fatal(err)
		}
		var hashes [][]byte
		for _, h := range consistency {
			hashes = append(hashes, h[:])
		}
		if err := proof.VerifyConsistency(rfc6962.DefaultHasher, before.Size, tree.Size, hashes, before.Root[:], tree.Root[:]); err != nil {
			t.Errorf("from %d: %v", before.Size, err)
		}
	}
	if _, err := tree.Consistency(tree.Size + 1); !errors.Is(err, ErrNotPublished) {
		t.Errorf("%v", err)
	}
	named, _ := checkpoint.OriginKey(o.VKey, o.Origin)
	policy, err := torchwood.ParsePolicy([]byte("log " + named + "\nquorum none\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []uint64{0, 1, 254, 255, 256, 257, 511, 512, tree.Size - 1} {
		b, leaf, err := tree.Proof(i, tree.Signed)
		if err != nil {
			t.Fatal(err)
		}
		if err := torchwood.VerifyProof(policy, tlog.RecordHash(leaf), b); err != nil {
			t.Errorf("record %d: %v", i, err)
		}
	}
	if _, _, err := tree.Proof(tree.Size, tree.Signed); !errors.Is(err, ErrNotPublished) {
		t.Errorf("%v", err)
	}
}

// TestPartialTilesGo: what became full leaves no partial tiles behind.
func TestPartialTilesGo(t *testing.T) {
	dir := t.TempDir()
	g := newGrowing(t, filepath.Join(dir, "log"))
	defer g.close()
	o := g.options(filepath.Join(dir, "out"))
	for _, n := range []int{200, 56, 100} {
		g.add(0, n)
		publishTo(t, o)
	}
	for _, gone := range []string{"tile/0/000.p", "tile/entries/000.p"} {
		if _, err := os.Stat(filepath.Join(o.Dir, gone)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", gone, err)
		}
	}
	for _, there := range []string{"tile/0/000", "tile/entries/000", "tile/0/001.p/100", "tile/1/000.p/1"} {
		if _, err := os.Stat(filepath.Join(o.Dir, there)); err != nil {
			t.Error(err)
		}
	}
}

// TestOversize: a record beyond what an entry bundle can hold does not stop the
// log from being published, and its proof can be made.
func TestOversize(t *testing.T) {
	dir := t.TempDir()
	g := newGrowing(t, filepath.Join(dir, "log"))
	defer g.close()
	o := g.options(filepath.Join(dir, "out"))
	g.add(0, 3)
	g.add(70_000, 2)
	publishTo(t, o)
	g.add(0, 300)
	if now := publishTo(t, o); now.Size != 305 || now.Oversize != 1 {
		t.Fatalf("%+v", now)
	}
	tree, err := OpenTree(o.Dir, o.Origin, o.VKey)
	if err != nil {
		t.Fatal(err)
	}
	for i := range tree.Size {
		if leaf, _, err := tree.Record(i); err != nil || i == 3 && len(leaf) < 70_000 {
			t.Fatalf("record %d: %d bytes, %v", i, len(leaf), err)
		}
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "tile/entries/000")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a bundle that cannot be: %v", err)
	}
	server := httptest.NewServer(Handler(o.Dir))
	defer server.Close()
	if code, body := get(t, server.URL+"/records/000"); code != http.StatusOK || len(body) < 70_000 {
		t.Errorf("%d, %d bytes", code, len(body))
	}
}

func get(t testing.TB, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestRollbackAndFork: a log that does not continue what was published is
// refused, and what was published stays.
func TestRollbackAndFork(t *testing.T) {
	dir := t.TempDir()
	g := newGrowing(t, filepath.Join(dir, "log"))
	o := g.options(filepath.Join(dir, "out"))
	g.add(0, 100)
	g.close()
	if err := os.CopyFS(filepath.Join(dir, "snapshot"), os.DirFS(g.dir)); err != nil {
		t.Fatal(err)
	}
	g.open()
	g.add(0, 200)
	g.close()
	before := publishTo(t, o)

	refused := func(what string, class error) {
		t.Helper()
		p, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if _, err := p.Advance(t.Context()); !errors.Is(err, class) {
			t.Errorf("%s: %v", what, err)
		}
		tree, err := OpenTree(o.Dir, o.Origin, o.VKey)
		if err != nil || tree.Size != before.Size || tree.Root != before.Root {
			t.Errorf("%s: %+v, %v", what, tree, err)
		}
	}
	o.Log = filepath.Join(dir, "snapshot")
	refused("a snapshot", ErrAhead)

	fork := &growing{t: t, keys: g.keys, dir: o.Log, next: 100, flag: 9}
	fork.open()
	fork.add(8, 200)
	fork.close()
	refused("a fork of the same size", ErrFork)
	fork.open()
	fork.add(0, 300)
	fork.close()
	refused("a fork that went on", ErrFork)
}

// TestCrashes lets every write fail, applied or not, and goes on from what is on
// the disk. Whenever it is looked at, the checkpoint has all its tiles.
func TestCrashes(t *testing.T) {
	for seed := range uint64(5) {
		r := rand.New(rand.NewPCG(seed, 7))
		dir := t.TempDir()
		g := newGrowing(t, filepath.Join(dir, "log"))
		o := g.options(filepath.Join(dir, "out"))
		o.Step = 100 + r.Uint64N(400)
		crash := errors.New("crash")
		o.put = func(path string, content []byte) error {
			switch r.IntN(12) {
			case 0:
				return crash
			case 1: // torn, before the rename
				_ = os.WriteFile(temporary(path), content[:len(content)/2], fileMode)
				return crash
			case 2:
				_ = put(path, content)
				return crash
			}
			return put(path, content)
		}
		last := uint64(0)
		for range 8 {
			g.add(0, 1+r.IntN(200))
			p, err := Open(o)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			for range 1 + r.IntN(3) {
				if _, err := p.Advance(t.Context()); err != nil && !errors.Is(err, crash) {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			p.Close()
			last = whole(t, seed, o, last, g.next)
		}
		o.put = nil
		publishTo(t, o)
		if size := whole(t, seed, o, last, g.next); size != g.next {
			t.Fatalf("seed %d: %d of %d", seed, size, g.next)
		}
		g.close()
	}
}

func temporary(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
}

// put is durable.Write without the flushes, which a test's crash does not need.
func put(path string, content []byte) error {
	if err := os.WriteFile(temporary(path), content, fileMode); err != nil {
		return err
	}
	return os.Rename(temporary(path), path)
}

// whole reads all that the published checkpoint covers.
func whole(t *testing.T, seed uint64, o Options, atLeast, atMost uint64) uint64 {
	t.Helper()
	tree, err := OpenTree(o.Dir, o.Origin, o.VKey)
	if errors.Is(err, fs.ErrNotExist) && atLeast == 0 {
		return 0
	}
	if err != nil || tree.Size < atLeast || tree.Size > atMost {
		t.Fatalf("seed %d: %+v, %v", seed, tree, err)
	}
	for i := uint64(0); i < tree.Size; i += 1 + tree.Size/8 {
		if _, _, err := tree.Record(i); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	return tree.Size
}

// TestLagsNeverLeads: what is under no whole checkpoint is not published.
func TestLagsNeverLeads(t *testing.T) {
	dir := t.TempDir()
	g := newGrowing(t, filepath.Join(dir, "log"))
	o := g.options(filepath.Join(dir, "out"))
	g.add(0, 10, 10)
	g.close()
	// The last flush loses its end: what is in it is not under a checkpoint.
	segments, err := filepath.Glob(filepath.Join(o.Log, "*.seg"))
	if err != nil || len(segments) != 1 {
		t.Fatal(segments, err)
	}
	content, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(segments[0], content[:len(content)-20], 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if now, _ := p.Advance(t.Context()); now.Size > 10 {
		t.Fatalf("%d records published, 10 are recorded", now.Size)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Advance(stopped); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// TestWrongKey: nothing is published that the log's key did not sign.
func TestWrongKey(t *testing.T) {
	dir := t.TempDir()
	g := newGrowing(t, filepath.Join(dir, "log"))
	defer g.close()
	g.add(0, 10)
	o := g.options(filepath.Join(dir, "out"))
	o.VKey = testlog.NewKeys(2).Log.VKey
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if now, err := p.Advance(t.Context()); !errors.Is(err, checkpoint.ErrSignature) || now.Size != 0 {
		t.Fatalf("%+v, %v", now, err)
	}
}

// TestTamperedTiles: a tile that was changed makes no proof.
func TestTamperedTiles(t *testing.T) {
	dir := t.TempDir()
	g := newGrowing(t, filepath.Join(dir, "log"))
	defer g.close()
	g.add(0, 700)
	o := g.options(filepath.Join(dir, "out"))
	publishTo(t, o)
	for name, record := range map[string]uint64{"tile/0/000": 1, "tile/0/002.p/188": 1, "tile/1/000.p/2": 1, "tile/entries/000": 0} {
		path := filepath.Join(o.Dir, name)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content[40] ^= 1
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		tree, err := OpenTree(o.Dir, o.Origin, o.VKey)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := tree.Record(record); err == nil {
			t.Errorf("%s: record %d is proved", name, record)
		}
		content[40] ^= 1
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHandler(t *testing.T) {
	dir := t.TempDir()
	g := newGrowing(t, filepath.Join(dir, "log"))
	defer g.close()
	g.add(0, 5)
	o := g.options(filepath.Join(dir, "out"))
	publishTo(t, o)
	if err := os.Symlink("/etc/passwd", filepath.Join(o.Dir, "witnessed")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := Handler(o.Dir)
	for path, want := range map[string]int{
		"/checkpoint": 200, "/tile/0/000.p/5": 200, "/tile/entries/000.p/5": 200, "/tile/0/000": 404, "/tile/0/000.p/4": 404,
		"/": 404, "/.lock": 404, "/tile": 404, "/tile/": 404, "/tile/0": 404, "/tile/0/": 404, "/../secret": 404, "/tile/../../secret": 404,
		"/tile/0/..%2f..%2f..%2fsecret": 404, "/witnessed": 500, "/tile/0/000.p/05": 404, "/tile/0/x000/000.p/5": 404, "/records/000": 404,
	} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want || strings.Contains(w.Body.String(), "secret") || strings.Contains(w.Body.String(), "root:") {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
	for path, kind := range map[string]string{"/checkpoint": "text/plain; charset=utf-8", "/tile/0/000.p/5": "application/octet-stream"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if got := w.Header().Get("Content-Type"); got != kind {
			t.Errorf("%s: %s", path, got)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/checkpoint", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Error(w.Code)
	}
}

// TestServedCheckpointHasBothNames: a client that knows the host's key and one
// that knows the log's both read it.
func TestServedCheckpointHasBothNames(t *testing.T) {
	dir := t.TempDir()
	g := newGrowing(t, filepath.Join(dir, "log"))
	defer g.close()
	g.add(0, 5)
	o := g.options(filepath.Join(dir, "out"))
	now := publishTo(t, o)
	named, err := checkpoint.OriginKey(o.VKey, o.Origin)
	if err != nil {
		t.Fatal(err)
	}
	for _, vkey := range []string{o.VKey, named} {
		v, err := note.NewVerifier(vkey)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := note.Open(now.Checkpoint, note.VerifierList(v)); err != nil || len(n.Sigs) != 1 {
			t.Errorf("%s: %v", vkey, err)
		}
	}
	if want := fmt.Sprintf("%s\n5\n", o.Origin); !strings.HasPrefix(string(now.Checkpoint), want) {
		t.Errorf("%s", now.Checkpoint)
	}
}
