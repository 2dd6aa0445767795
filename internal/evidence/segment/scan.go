package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Frame is one frame as it stands in a segment.
type Frame struct {
	Kind    FrameKind
	Payload []byte // valid until the next call of Next
	Offset  int64  // of the frame's first byte in the file
	End     int64  // of the byte after it
}

// ErrZeros is returned by Next where the next frame would start with zeros: the
// preallocated part of a segment, of which Zeros tells whether it is clean.
var ErrZeros = errors.New("preallocated zeros")

// DamageError is a frame that is not whole.
type DamageError struct {
	Offset int64  // of the frame's first byte in the file
	Reason string // "torn", "length", "kind", "checksum"
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("damaged frame at byte %d: %s", e.Offset, e.Reason)
}

// A short segment is read through a small buffer: recovery opens many of them.
const (
	firstRead = 4 << 10
	readSize  = 64 << 10
)

// Scanner reads a segment's frames in order. It holds one buffer of at most
// 64 KiB, or of the largest frame.
type Scanner struct {
	Header Header

	file  io.ReaderAt
	buf   []byte
	start int   // of the unread part of buf
	off   int64 // in the file, of buf[start]
	eof   bool
}

// NewScanner reads the header of a segment.
func NewScanner(file io.ReaderAt) (*Scanner, error) {
	s := &Scanner{file: file, buf: make([]byte, 0, firstRead)}
	if err := s.fill(MaxHeader); err != nil {
		return nil, err
	}
	h, err := ParseHeader(s.rest())
	if err != nil {
		return nil, err
	}
	s.Header = h
	s.skip(h.Len())
	return s, nil
}

// Reset goes to an offset that the scanner gave, and forgets what it has read
// ahead, which another process may have changed meanwhile.
func (s *Scanner) Reset(offset int64) {
	s.buf, s.start, s.off, s.eof = s.buf[:0], 0, offset, false
}

// Offset returns the offset of the frame that Next reads next.
func (s *Scanner) Offset() int64 { return s.off }

func (s *Scanner) rest() []byte { return s.buf[s.start:] }

func (s *Scanner) skip(n int) { s.start, s.off = s.start+n, s.off+int64(n) }

// fill makes n bytes available, or all that the file has.
func (s *Scanner) fill(n int) error {
	if len(s.rest()) >= n || s.eof {
		return nil
	}
	if n > cap(s.buf) || len(s.buf) == firstRead {
		room := readSize
		if n > readSize {
			room += n
		}
		s.buf = append(make([]byte, 0, room), s.rest()...)
	} else {
		s.buf = s.buf[:copy(s.buf[:cap(s.buf)], s.rest())]
	}
	s.start = 0
	for len(s.buf) < n {
		m, err := s.file.ReadAt(s.buf[len(s.buf):cap(s.buf)], s.off+int64(len(s.buf)))
		s.buf = s.buf[:len(s.buf)+m]
		if err == io.EOF {
			s.eof = true
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading segment at byte %d: %w", s.off+int64(len(s.buf)), err)
		}
	}
	return nil
}

// Next returns the next frame. At the end of the file it returns io.EOF, at
// preallocated zeros ErrZeros, and for anything that is not a whole frame a
// *DamageError; any other error is the file's. After an error the scanner
// stands where it stood.
func (s *Scanner) Next() (Frame, error) {
	if err := s.fill(FrameOverhead); err != nil {
		return Frame{}, err
	}
	head := s.rest()
	if len(head) == 0 {
		return Frame{}, io.EOF
	}
	head = head[:min(len(head), FrameOverhead)]
	if allZero(head) {
		return Frame{}, ErrZeros
	}
	damaged := func(reason string) (Frame, error) {
		return Frame{}, &DamageError{Offset: s.off, Reason: reason}
	}
	if len(head) < FrameOverhead {
		return damaged("torn")
	}
	length := binary.LittleEndian.Uint32(head)
	sum, kind := binary.LittleEndian.Uint32(head[4:]), FrameKind(head[8])
	if length > MaxPayload {
		return damaged("length")
	}
	total := FrameOverhead + int(length)
	if err := s.fill(total); err != nil {
		return Frame{}, err
	}
	if len(s.rest()) < total {
		return damaged("torn")
	}
	payload := s.rest()[FrameOverhead:total]
	if frameSum(length, kind, payload) != sum {
		return damaged("checksum")
	}
	if kind != FrameRecord && kind != FrameCheckpoint {
		return damaged("kind")
	}
	f := Frame{Kind: kind, Payload: payload, Offset: s.off, End: s.off + int64(total)}
	s.skip(total)
	return f, nil
}

// Zeros reads the rest of the file and returns how many bytes it has, and the
// offset of the first that is not zero, or -1.
func (s *Scanner) Zeros() (n int64, dirty int64, err error) {
	for {
		if err := s.fill(1); err != nil {
			return n, -1, err
		}
		b := s.rest()
		if len(b) == 0 {
			return n, -1, nil
		}
		for i := range b {
			if b[i] != 0 {
				return n, s.off + int64(i), nil
			}
		}
		n += int64(len(b))
		s.skip(len(b))
	}
}

// UpTo reads a file up to a limit that its owner moves: a Scanner on it never
// buffers what is still being written.
type UpTo struct {
	File  io.ReaderAt
	Limit int64
}

// ReadAt implements io.ReaderAt.
func (u *UpTo) ReadAt(b []byte, off int64) (int, error) {
	room := u.Limit - off
	if room >= int64(len(b)) {
		return u.File.ReadAt(b, off)
	}
	n, err := u.File.ReadAt(b[:max(room, 0)], off)
	if err == nil {
		err = io.EOF
	}
	return n, err
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
