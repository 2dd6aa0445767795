package cli

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/policy"
)

// version is what this build is.
type version struct {
	Version string       `json:"version"` // of the module
	Commit  string       `json:"commit,omitempty"`
	Dirty   bool         `json:"dirty,omitempty"` // built from changed sources
	Engine  model.Digest `json:"engine"`          // digest of what decides
	Schema  model.Digest `json:"schema"`
	Cedar   string       `json:"cedar"`
	Go      string       `json:"go"`
	System  string       `json:"platform"`
}

// Version returns what this build is, as the build recorded it.
func readVersion() version {
	v := version{Version: "(devel)", Engine: policy.EngineDigest(), Schema: model.DigestOf([]byte(policy.Schema)),
		Cedar: policy.CedarVersion, Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Dirty = s.Value == "true"
		}
	}
	return v
}

// versionCommand says what this build is.
func (a *app) versionCommand() *cobra.Command {
	var f format
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Show version, commit and engine of this build",
		Long:    "Show version, commit and engine of this build. The engine is the digest of what decides; every record carries it.",
		Example: "  writ version -o json",
		Args:    exactly("", 0, 0),
		RunE: func(*cobra.Command, []string) error {
			v := readVersion()
			return single(a.out, f, v, func() {
				commit := v.Commit
				if v.Dirty {
					commit += " (changed)"
				}
				rows := [][]cell{plain("writ", v.Version)}
				if commit != "" {
					rows = append(rows, plain("commit", commit))
				}
				a.out.table(nil, append(rows, plain("engine", v.Engine.String()), plain("schema", v.Schema.String()),
					plain("cedar", v.Cedar), plain("go", v.Go+" "+v.System)))
			})
		},
	}
	formatFlag(cmd, &f)
	return cmd
}
