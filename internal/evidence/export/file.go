package export

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// File calls write with a file that becomes the one at path when it is whole:
// readable by its owner only, durable, and never in the place of another. It
// does, in this order: openat(temporary, O_EXCL), writes, fsync,
// renameat2(RENAME_NOREPLACE), fsync(directory). What fails leaves nothing.
func File(path string, write func(io.Writer) error) (err error) {
	dir, name := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+name+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL { // a file system that does not know the flag: a hard link never replaces either
		if err = os.Link(f.Name(), path); err == nil {
			err = os.Remove(f.Name())
		}
	}
	if err != nil {
		return &os.PathError{Op: "creating", Path: path, Err: err}
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil // it is there; only its name may not survive a crash now
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("making %s durable: %w", path, err)
	}
	return nil
}
