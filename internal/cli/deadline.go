package cli

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/writ-run/writ/internal/enforce"
	"github.com/writ-run/writ/internal/enforce/deadline"
	"github.com/writ-run/writ/internal/problem"
)

// deadlineCommand holds what is about deadlines in the kernel.
func (a *app) deadlineCommand() *cobra.Command {
	c := group("deadline", "List and remove deadlines that the kernel holds", a.deadlineListCommand(), a.deadlineRemoveCommand())
	c.Long = `List and remove deadlines that the kernel holds.

In tier kernel, programs in the kernel stop a workload at its deadline, also when
neither its governor nor its guard runs any more. They are pinned in
/sys/fs/bpf/writ and stay when Writ ends; without an execution they cost nothing.`
	return c
}

// deadlineView is one deadline, or one place that has programs and no deadline.
type deadlineView struct {
	Build  string     `json:"build"` // digest of the programs
	Own    bool       `json:"own"`   // they are this program's
	Group  uint64     `json:"group"`
	Path   string     `json:"path,omitempty"` // "" if the control group is gone
	Links  int        `json:"links,omitempty"`
	StopAt *time.Time `json:"stop_at,omitempty"`
	KillAt *time.Time `json:"kill_at,omitempty"`
}

func viewsOf(pinned []deadline.Pinned, boot int64, wall time.Time) []deadlineView {
	at := func(mono int64) *time.Time {
		if mono == 0 {
			return nil // another build's, which only that one can read
		}
		t := wall.Add(time.Duration(mono - boot))
		return &t
	}
	views := []deadlineView{}
	for _, p := range pinned {
		for _, place := range p.Places {
			views = append(views, deadlineView{Build: p.Version, Own: p.Own, Group: place.Group, Path: place.Path, Links: place.Links})
		}
		for _, h := range p.Held {
			views = append(views, deadlineView{Build: p.Version, Own: p.Own, Group: h.Group, Path: h.Path, StopAt: at(h.StopAt), KillAt: at(h.KillAt)})
		}
	}
	return views
}

// needsRoot is the answer to who may not look into the kernel.
func needsRoot(err error) error {
	if os.Geteuid() == 0 {
		return err
	}
	return problem.New("needs_root", "the kernel tells only root what it holds").Because(err)
}

func (a *app) deadlineListCommand() *cobra.Command {
	var f format
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the deadlines that the kernel holds, and the places where programs are attached",
		Example: "  writ deadline list\n  writ deadline list -o json",
		Args:    exactly("", 0, 0),
		RunE: func(*cobra.Command, []string) error {
			pinned, err := enforce.Pinned()
			if err != nil {
				return needsRoot(err)
			}
			views := viewsOf(pinned, enforce.Now(), time.Now())
			if len(views) == 0 && f == formatTable {
				if a.out.terminal {
					a.out.say("the kernel holds nothing of Writ's")
				}
				return nil
			}
			return list(a.out, f, views, []string{"BUILD", "CONTROL GROUP", "HOLDS", "KILLS"}, func(v deadlineView) []cell {
				where, colour := v.Path, green
				if where == "" {
					where, colour = fmt.Sprintf("%d, gone", v.Group), yellow
				}
				if v.StopAt == nil && v.Links == 0 {
					return []cell{{text: v.Build}, {text: where, colour: colour}, {text: "a deadline that only its build can read", colour: yellow}, {}}
				}
				if v.StopAt == nil {
					return []cell{{text: v.Build}, {text: where, colour: colour}, {text: fmt.Sprintf("%d programs", v.Links)}, {}}
				}
				if time.Now().After(*v.StopAt) {
					colour = red
				}
				return []cell{{text: v.Build}, {text: where}, {text: "until " + stamp(*v.StopAt), colour: colour}, {text: stamp(*v.KillAt)}}
			})
		},
	}
	formatFlag(cmd, &f)
	return cmd
}

func (a *app) deadlineRemoveCommand() *cobra.Command {
	var f format
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Remove what dead executions left in the kernel, and programs that hold no deadline",
		Long: `Remove from the kernel the deadlines whose control group is gone, and the programs
that hold no deadline now. The deadline of a workload that is there is never
removed: end the workload first. The next execution puts the programs back.`,
		Example: "  writ deadline remove",
		Args:    exactly("", 0, 0),
		RunE: func(*cobra.Command, []string) error {
			removed, err := enforce.SweepPinned(true)
			if err != nil {
				return needsRoot(err)
			}
			if removed == nil {
				removed = []string{}
			}
			return single(a.out, f, map[string][]string{"removed": removed}, func() {
				for _, line := range removed {
					a.out.print("removed %s", line)
				}
			})
		},
	}
	formatFlag(cmd, &f)
	return cmd
}
