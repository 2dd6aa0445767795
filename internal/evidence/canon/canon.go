// Package canon checks that bytes are the canonical encoding of a model type,
// without decoding them.
//
// Check is the entry point. It accepts exactly what model.Decode accepts, which
// a fuzz target holds it to, about ten times as fast and without allocating,
// so that a verifier can read every record of a long log. Find then takes single
// fields out of bytes that were checked.
package canon

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/writ-run/writ/internal/model"
)

// ErrNotCanonical is returned for bytes that are not the one encoding of a
// value of the type.
var ErrNotCanonical = errors.New("not the canonical encoding")

// maxElements is what model.Decode takes in one array.
const maxElements = 1 << 16

// The major types of CBOR (RFC 8949 section 3.1) that the model uses.
const (
	majorUint   = 0
	majorNegint = 1
	majorBytes  = 2
	majorText   = 3
	majorArray  = 4
	majorMap    = 5
)

const (
	simpleFalse = 0xf4
	simpleTrue  = 0xf5
	simpleNull  = 0xf6
)

// Schema is the form of one Go type.
type Schema struct {
	kind   kind
	bits   uint // of an integer
	size   int  // of a byte array
	elem   *Schema
	fields []field // ascending by key, all keys below 24
	name   string
}

type field struct {
	key      uint64
	optional bool // left out when zero or empty
	schema   *Schema
}

type kind uint8

const (
	kindUint kind = iota + 1
	kindInt
	kindBool
	kindText
	kindBytes     // any length, or null
	kindByteArray // exactly size
	kindArray     // or null
	kindMap
)

// Of returns the schema of T, one of the model's types. It panics on a type
// that the model's encoding does not use, which is a programmer's error.
func Of[T any]() *Schema { return compile(reflect.TypeFor[T]()) }

func compile(t reflect.Type) *Schema {
	s := &Schema{name: t.Name()}
	switch t.Kind() {
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		s.kind, s.bits = kindUint, uint(t.Bits())
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		s.kind, s.bits = kindInt, uint(t.Bits())
	case reflect.Bool:
		s.kind = kindBool
	case reflect.String:
		s.kind = kindText
	case reflect.Pointer:
		return compile(t.Elem())
	case reflect.Array:
		if t.Elem().Kind() != reflect.Uint8 {
			panic("canon: " + t.String())
		}
		s.kind, s.size = kindByteArray, t.Len()
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			s.kind = kindBytes
		} else {
			s.kind, s.elem = kindArray, compile(t.Elem())
		}
	case reflect.Struct:
		s.kind = kindMap
		s.compileFields(t)
	default:
		panic("canon: " + t.String())
	}
	return s
}

func (s *Schema) compileFields(t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		options := strings.Split(f.Tag.Get("cbor"), ",")
		var key uint64
		if _, err := fmt.Sscan(options[0], &key); err != nil || key > 23 || len(options) < 2 || options[1] != "keyasint" {
			panic("canon: " + t.String() + "." + f.Name)
		}
		if n := len(s.fields); n > 0 && s.fields[n-1].key >= key {
			panic("canon: " + t.String() + "." + f.Name + " is not in the order of its keys")
		}
		optional := len(options) == 3 && (options[2] == "omitempty" || options[2] == "omitzero")
		if !optional && f.Type.Kind() == reflect.Pointer || len(options) > 3 {
			panic("canon: " + t.String() + "." + f.Name)
		}
		s.fields = append(s.fields, field{key: key, optional: optional, schema: compile(f.Type)})
	}
}

// Check tells whether b is the canonical encoding of a value of the type, and
// nothing else.
func (s *Schema) Check(b []byte) error {
	if len(b) > model.MaxEncoded {
		return fmt.Errorf("%w of %s: %d bytes are more than %d", ErrNotCanonical, s.name, len(b), model.MaxEncoded)
	}
	if n := s.scan(b, false); n != len(b) {
		return fmt.Errorf("%w of %s", ErrNotCanonical, s.name)
	}
	return nil
}

// scan returns the length of the value at the start of b, or -1. A value that
// may not be empty is refused if it is zero.
func (s *Schema) scan(b []byte, notEmpty bool) int {
	if len(b) == 0 {
		return -1
	}
	if s.kind == kindBool {
		if b[0] == simpleTrue || b[0] == simpleFalse && !notEmpty {
			return 1
		}
		return -1
	}
	if b[0] == simpleNull {
		if (s.kind == kindBytes || s.kind == kindArray) && !notEmpty {
			return 1
		}
		return -1
	}
	major, arg, n := head(b)
	if n < 0 {
		return -1
	}
	switch s.kind {
	case kindUint:
		if major == majorUint && arg>>(s.bits-1)>>1 == 0 && (arg != 0 || !notEmpty) {
			return n
		}
	case kindInt:
		if (major == majorUint || major == majorNegint) && arg>>(s.bits-1) == 0 && (major == majorNegint || arg != 0 || !notEmpty) {
			return n
		}
	case kindText, kindBytes, kindByteArray:
		return s.scanString(b, major, arg, n, notEmpty)
	case kindArray:
		if major != majorArray || arg > maxElements || arg == 0 && notEmpty {
			return -1
		}
		for range arg {
			m := s.elem.scan(b[n:], false)
			if m < 0 {
				return -1
			}
			n += m
		}
		return n
	case kindMap:
		return s.scanMap(b, major, arg, n)
	}
	return -1
}

func (s *Schema) scanString(b []byte, major byte, arg uint64, n int, notEmpty bool) int {
	want := byte(majorBytes)
	if s.kind == kindText {
		want = majorText
	}
	if major != want || arg > uint64(len(b)-n) || arg == 0 && notEmpty {
		return -1
	}
	content := b[n : n+int(arg)]
	switch s.kind {
	case kindText:
		if !utf8.Valid(content) {
			return -1
		}
	case kindByteArray:
		if len(content) != s.size || notEmpty && zero(content) {
			return -1
		}
	}
	return n + int(arg)
}

func (s *Schema) scanMap(b []byte, major byte, pairs uint64, n int) int {
	if major != majorMap {
		return -1
	}
	for _, f := range s.fields {
		if pairs == 0 || n == len(b) || b[n] != byte(f.key) {
			if !f.optional {
				return -1
			}
			continue
		}
		// A struct is never empty: a pointer to one is left out when nil.
		m := f.schema.scan(b[n+1:], f.optional)
		if m < 0 {
			return -1
		}
		n += 1 + m
		pairs--
	}
	if pairs != 0 {
		return -1
	}
	return n
}

// head reads the first item's major type and argument (RFC 8949 section 3),
// and how long both are; -1 if the argument is not in its shortest form.
func head(b []byte) (major byte, arg uint64, n int) {
	major, low := b[0]>>5, b[0]&31
	switch {
	case major > majorMap:
		return 0, 0, -1
	case low < 24:
		return major, uint64(low), 1
	case low == 24 && len(b) >= 2 && b[1] >= 24:
		return major, uint64(b[1]), 2
	case low == 25 && len(b) >= 3 && b[1] != 0:
		return major, uint64(binary.BigEndian.Uint16(b[1:])), 3
	case low == 26 && len(b) >= 5 && (b[1] != 0 || b[2] != 0):
		return major, uint64(binary.BigEndian.Uint32(b[1:])), 5
	case low == 27 && len(b) >= 9 && (b[1] != 0 || b[2] != 0 || b[3] != 0 || b[4] != 0):
		return major, binary.BigEndian.Uint64(b[1:]), 9
	}
	return 0, 0, -1
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
