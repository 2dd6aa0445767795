package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/writ-run/writ/internal/model"
)

const (
	first  model.ExecutionID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	second model.ExecutionID = "01ARZ3NDEKTSV4RRFFQ69G5FAW"
)

func open(t *testing.T) *Dir {
	t.Helper()
	d, err := Open(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestOpenRefusesWhatOthersMayReach(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if _, err := Open(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrNotPrivate) {
		t.Fatalf("opened a directory with mode 0755: %v", err)
	}
	if os.Geteuid() != 0 {
		return // only root can give a directory away
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrNotPrivate) {
		t.Fatalf("opened somebody else's directory: %v", err)
	}
}

func TestOneGovernorAnExecution(t *testing.T) {
	d := open(t)
	lock, err := d.Lock(first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Lock(first); !errors.Is(err, ErrLocked) {
		t.Fatalf("locked twice: %v", err)
	}
	if other, err := d.Lock(second); err != nil {
		t.Fatalf("another execution: %v", err)
	} else {
		other.Close()
	}
	if !d.Governed(first) || d.Governed(second) || d.Governed("01ARZ3NDEKTSV4RRFFQ69G5FAX") {
		t.Fatal("Governed is wrong")
	}
	lock.Close()
	if d.Governed(first) {
		t.Fatal("still governed after its governor is gone")
	}
}

func TestFind(t *testing.T) {
	d := open(t)
	for _, id := range []model.ExecutionID{first, second} {
		f, err := d.Lock(id)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	for text, want := range map[string]error{
		"01ARZ3":                     ErrAmbiguous,
		"5FA":                        ErrNotFound, // too short to be meant
		"9zzz":                       ErrNotFound,
		"../..":                      ErrNotFound,
		"01ARZ3NDEKTSV4RRFFQ69G5FAX": ErrNotFound,
	} {
		if id, err := d.Find(text); !errors.Is(err, want) {
			t.Errorf("Find(%q) = %s, %v", text, id, err)
		}
	}
	for text, want := range map[string]model.ExecutionID{"g5fav": first, "last": second, string(first): first} {
		if id, err := d.Find(text); err != nil || id != want {
			t.Errorf("Find(%q) = %s, %v", text, id, err)
		}
	}
}

// Whoever looks, however often, neither keeps a governor from its execution nor
// ever sees one without its governor.
func TestLookingIsInNobodysWay(t *testing.T) {
	d := open(t)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			ids, err := d.List()
			if err != nil {
				t.Error(err)
				return
			}
			for _, id := range ids {
				if !d.Governed(id) {
					t.Errorf("%s is seen without its governor", id)
				}
				if f, err := d.Lock(id); !errors.Is(err, ErrLocked) {
					t.Errorf("%s could be taken: %v", id, err)
					f.Close()
				}
			}
		}
	}()
	for range 200 {
		id := model.ExecutionID(ulid.Make().String())
		f, err := d.Lock(id)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	close(stop)
	<-done
}
