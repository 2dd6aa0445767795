package tiles

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"filippo.io/torchwood"
)

// Handler serves what is published in dir as c2sp.org/tlog-tiles says, and
// "witnessed", the last checkpoint that a witness quorum stood by. It takes no
// other path, follows no link out of the directory and lists nothing.
func Handler(dir string) http.Handler { return handler{dir} }

type handler struct{ dir string }

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	tile := strings.HasPrefix(name, "records/")
	if tile {
		_, err := torchwood.ParseTilePath("tile/entries/" + strings.TrimPrefix(name, "records/"))
		tile = err == nil
	} else {
		_, err := torchwood.ParseTilePath(name)
		tile = err == nil
	}
	if !tile && name != CheckpointFile && name != WitnessedFile {
		http.NotFound(w, r)
		return
	}
	root, err := os.OpenRoot(h.dir)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		code := http.StatusInternalServerError
		if errors.Is(err, fs.ErrNotExist) {
			code = http.StatusNotFound
		}
		http.Error(w, http.StatusText(code), code)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		http.NotFound(w, r)
		return
	}
	if tile {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-cache")
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", info.ModTime(), f)
}
