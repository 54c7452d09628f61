// Package codec holds the two encodings that everything signed or sealed in
// package session's subpackages shares: [Transcript], the unambiguous encoding
// that signatures and hashes cover, and [StrictJSON], the decoder of files.
//
// Start with a zero Transcript, append the purpose of the statement with Text,
// then its fields; the result is Buf.
package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
)

// Transcript encodes a list of values so that no other list has the same
// encoding: byte strings carry their length (4 bytes, big-endian), numbers have
// a fixed size, and the first value names the purpose. The zero value is empty
// and ready for use.
type Transcript struct {
	// Buf is the encoding of all appended values.
	Buf []byte
}

// Bytes appends a byte string.
func (t *Transcript) Bytes(b []byte) {
	t.Buf = binary.BigEndian.AppendUint32(t.Buf, uint32(len(b)))
	t.Buf = append(t.Buf, b...)
}

// Text appends a string, encoded as its bytes.
func (t *Transcript) Text(s string) { t.Bytes([]byte(s)) }

// Number appends an integer in 8 bytes, big-endian.
func (t *Transcript) Number(n int) { t.Buf = binary.BigEndian.AppendUint64(t.Buf, uint64(n)) }

// StrictJSON decodes exactly one JSON value. It refuses unknown fields and
// anything after the value. Its errors can quote data.
func StrictJSON(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON object")
	}
	return nil
}
