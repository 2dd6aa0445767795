package policy

import (
	"fmt"

	"github.com/writ-run/writ/internal/model"
	"github.com/writ-run/writ/internal/policy/text"
)

// Media types of a bundle's artifacts.
const (
	mediaManifest = "application/vnd.writ.bundle.v1+cbor"
	mediaPolicy   = "text/vnd.cedar.policy"
	mediaSchema   = "text/vnd.cedar.schema"
	mediaSettings = "application/yaml"
)

// manifest lists what is in a bundle: schema, settings, then the sources by
// name. Its canonical encoding's digest is the bundle's.
type manifest struct {
	Format  uint64          `cbor:"1,keyasint"` // 1
	Entries []manifestEntry `cbor:"2,keyasint"`
}

type manifestEntry struct {
	Name      string       `cbor:"1,keyasint"`
	MediaType string       `cbor:"2,keyasint"`
	Digest    model.Digest `cbor:"3,keyasint"`
}

func (b *Bundle) parts() []model.Artifact {
	parts := []model.Artifact{
		{Name: "schema.cedarschema", MediaType: mediaSchema, Content: b.schema},
		{Name: "settings.yaml", MediaType: mediaSettings, Content: b.settings},
	}
	for _, s := range b.sources {
		parts = append(parts, model.Artifact{Name: "policy/" + s.Name, MediaType: mediaPolicy, Content: s.Text})
	}
	return parts
}

func (b *Bundle) entries() manifest {
	m := manifest{Format: 1}
	for _, p := range b.parts() {
		m.Entries = append(m.Entries, manifestEntry{Name: p.Name, MediaType: p.MediaType, Digest: p.Digest()})
	}
	return m
}

// Artifacts returns all that is needed to rebuild the bundle with
// FromArtifacts: its manifest, whose digest is the bundle's, then schema,
// settings and sources. They go into an evidence log as they are.
func (b *Bundle) Artifacts() []model.Artifact {
	all := []model.Artifact{{Name: "bundle", MediaType: mediaManifest, Content: b.manifest}}
	all = append(all, b.parts()...)
	for i := range all {
		all[i].Content = append([]byte{}, all[i].Content...)
	}
	return all
}

// FromArtifacts rebuilds the bundle that digest names out of artifacts found by
// their own digests, such as those of an evidence log. find returns the content
// with a digest and whether there is one; what it returns is checked. The error
// is a Problems.
func FromArtifacts(digest model.Digest, find func(model.Digest) ([]byte, bool)) (*Bundle, error) {
	damaged := func(format string, args ...any) error {
		return Problems{{Code: text.CodeBadBundle, What: "bundle " + digest.Short() + ": " + fmt.Sprintf(format, args...),
			Why: "a decision can only be repeated with the very policies it was made with", Fix: "take the bundle or the evidence from an undamaged copy"}}
	}
	fetch := func(d model.Digest) ([]byte, error) {
		content, ok := find(d)
		if !ok {
			return nil, damaged("no content with digest %s", d)
		}
		if model.DigestOf(content) != d {
			return nil, damaged("the content said to be %s is not", d)
		}
		return content, nil
	}
	raw, err := fetch(digest)
	if err != nil {
		return nil, err
	}
	m, err := model.Decode[manifest](raw)
	if err != nil {
		return nil, damaged("the manifest does not decode: %v", err)
	}
	if m.Format != 1 {
		return nil, damaged("the manifest has format %d, known is 1", m.Format)
	}
	if len(m.Entries) < 2 || len(m.Entries) > MaxSources+2 {
		return nil, damaged("the manifest lists %d entries", len(m.Entries))
	}
	var (
		schema, settings []byte
		sources          []Source
	)
	for i, e := range m.Entries {
		content, err := fetch(e.Digest)
		if err != nil {
			return nil, err
		}
		switch {
		case i == 0:
			schema = content
		case i == 1:
			settings = content
		default:
			name, ok := trimPolicy(e.Name)
			if !ok {
				return nil, damaged("entry %d is named %q", i, e.Name)
			}
			sources = append(sources, Source{Name: name, Text: content})
		}
	}
	b, err := newBundle(sources, schema, settings)
	if err != nil {
		return nil, err
	}
	if b.digest != digest { // an order, name or media type that we would not write
		return nil, damaged("the manifest is not the one of its content")
	}
	return b, nil
}

func trimPolicy(name string) (string, bool) {
	const prefix = "policy/"
	if len(name) <= len(prefix) || name[:len(prefix)] != prefix {
		return "", false
	}
	return name[len(prefix):], true
}

// ArtifactSet makes the lookup that FromArtifacts wants out of a list.
func ArtifactSet(artifacts []model.Artifact) func(model.Digest) ([]byte, bool) {
	byDigest := make(map[model.Digest][]byte, len(artifacts))
	for _, a := range artifacts {
		byDigest[a.Digest()] = a.Content
	}
	return func(d model.Digest) ([]byte, bool) {
		content, ok := byDigest[d]
		return content, ok
	}
}
