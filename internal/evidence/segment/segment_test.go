package segment

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/writ-run/writ/internal/model"
)

var header = Header{Origin: "host.test/log/x", First: 77, PreviousRoot: model.DigestOf([]byte("root"))}

func sample() []byte {
	b := header.Append(nil)
	b = AppendFrame(b, FrameRecord, []byte("one"))
	b = AppendFrame(b, FrameRecord, nil)
	b = AppendFrame(b, FrameRecord, bytes.Repeat([]byte("large"), readSize))
	return AppendFrame(b, FrameCheckpoint, []byte("signed"))
}

// scan reads all frames; err is what ended them.
func scan(b []byte) (frames []Frame, err error) {
	s, err := NewScanner(bytes.NewReader(b))
	for err == nil {
		var f Frame
		if f, err = s.Next(); err == nil {
			f.Payload = bytes.Clone(f.Payload)
			frames = append(frames, f)
		}
	}
	return frames, err
}

func TestRoundTrip(t *testing.T) {
	b := sample()
	frames, err := scan(b)
	if err != io.EOF || len(frames) != 4 || frames[3].Kind != FrameCheckpoint || string(frames[0].Payload) != "one" || len(frames[2].Payload) != 5*readSize {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	again := header.Append(nil)
	for _, f := range frames {
		if f.Offset != int64(len(again)) {
			t.Fatalf("offset %d, want %d", f.Offset, len(again))
		}
		again = AppendFrame(again, f.Kind, f.Payload)
		if f.End != int64(len(again)) {
			t.Fatalf("end %d, want %d", f.End, len(again))
		}
	}
	if !bytes.Equal(again, b) {
		t.Fatal("not the same bytes")
	}
	if h, err := ParseHeader(b); err != nil || h != header {
		t.Fatalf("%+v, %v", h, err)
	}
}

func TestEveryDamageIsSeen(t *testing.T) {
	b := header.Append(nil)
	b = AppendFrame(b, FrameRecord, []byte("one record"))
	b = AppendFrame(b, FrameCheckpoint, []byte("signed"))
	for i := range b {
		for v := range 255 {
			mutant := bytes.Clone(b)
			mutant[i] ^= byte(v + 1)
			_, err := scan(mutant)
			var damage *DamageError
			if !errors.As(err, &damage) && !errors.Is(err, ErrHeader) {
				t.Fatalf("byte %d xor %#x: %v", i, v+1, err)
			}
		}
	}
	whole, _ := scan(b)
	for i := range b {
		frames, err := scan(b[:i])
		boundary := i == header.Len() || i == int(whole[0].End)
		if boundary != (err == io.EOF) || len(frames) > len(whole) {
			t.Fatalf("cut at %d: %d frames, %v", i, len(frames), err)
		}
	}
}

func TestZeros(t *testing.T) {
	for zeros := range 30 {
		b := append(sample(), make([]byte, zeros)...)
		s, err := NewScanner(bytes.NewReader(b))
		for err == nil {
			_, err = s.Next()
		}
		if zeros == 0 {
			if err != io.EOF {
				t.Fatal(err)
			}
			continue
		}
		if !errors.Is(err, ErrZeros) {
			t.Fatalf("%d zeros: %v", zeros, err)
		}
		at := s.Offset()
		if n, dirty, err := s.Zeros(); n != int64(zeros) || dirty != -1 || err != nil {
			t.Fatalf("%d zeros: %d, %d, %v", zeros, n, dirty, err)
		}
		if zeros > FrameOverhead {
			b[len(b)-1] = 1
			s.Reset(at)
			if _, dirty, err := s.Zeros(); dirty != int64(len(b)-1) || err != nil {
				t.Fatalf("dirty zeros: %d, %v", dirty, err)
			}
		}
	}
}

func TestErrorsOfTheFileArePassedOn(t *testing.T) {
	broken := errors.New("broken")
	if _, err := NewScanner(readerAt{iotest.ErrReader(broken)}); !errors.Is(err, broken) {
		t.Fatal(err)
	}
}

type readerAt struct{ io.Reader }

func (r readerAt) ReadAt(b []byte, _ int64) (int, error) { return r.Read(b) }

func TestUpTo(t *testing.T) {
	u := &UpTo{File: bytes.NewReader([]byte("0123456789")), Limit: 4}
	b := make([]byte, 3)
	if n, err := u.ReadAt(b, 1); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := u.ReadAt(b, 2); n != 2 || err != io.EOF {
		t.Fatal(n, err)
	}
	if n, err := u.ReadAt(b, 9); n != 0 || err != io.EOF {
		t.Fatal(n, err)
	}
}

func TestNames(t *testing.T) {
	for _, n := range []uint64{0, 7, 1<<64 - 1} {
		if got, ok := ParseName(Name(n)); !ok || got != n {
			t.Fatalf("%d: %s", n, Name(n))
		}
	}
	for _, bad := range []string{"", ".seg", "7.seg", Name(7) + ".tmp", "99999999999999999999.seg", "+0000000000000000007.seg", "lock"} {
		if _, ok := ParseName(bad); ok {
			t.Errorf("%q is a name", bad)
		}
	}
}

func FuzzScan(f *testing.F) {
	small := AppendFrame(AppendFrame(header.Append(nil), FrameRecord, []byte("one")), FrameCheckpoint, []byte("c"))
	f.Add(small)
	f.Add(append(small, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, err := scan(b)
		if err == nil {
			t.Fatal("no end")
		}
		if errors.Is(err, ErrHeader) {
			return
		}
		h, _ := ParseHeader(b)
		again := h.Append(nil)
		for _, f := range frames {
			again = AppendFrame(again, f.Kind, f.Payload)
		}
		if !bytes.HasPrefix(b, again) {
			t.Fatal("two encodings of one segment")
		}
	})
}
