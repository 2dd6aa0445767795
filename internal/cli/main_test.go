package cli

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/writ-run/writ/internal/enforce"
)

// The test binary is writ itself when it is called by that name; and the guard,
// the launcher and the prober when enforce calls it by theirs.
func TestMain(m *testing.M) {
	enforce.Main()
	testscript.Main(m, map[string]func(){
		"writ": func() { os.Exit(Main(os.Args[1:])) },
	})
}
