package scope

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// gone tells whether an error of reading /proc means that the process ended.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }
