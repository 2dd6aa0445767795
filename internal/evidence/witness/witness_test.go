package witness_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
	"github.com/writ-run/writ/internal/evidence/quorum"
	"github.com/writ-run/writ/internal/evidence/witness"
	"github.com/writ-run/writ/internal/model"
)

const execution = model.ExecutionID("01ARZ3NDEKTSV4RRFFQ69G5FAV")

func private(n byte) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32)) }

// history is a log as a witness sees it: hashes in memory.
type history struct {
	t      testing.TB
	signer note.Signer
	key    note.Verifier
	vkey   string
	origin string
	hashes []tlog.Hash
	size   int64
	last   checkpoint.Link
}

func newHistory(t testing.TB) *history {
	t.Helper()
	signer, vkey, err := checkpoint.NewSigner("host.test/log", private(1))
	if err != nil {
		t.Fatal(err)
	}
	key, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return &history{t: t, signer: signer, key: key, vkey: vkey, origin: checkpoint.Origin("host.test/log", execution)}
}

// fork returns a copy that goes on by itself.
func (h *history) fork() *history {
	c := *h
	c.hashes = append([]tlog.Hash(nil), h.hashes...)
	return &c
}

func (h *history) ReadHashes(at []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(at))
	for i, n := range at {
		out[i] = h.hashes[n]
	}
	return out, nil
}

// grow appends n records that bear the mark, and returns the point over all.
func (h *history) grow(n int, mark string) witness.Point {
	h.t.Helper()
	for range n {
		more, err := tlog.StoredHashes(h.size, fmt.Appendf(nil, "%s %d", mark, h.size), h)
		if err != nil {
			h.t.Fatal(err)
		}
		h.hashes = append(h.hashes, more...)
		h.size++
	}
	root, err := tlog.TreeHash(h.size, h)
	if err != nil {
		h.t.Fatal(err)
	}
	signed, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: h.origin, Size: uint64(h.size), Root: model.Digest(root), Previous: h.last}, h.signer)
	if err != nil {
		h.t.Fatal(err)
	}
	h.last = checkpoint.LinkTo(uint64(h.size), signed)
	served, err := checkpoint.UnderOrigin(signed, h.vkey)
	if err != nil {
		h.t.Fatal(err)
	}
	return witness.Point{Size: uint64(h.size), Signed: served, Bare: signed, Tree: proofs{h, h.size}, Recorded: uint64(h.size)}
}

// proofs is a tree of the first size records.
type proofs struct {
	h    *history
	size int64
}

func (p proofs) Consistency(old uint64) (tlog.TreeProof, error) {
	if old == 0 || int64(old) == p.size {
		return nil, nil
	}
	return tlog.ProveTree(p.size, int64(old), p.h)
}

