// Command writ runs AI workloads only while trust in them holds: see package cli.
package main

import (
	"os"

	"github.com/writ-run/writ/internal/cli"
	"github.com/writ-run/writ/internal/enforce"
)

func main() {
	enforce.Main() // returns unless this process is the guard, the launcher or the prober
	os.Exit(cli.Main(os.Args[1:]))
}
