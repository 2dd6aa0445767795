package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
	"github.com/writ-run/writ/internal/evidence/verify"
	"github.com/writ-run/writ/internal/evidence/verify/bundle"
	"github.com/writ-run/writ/internal/evidence/verify/offline"
	"github.com/writ-run/writ/internal/policy"
)

const usage = `writ-verify checks evidence of Writ, offline: a bundle that ` + "`writ evidence export`" + `
made, or a log.

usage: writ-verify [--trust FILE | --key VKEY]... [--checkpoint FILE] [--open]
                   [--whole] [--no-replay] [-o table|json] BUNDLE|DIR|FILE

DIR is a log directory, FILE a single segment. The answer is
  VALID         exit code 0   everything that can be checked was checked, and holds
  INVALID       exit code 1   with the reason, the first bad index and the place
  UNVERIFIABLE  exit code 2   with what is missing; also for wrong usage

  --trust FILE       verifier keys that you trust, one a line (a host's "trust" file)
  --key VKEY         one verifier key that you trust, as name+hash+key
  --checkpoint FILE  a signed checkpoint of the log from elsewhere, which it must continue
  --whole            of a bundle: take only executions from their beginning to their end
  --open             of a log: the execution may still be running
  --no-replay        do not decide the recorded inputs again
  -o table|json      how to answer
  --version          print the digests of this verifier and of the engine that replays

What it could not check on what it was given, it says as "not checked".
`

// Exit codes.
const (
	exitValid        = 0
	exitInvalid      = 1
	exitUnverifiable = 2
)

type arguments struct {
	path       string
	trust      []string
	checkpoint []byte
	open       bool
	whole      bool
	noReplay   bool
	output     string
	version    bool
}

// run is the command. It returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	a, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return exitValid
	}
	if err != nil {
		fmt.Fprintf(stderr, "writ-verify: %s\nTry `writ-verify --help`.\n", err)
		return exitUnverifiable
	}
	if a.version {
		fmt.Fprintf(stdout, "writ-verify %s, engine %s\n", bundle.Verifier(), policy.EngineDigest())
		return exitValid
	}
	opts := offline.Options(a.trust)
	opts.Checkpoint, opts.Open = a.checkpoint, a.open
	if a.noReplay {
		opts.Load = nil
	}
	verdict, err := judge(stdout, a, opts)
	if err != nil {
		fmt.Fprintf(stderr, "writ-verify: writing the answer: %s\n", err)
		return exitUnverifiable
	}
	switch verdict {
	case verify.Valid:
		return exitValid
	case verify.Invalid:
		return exitInvalid
	}
	return exitUnverifiable
}

// judge judges what is at the path and writes the answer.
func judge(out io.Writer, a arguments, opts verify.Options) (verify.Verdict, error) {
	if bundle.Is(a.path) {
		r := bundle.Verify(a.path, bundle.Options{Log: opts, Whole: a.whole})
		if a.output == "json" {
			return r.Verdict, writeJSON(out, r)
		}
		return r.Verdict, writeBundle(out, a.path, r)
	}
	r := verify.Log(a.path, opts)
	if a.output == "json" {
		return r.Verdict, writeJSON(out, r)
	}
	return r.Verdict, writeTable(out, a.path, r)
}

func writeJSON(out io.Writer, r any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}

func parse(args []string) (arguments, error) {
	a := arguments{}
	set := flag.NewFlagSet("writ-verify", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Func("trust", "", func(path string) error {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		vkeys, err := verify.ParseTrust(content)
		if err == nil && len(vkeys) == 0 {
			err = errors.New("it names no key")
		}
		a.trust = append(a.trust, vkeys...)
		return err
	})
	set.Func("key", "", func(vkey string) error {
		_, _, err := checkpoint.PublicKey(vkey)
		a.trust = append(a.trust, vkey)
		return err
	})
	set.Func("checkpoint", "", func(path string) error {
		content, err := os.ReadFile(path)
		if err == nil && len(content) == 0 {
			err = errors.New("it is empty")
		}
		a.checkpoint = content
		return err
	})
	set.BoolVar(&a.open, "open", false, "")
	set.BoolVar(&a.whole, "whole", false, "")
	set.BoolVar(&a.noReplay, "no-replay", false, "")
	set.BoolVar(&a.version, "version", false, "")
	set.StringVar(&a.output, "o", "table", "")
	var paths []string
	for rest := args; len(rest) > 0; {
		if err := set.Parse(rest); err != nil {
			return a, err
		}
		parsed := rest[:len(rest)-set.NArg()]
		rest = set.Args()
		if len(parsed) > 0 && parsed[len(parsed)-1] == "--" {
			paths = append(paths, rest...)
			break
		}
		if len(rest) > 0 {
			paths, rest = append(paths, rest[0]), rest[1:]
		}
	}
	switch {
	case !slices.Contains([]string{"table", "json"}, a.output):
		return a, fmt.Errorf("-o %s: want table or json", a.output)
	case a.version:
		return a, nil
	case len(paths) == 0:
		return a, errors.New("no bundle and no log given")
	case len(paths) > 1:
		return a, errors.New("more than one bundle or log given")
	}
	a.path = paths[0]
	return a, nil
}