func newServer(t testing.TB, n byte, vkey, dir string, edit func(*witness.ServerOptions)) *witness.Server {
	t.Helper()
	o := witness.ServerOptions{Name: fmt.Sprintf("w%d.example/a", n), Key: private(100 + n), Logs: []string{vkey}, Dir: dir}
	if edit != nil {
		edit(&o)
	}
	s, err := witness.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// post sends a body to a witness.
func post(t testing.TB, h http.Handler, body string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/add-checkpoint", strings.NewReader(body)))
	return w
}

func request(t testing.TB, old uint64, p witness.Point) string {
	t.Helper()
	proof, err := p.Tree.Consistency(old)
	if err != nil {
		t.Fatal(err)
	}
	b := fmt.Sprintf("old %d\n", old)
	for _, h := range proof {
		b += h.String() + "\n"
	}
	return b + "\n" + string(p.Signed)
}

// TestStatusCodes is tlog-witness, "add-checkpoint", clause by clause.
func TestStatusCodes(t *testing.T) {
	h := newHistory(t)
	dir := t.TempDir()
	s := newServer(t, 1, h.vkey, dir, nil)
	expect := func(what string, w *httptest.ResponseRecorder, code int, size string) {
		t.Helper()
		if w.Code != code {
			t.Errorf("%s: %d, want %d: %s", what, w.Code, code, w.Body)
		}
		if size != "" && (w.Body.String() != size+"\n" || w.Header().Get("Content-Type") != "text/x.tlog.size") {
			t.Errorf("%s: %q of type %q", what, w.Body, w.Header().Get("Content-Type"))
		}
	}
	five := h.grow(5, "a")
	split := h.fork()
	expect("from a size that it has not seen", post(t, s, request(t, 3, five)), 409, "0")
	w := post(t, s, request(t, 0, five))
	expect("the first", w, 200, "")
	p, err := quorum.Parse([]byte("witness a " + s.VKey() + "\nquorum a\n"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := quorum.Open(append(bytes.Clone(five.Signed), w.Body.Bytes()...), h.key, p)
	if err != nil || !c.Has(0) || c.Size != 5 || time.Since(c.By[0]) > time.Hour {
		t.Fatalf("%+v, %v", c, err)
	}
	expect("the same again", post(t, s, request(t, 5, five)), 200, "")
	expect("the same from nothing", post(t, s, request(t, 0, five)), 409, "5")
	nine := h.grow(4, "a")
	expect("a wrong old size", post(t, s, request(t, 4, nine)), 409, "5")
	expect("an old size beyond the checkpoint", post(t, s, "old 10\n\n"+string(nine.Signed)), 400, "")
	expect("no proof", post(t, s, "old 5\n\n"+string(nine.Signed)), 422, "")
	other := split.grow(4, "b")
	expect("a fork", post(t, s, "old 5\n"+strings.Repeat(tlog.Hash{}.String()+"\n", 3)+"\n"+string(other.Signed)), 422, "")
	expect("the next", post(t, s, request(t, 5, nine)), 200, "")
	expect("a fork of the same size", post(t, s, "old 9\n\n"+string(other.Signed)), 409, "9")
	expect("a rollback", post(t, s, "old 9\n\n"+string(five.Signed)), 400, "")
	expect("a rollback that says so", post(t, s, "old 5\n\n"+string(five.Signed)), 409, "9")
	expect("a proof between equal sizes", post(t, s, "old 9\n"+tlog.Hash{}.String()+"\n\n"+string(nine.Signed)), 422, "")

	unknown := *h
	unknown.origin = "elsewhere.test/log/" + string(execution)
	expect("an unknown log", post(t, s, request(t, 0, unknown.grow(1, "a"))), 404, "")
	for _, origin := range []string{"host.test/log/", "host.test/log/x", "host.test/logs", "host.test/log/" + string(execution) + "/x"} {
		unknown.origin = origin
		expect(origin, post(t, s, request(t, 0, unknown.grow(1, "a"))), 404, "")
	}
	forged := h.fork()
	if forged.signer, forged.vkey, err = checkpoint.NewSigner("host.test/log", private(9)); err != nil {
		t.Fatal(err)
	}
	expect("another key", post(t, s, request(t, 9, forged.grow(1, "a"))), 403, "")
	expect("no signature", post(t, s, "old 9\n\n"+h.origin+"\n9\n"+tlog.Hash{}.String()+"\n"), 403, "")
	for name, body := range map[string]string{
		"empty": "", "no old line": "\n\n" + string(nine.Signed), "leading zero": "old 09\n\n" + string(nine.Signed), "minus": "old -1\n\n" + string(nine.Signed),
		"plus": "old +9\n\n" + string(nine.Signed), "not a hash": "old 9\nx\n\n" + string(nine.Signed), "no note": "old 9\n\n",
		"64 lines": "old 9\n" + strings.Repeat(tlog.Hash{}.String()+"\n", 64) + "\n" + string(nine.Signed), "long": "old 9\n\n" + strings.Repeat("x", 1<<17),
	} {
		expect(name, post(t, s, body), 400, "")
	}
	r := httptest.NewRecorder()
	s.ServeHTTP(r, httptest.NewRequest(http.MethodGet, "/add-checkpoint", nil))
	expect("GET", r, 405, "")
	seen, err := witness.List(dir)
	if err != nil || len(seen) != 1 || seen[0].Size != 9 {
		t.Errorf("%+v, %v", seen, err)
	}
}
