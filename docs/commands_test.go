package docs_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// command is what the help of one command says.
type command struct {
	help  string
	below []string // names of its subcommands
	flags []string // with their dashes
}

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "writ-docs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// built is where the programs are, and the state directory that they use.
var built string

// program returns a call of one of the programs.
func program(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(built, name), args...)
	c.Env = append(os.Environ(), "WRIT_STATE="+filepath.Join(built, "state"), "COLUMNS=80")
	return c
}

// build builds both programs.
var build = sync.OnceValue(func() error {
	c := exec.Command("go", "build", "-o", built, "./cmd/writ", "./cmd/writ-verify")
	c.Dir = root
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("building: %w: %s", err, out)
	}
	return nil
})

// programs asks for the help of all commands.
var programs = sync.OnceValues(func() (map[string]command, error) {
	if err := build(); err != nil {
		return nil, err
	}
	all := map[string]command{}
	var ask func(path []string) error
	ask = func(path []string) error {
		out, err := program(path[0], append(slices.Clone(path[1:]), "--help")...).Output()
		if err != nil {
			return fmt.Errorf("%v --help: %w", path, err)
		}
		c := parseHelp(string(out))
		all[strings.Join(path, " ")] = c
		for _, name := range c.below {
			if name == "help" || name == "completion" {
				continue
			}
			if err := ask(append(slices.Clone(path), name)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := ask([]string{"writ"}); err != nil {
		return nil, err
	}
	return all, ask([]string{"writ-verify"})
})

func commands(t *testing.T) map[string]command {
	t.Helper()
	all, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	if len(all["writ"].below) < 10 {
		t.Fatalf("these cannot be all commands: %v", all["writ"].below)
	}
	return all
}

var (
	subcommand = regexp.MustCompile(`^  ([a-z][a-z-]*) +\S`)
	longFlag   = regexp.MustCompile(`(?m)^ +(?:(-[a-zA-Z]), )?(--[a-z][a-z-]*)`)
)

// parseHelp reads what cobra prints; of any other help, the flags.
func parseHelp(help string) command {
	c := command{help: help, flags: []string{"--help", "-h"}}
	for _, m := range longFlag.FindAllStringSubmatch(help, -1) {
		c.flags = append(c.flags, m[2])
		if m[1] != "" {
			c.flags = append(c.flags, m[1])
		}
	}
	if strings.Contains(help, "| --key VKEY]") { // writ-verify: one with a single dash
		c.flags = append(c.flags, "-o")
	}
	_, rest, _ := strings.Cut(help, "\nUsage:\n")
	section := "Usage:"
	for line := range strings.Lines(rest) {
		line = strings.TrimRight(line, "\n")
		if strings.HasSuffix(line, ":") && !strings.HasPrefix(line, " ") {
			section = line
		}
		if slices.Contains([]string{"Usage:", "Aliases:", "Examples:", "Flags:", "Global Flags:"}, section) {
			continue
		}
		if m := subcommand.FindStringSubmatch(line); m != nil {
			c.below = append(c.below, m[1])
		}
	}
	return c
}

// helpPages shows the help of every command of a program.
func helpPages(t *testing.T, program string) string {
	all := commands(t)
	var paths []string
	for path := range all {
		if path == program || strings.HasPrefix(path, program+" ") {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	var b strings.Builder
	for _, path := range paths {
		fmt.Fprintf(&b, "### %s\n\n%s\n", path, fenced("text", all[path].help))
	}
	return b.String()
}

// A command in a page: in a line of a code block, or between backquotes.
var (
	inBlock = regexp.MustCompile(`^\s*(?:[$#] )?(?:sudo |time )?(?:go run \./cmd/|\S*/)?(writ|writ-verify)((?: .*)?)$`)
	inline  = regexp.MustCompile("`(?:\\$ )?(?:sudo )?(?:go run \\./cmd/)?(writ|writ-verify)((?: [^`\n]*)?)`")
)

// TestCommandsExist checks every command and flag that a page names.
func TestCommandsExist(t *testing.T) {
	all := commands(t)
	checked := 0
	for _, page := range pages(t) {
		text := generatedPart.ReplaceAllString(read(t, page), "")
		check := func(program, rest string) {
			checked++
			if why := unknownIn(all, program, rest); why != "" {
				t.Errorf("%s: `%s%s`: %s", page, program, rest, why)
			}
		}
		for _, block := range fence.FindAllString(text, -1) {
			if !strings.HasPrefix(strings.TrimSpace(block), "```sh") && !strings.HasPrefix(strings.TrimSpace(block), "```console") {
				continue
			}
			for line := range strings.Lines(block) {
				line = strings.TrimRight(line, "\n")
				if strings.HasPrefix(strings.TrimSpace(block), "```console") && !strings.HasPrefix(line, "$ ") && !strings.HasPrefix(line, "# ") {
					continue // what it printed
				}
				if m := inBlock.FindStringSubmatch(line); m != nil {
					check(m[1], m[2])
				}
			}
		}
		for _, m := range inline.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			check(m[1], m[2])
		}
	}
	if checked < 50 {
		t.Fatalf("only %d commands were found: the patterns are wrong", checked)
	}
}

var ordinaryWord = regexp.MustCompile(`^[a-z][a-z-]*$`)

// unknownIn says what in a command line the program does not know, or "".
func unknownIn(all map[string]command, program, rest string) string {
	c, known := all[program]
	if !known {
		return "there is no such program"
	}
	path := program
	for word := range strings.FieldsSeq(rest) {
		switch {
		case word == "--" || word == "|" || word == ">" || word == "2>" || word == "#" || word == "&" || word == "&&" || word == ";" || word == "...":
			return ""
		case strings.HasPrefix(word, "-"):
			name, _, _ := strings.Cut(word, "=")
			if !slices.Contains(c.flags, name) && !slices.Contains(all[program].flags, name) {
				return path + " has no flag " + name
			}
		case len(c.below) > 0:
			next, known := all[path+" "+word]
			if !known {
				if path == program && (word == "help" || word == "completion") || !ordinaryWord.MatchString(word) {
					return ""
				}
				return path + " has no command " + word
			}
			c, path = next, path+" "+word
		}
	}
	return ""
}
