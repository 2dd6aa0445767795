package enforce

import (
	"os"
	"runtime"
	"strings"
)

// In the launcher the main goroutine stays on the main thread from the start.
// The runtime holds it there only while packages are initialised; a lock that is
// taken later, on a busy machine, may be taken on another thread, and what is
// then armed is not seen in the process's status, which is its main thread's.
func init() {
	if len(os.Args) > 0 && strings.HasPrefix(os.Args[0], argLauncher+" ") {
		runtime.LockOSThread()
	}
}
