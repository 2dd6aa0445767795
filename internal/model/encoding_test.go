package model

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func sampleInput() Input {
	return Input{Kind: InputAsk, Mono: 5, Wall: -1, Action: &Action{
		Number: 7, Kind: ActionExec, Gate: "kernel",
		Process:  Process{PID: 12, Start: 99, Executable: "/bin/sh"},
		Resource: Resource{Kind: ResourceExecutable, ID: "/usr/bin/git", Zones: []Zone{ZoneSystem}},
		Args:     []string{"git", "status"},
	}}
}

func TestEncodingIsCanonicalAndStrict(t *testing.T) {
	in := sampleInput()
	enc := Encode(in)
	got, err := Decode[Input](enc)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, got); diff != "" {
		t.Fatal(diff)
	}
	for i := range enc {
		for bit := range 8 {
			mutant := bytes.Clone(enc)
			mutant[i] ^= 1 << bit
			v, err := Decode[Input](mutant)
			if err == nil && bytes.Equal(Encode(v), enc) {
				t.Fatalf("byte %d bit %d: two encodings of one value", i, bit)
			}
		}
		if _, err := Decode[Input](enc[:i]); err == nil {
			t.Fatalf("truncated at %d: decoded", i)
		}
	}
	if _, err := Decode[Input](append(bytes.Clone(enc), 0)); err == nil {
		t.Fatal("trailing byte: decoded")
	}
}

func TestZeroDigestIsLeftOut(t *testing.T) {
	with := Encode(Resource{Kind: ResourceFile, ID: "/a", Digest: DigestOf(nil)})
	without := Encode(Resource{Kind: ResourceFile, ID: "/a"})
	if len(with)-len(without) < 32 {
		t.Fatalf("a zero digest takes room: %d and %d bytes", len(with), len(without))
	}
}

func TestDecodeRefusesWhatIsNotCanonical(t *testing.T) {
	// {1: 0 (in two bytes)}: a legal CBOR map, not the shortest form.
	_, err := Decode[Heartbeat]([]byte{0xa2, 0x01, 0x18, 0x00, 0x02, 0x00})
	if !errors.Is(err, ErrNotCanonical) {
		t.Fatalf("long integer: %v", err)
	}
	_, err = Decode[Heartbeat]([]byte{0xa3, 0x01, 0x00, 0x02, 0x00, 0x03, 0x00})
	if err == nil {
		t.Fatal("unknown field: decoded")
	}
}

func FuzzDecodeInput(f *testing.F) {
	f.Add(Encode(sampleInput()))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Decode[Input](b)
		if err == nil && !bytes.Equal(Encode(v), b) {
			t.Fatal("accepted a second encoding")
		}
	})
}
