package grant

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/writ-run/writ/internal/keys"
	"github.com/writ-run/writ/internal/keys/durable"
)

// Predicate types of what ends grants.
const (
	RevocationPredicate = "https://writ.run/revocation/v1"
	EpochPredicate      = "https://writ.run/epoch/v1"
)

// ReasonAmbiguous is the reason of Resolve for a prefix that fits several.
const ReasonAmbiguous Reason = "grant_ambiguous"

// Revocation is the signed statement that ends a grant and all beneath it.
type Revocation struct {
	Grant    string    `json:"grant"`
	Operator string    `json:"operator"`
	Why      string    `json:"reason"`
	At       time.Time `json:"at"`
}

type epoch struct {
	Epoch uint64    `json:"epoch"`
	At    time.Time `json:"at"`
}

// Store keeps signed grants in $STATE/grants and signed revocations in
// $STATE/revocations, one file each, named after the grant. It holds no state
// of its own: what another process writes is seen at the next call. It is safe
// for concurrent use, by several processes too.
type Store struct {
	grants      string
	revocations string
	trust       *keys.Trust
}

var _ Revocations = (*Store)(nil)

// OpenStore opens the store in a state directory and makes its directories
// where they are missing.
func OpenStore(stateDir string, trust *keys.Trust) (*Store, error) {
	s := &Store{filepath.Join(stateDir, "grants"), filepath.Join(stateDir, "revocations"), trust}
	for _, dir := range []string{s.grants, s.revocations} {
		if err := durable.Directory(dir, false); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Put stores a signed grant. It is durable when Put returns.
func (s *Store) Put(g Issued) error {
	if !ValidID(g.Grant.ID) {
		return &Refusal{ReasonMalformed, clip(g.Grant.ID), "not a grant's ID"}
	}
	return durable.Create(s.Path(g.Grant.ID), g.Envelope, 0o600)
}

// Path is the file of the grant with the ID: exactly its envelope.
func (s *Store) Path(id string) string { return filepath.Join(s.grants, id+".json") }

func (s *Store) revocation(id string) string { return filepath.Join(s.revocations, id+".json") }
func (s *Store) epochPath() string           { return filepath.Join(s.revocations, "epoch.json") }

// Get reads the grant with the ID and checks its signature, not its standing.
func (s *Store) Get(id string) (Issued, error) {
	if !ValidID(id) {
		return Issued{}, &Refusal{ReasonMalformed, clip(id), "not a grant's ID"}
	}
	content, err := durable.Read(s.Path(id), keys.MaxStatement, false)
	if durable.CodeOf(err) == durable.CodeMissing {
		return Issued{}, &Refusal{ReasonMissing, id, "no such grant is stored"}
	}
	if err != nil {
		return Issued{}, err
	}
	g, err := open(content, s.trust, false)
	if err == nil && g.Grant.ID != id {
		err = &Refusal{ReasonMalformed, id, "the file holds the grant " + g.Grant.ID}
	}
	return g, err
}

// Chain reads the envelopes of the grant with the ID and of all above it, from
// the root down, as Check takes them.
func (s *Store) Chain(id string) ([][]byte, error) {
	var chain [][]byte
	for id != "" {
		if len(chain) == MaxDepth {
			return nil, &Refusal{ReasonTooDeep, id, fmt.Sprintf("more than %d grants", MaxDepth)}
		}
		g, err := s.Get(id)
		if err != nil {
			return nil, err
		}
		chain = append(chain, g.Envelope)
		id = g.Grant.Parent
	}
	slices.Reverse(chain)
	return chain, nil
}

// Resolve returns the one stored grant whose ID begins with prefix, in either
// case, with or without the "g".
func (s *Store) Resolve(prefix string) (string, error) {
	want := strings.ToUpper(strings.TrimPrefix(strings.TrimPrefix(prefix, "g"), "G"))
	if want == "" {
		return "", &Refusal{ReasonMissing, "", "no grant is named"}
	}
	ids, err := s.ids()
	if err != nil {
		return "", err
	}
	var fit []string
	for _, id := range ids {
		if strings.HasPrefix(id[1:], want) {
			fit = append(fit, id)
		}
	}
	switch len(fit) {
	case 0:
		return "", &Refusal{ReasonMissing, clip(prefix), "no such grant is stored"}
	case 1:
		return fit[0], nil
	}
	more := ""
	if len(fit) > 5 {
		more, fit = fmt.Sprintf(" and %d more", len(fit)-5), fit[:5]
	}
	return "", &Refusal{ReasonAmbiguous, clip(prefix), "it fits " + strings.Join(fit, ", ") + more}
}

// ids returns the IDs of the stored grants, oldest first.
func (s *Store) ids() ([]string, error) {
	entries, err := os.ReadDir(s.grants)
	if err != nil {
		return nil, durable.Explain("listing", s.grants, err)
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".json"); ok && ValidID(id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Listed is a stored grant and how it stands.
type Listed struct {
	ID    string
	Grant Grant // zero if it cannot be read
	// Err is nil for a grant that is good now with all above it, else why it
	// is not: a Refusal, or what is wrong with the file.
	Err error
}

// List returns all stored grants, newest first, with how each stands at now.
func (s *Store) List(now time.Time) ([]Listed, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	var all []Listed
	for _, id := range slices.Backward(ids) {
		l := Listed{ID: id}
		g, err := s.Get(id)
		if err == nil {
			l.Grant = g.Grant
			var envelopes [][]byte
			if envelopes, err = s.Chain(id); err == nil {
				_, err = Verify(envelopes, s.trust, now, s)
			}
		}
		l.Err = err
		all = append(all, l)
	}
	return all, nil
}

// Revoke writes the signed revocation of the grant with the ID, and so of all
// beneath it. It counts, for every process that looks, when Revoke returns.
// Revoking twice is no error.
func (s *Store) Revoke(k *keys.Key, id, operator, why string, now time.Time) error {
	if !ValidID(id) {
		return &Refusal{ReasonMalformed, clip(id), "not a grant's ID"}
	}
	r := Revocation{Grant: id, Operator: operator, Why: why, At: now.UTC().Round(0)}
	envelope, err := keys.Seal(k, RevocationPredicate, (&Grant{ID: id}).subject(), r)
	if err != nil {
		return fmt.Errorf("revoking %s: %w", id, err)
	}
	err = durable.Create(s.revocation(id), envelope, 0o600)
	if durable.CodeOf(err) == durable.CodeExists {
		return nil // whatever is there counts as a revocation
	}
	return err
}

// Revoked implements Revocations. Anything that stands where the revocation
// would be counts as one, and so does every grant while the directory cannot
// be read.
func (s *Store) Revoked(id string) *Refusal {
	unread := func(err error) *Refusal { return &Refusal{ReasonUnreadable, id, err.Error()} }
	if !ValidID(id) {
		return &Refusal{ReasonMalformed, clip(id), "not a grant's ID"}
	}
	there, err := s.exists(id + ".json")
	if err != nil {
		return unread(err)
	}
	if !there {
		return nil
	}
	content, err := durable.Read(s.revocation(id), keys.MaxStatement, false)
	if err != nil {
		return unread(err)
	}
	var r Revocation
	if _, err := keys.Unseal(content, s.trust, RevocationPredicate, &r, keys.Operator); err != nil {
		return unread(err)
	}
	if r.Grant != id {
		return unread(errors.New("the revocation is for " + clip(r.Grant)))
	}
	detail := "at " + r.At.Format(time.RFC3339)
	if r.Operator != "" {
		detail += " by " + clip(r.Operator)
	}
	if r.Why != "" {
		detail += ": " + clip(r.Why)
	}
	return &Refusal{ReasonRevoked, id, detail}
}

// exists looks for a name in the revocations' directory, and tells a missing
// file from a missing directory.
func (s *Store) exists(name string) (bool, error) {
	dir, err := unix.Open(s.revocations, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, durable.Explain("opening", s.revocations, err)
	}
	defer unix.Close(dir)
	var st unix.Stat_t
	err = unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, durable.Explain("reading", filepath.Join(s.revocations, name), err)
	}
	return true, nil
}

// Epoch implements Revocations: the epoch below which all grants have ended. It
// is 0 until RaiseEpoch is called.
func (s *Store) Epoch() (uint64, *Refusal) {
	n, err := s.readEpoch()
	if err != nil {
		return 0, &Refusal{ReasonUnreadable, "", err.Error()}
	}
	return n, nil
}

func (s *Store) readEpoch() (uint64, error) {
	there, err := s.exists("epoch.json")
	if err != nil || !there {
		return 0, err
	}
	content, err := durable.Read(s.epochPath(), keys.MaxStatement, false)
	if err != nil {
		return 0, err
	}
	var e epoch
	if _, err := keys.Unseal(content, s.trust, EpochPredicate, &e, keys.Operator); err != nil {
		return 0, err
	}
	return e.Epoch, nil
}

// RaiseEpoch ends every grant issued so far and returns the new epoch, in which
// grants must be issued from now on.
func (s *Store) RaiseEpoch(k *keys.Key, now time.Time) (uint64, error) {
	unlock, err := durable.Lock(filepath.Join(s.revocations, ".epoch.lock"))
	if err != nil {
		return 0, err
	}
	defer unlock()
	n, err := s.readEpoch()
	if err != nil {
		return 0, err
	}
	e := epoch{Epoch: n + 1, At: now.UTC().Round(0)}
	envelope, err := keys.Seal(k, EpochPredicate, (&Grant{ID: "all"}).subject(), e)
	if err != nil {
		return 0, fmt.Errorf("raising the epoch: %w", err)
	}
	return e.Epoch, durable.Write(s.epochPath(), envelope, 0o600)
}

// Watched lists the directories in which a change may end a grant, for a watch.
func (s *Store) Watched() []string { return []string{s.grants, s.revocations} }
