package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

// Every command has a short description, an example, and help that is as the
// golden file has it and fits a terminal of 100 columns.
func TestHelp(t *testing.T) {
	var each func(cmd *cobra.Command)
	root := func() *cobra.Command {
		return (&app{out: &output{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}}).root()
	}
	each = func(cmd *cobra.Command) {
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			if cmd.Short == "" || cmd.Example == "" && !cmd.HasSubCommands() {
				t.Error("no short description, or no example")
			}
			fresh := root() // a command that ran keeps its flags
			var out bytes.Buffer
			fresh.SetOut(&out)
			fresh.SetArgs(append(strings.Fields(cmd.CommandPath())[1:], "--help"))
			if err := fresh.Execute(); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "help", strings.ReplaceAll(cmd.CommandPath(), " ", "_")+".txt")
			if *rewrite {
				if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("%v; run go test . -run TestHelp -rewrite", err)
			}
			if diff := cmp.Diff(string(want), out.String()); diff != "" {
				t.Error(diff)
			}
		})
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() && c.Name() != "help" && c.Name() != "completion" {
				each(c)
			}
		}
	}
	each(root())
}
