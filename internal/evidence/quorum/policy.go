package quorum

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/writ-run/writ/internal/evidence/checkpoint"
)

// MaxFile bounds a policy file.
const MaxFile = 256 << 10

// ErrPolicy is returned for a file that is not a policy in its one meaning.
var ErrPolicy = errors.New("malformed witness policy")

// Witness is one that a policy names.
type Witness struct {
	Name     string // in the policy file only
	VKey     string
	URL      string // submission prefix (c2sp.org/tlog-witness); "" where the file gives none
	Verifier note.Verifier
}

// Policy is a set of witnesses and a quorum. It is immutable.
type Policy struct {
	Witnesses []Witness // in the order of the file
	Logs      []string  // vkeys; empty: any log that is known otherwise
	quorum    *component
}

// component is a witness or a group of components.
type component struct {
	witness  int // index in Witnesses, or -1
	least    int
	children []*component
}

// types of keys that cosign (tlog-cosignature).
const (
	cosignatureEd25519 = 4
	cosignatureMLDSA   = 6
)

// Parse reads a policy file. It takes what the specification takes and nothing
// else: a group that names a member twice, or a threshold of 0, would make a
// quorum of fewer witnesses than it seems.
func Parse(file []byte) (*Policy, error) {
	if len(file) > MaxFile {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrPolicy, MaxFile)
	}
	r := reading{named: map[string]*component{}, member: map[string]bool{}, keys: map[string]bool{}, logs: map[string]bool{}}
	for i, line := range strings.Split(string(file), "\n") {
		if err := r.line(line); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrPolicy, i+1, err)
		}
	}
	if !r.decided {
		return nil, fmt.Errorf("%w: it names no quorum", ErrPolicy)
	}
	return &r.policy, nil
}

type reading struct {
	policy  Policy
	named   map[string]*component
	member  map[string]bool // of a group already
	keys    map[string]bool // raw witness keys
	logs    map[string]bool // raw log keys
	decided bool
}

func (r *reading) line(line string) error {
	for _, b := range []byte(line) {
		if b < 0x20 && b != '\t' || b == 0x7f {
			return fmt.Errorf("control character %#x", b)
		}
	}
	fields := strings.FieldsFunc(line, func(c rune) bool { return c == ' ' || c == '\t' })
	if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
		return nil
	}
	switch n := len(fields) - 1; fields[0] {
	case "log":
		if n < 1 || n > 2 {
			return errors.New("want: log VKEY [URL]")
		}
		return r.log(fields[1])
	case "witness":
		if n < 2 || n > 3 {
			return errors.New("want: witness NAME VKEY [URL]")
		}
		return r.witness(fields[1], fields[2], strings.Join(fields[3:], ""))
	case "group":
		if n < 3 {
			return errors.New("want: group NAME all|any|NUMBER and its members")
		}
		return r.group(fields[1], fields[2], fields[3:])
	case "quorum":
		if n != 1 {
			return errors.New("want: quorum NAME")
		}
		return r.quorum(fields[1])
	}
	return fmt.Errorf("%q is none of log, witness, group, quorum", fields[0])
}

func (r *reading) log(vkey string) error {
	_, key, err := checkpoint.PublicKey(vkey)
	if err != nil {
		return err
	}
	if r.logs[string(key)] {
		return errors.New("a log's key stands there twice")
	}
	r.logs[string(key)] = true
	r.policy.Logs = append(r.policy.Logs, vkey)
	return nil
}

func (r *reading) witness(name, vkey, url string) error {
	if err := r.free(name); err != nil {
		return err
	}
	raw, err := cosigningKey(vkey)
	if err != nil {
		return err
	}
	if r.keys[raw] {
		return errors.New("a witness's key stands there twice")
	}
	v, err := fnote.NewVerifierForCosignatureV1(vkey)
	if err != nil {
		return fmt.Errorf("reading vkey: %w", err)
	}
	r.keys[raw] = true
	r.named[name] = &component{witness: len(r.policy.Witnesses)}
	r.policy.Witnesses = append(r.policy.Witnesses, Witness{Name: name, VKey: vkey, URL: url, Verifier: v})
	return nil
}

// cosigningKey returns the raw key of a vkey, whose type must be one that
// cosigns: under a log's type the same key could be made to sign checkpoints.
func cosigningKey(vkey string) (string, error) {
	_, rest, _ := strings.Cut(vkey, "+")
	_, key64, _ := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.Strict().DecodeString(key64)
	if err != nil || len(raw) < 2 {
		return "", errors.New("it is not a vkey")
	}
	if raw[0] != cosignatureEd25519 && raw[0] != cosignatureMLDSA {
		return "", fmt.Errorf("a key of type %d does not cosign", raw[0])
	}
	return string(raw[1:]), nil
}

func (r *reading) group(name, threshold string, members []string) error {
	if err := r.free(name); err != nil {
		return err
	}
	c := &component{witness: -1}
	for _, m := range members {
		child, ok := r.named[m]
		switch {
		case !ok:
			return fmt.Errorf("%q is not defined above", m)
		case r.member[m]:
			return fmt.Errorf("%q is a member already", m)
		}
		r.member[m] = true
		c.children = append(c.children, child)
	}
	switch threshold {
	case "any":
		c.least = 1
	case "all":
		c.least = len(members)
	default:
		n, err := strconv.Atoi(threshold)
		if err != nil || n < 1 || n > len(members) || strconv.Itoa(n) != threshold {
			return fmt.Errorf("%q is no threshold from 1 to %d", threshold, len(members))
		}
		c.least = n
	}
	r.named[name] = c
	return nil
}

func (r *reading) free(name string) error {
	if name == "none" {
		return errors.New("the name none is taken")
	}
	if r.named[name] != nil {
		return fmt.Errorf("the name %q is taken", name)
	}
	return nil
}

func (r *reading) quorum(name string) error {
	if r.decided {
		return errors.New("there is a quorum already")
	}
	r.decided = true
	if name == "none" {
		return nil
	}
	c, ok := r.named[name]
	if !ok {
		return fmt.Errorf("%q is not defined above", name)
	}
	r.policy.quorum = c
	return nil
}

// None tells whether the policy asks for no witness at all.
func (p *Policy) None() bool { return p.quorum == nil }

// Satisfied tells whether the witnesses for which has answers true make a
// quorum. has is given indices in Witnesses.
func (p *Policy) Satisfied(has func(int) bool) bool {
	return p.quorum == nil || p.quorum.satisfied(has)
}

func (c *component) satisfied(has func(int) bool) bool {
	if c.witness >= 0 {
		return has(c.witness)
	}
	n := 0
	for _, child := range c.children {
		if child.satisfied(has) {
			n++
		}
	}
	return n >= c.least
}
