// Package segment is the file format of an evidence log.
//
// A log is a directory of segments named by the index of their first record.
// A segment is a header and then frames; all integers are little-endian.
//
//	header  magic "WRITLOG\x01" (8) | length of the whole header (4) |
//	        first index (8) | root of the tree before it (32) |
//	        length of origin (4) | origin | CRC-32C of all of that (4)
//	frame   payload length (4) | CRC-32C of length, kind and payload (4) | kind (1) | payload
//
// A frame's payload is a record's canonical encoding, or a signed checkpoint
// over every record before it. What was written together ends with its
// checkpoint, so a segment ends with one. The segment that is written to is
// preallocated: behind its last frame are zeros, which are not a frame.
//
// Scanner is the entry point for readers. It trusts nothing: a CRC tells
// damage from a whole frame, and only the checkpoint's signature and root tell
// whether the content is genuine.
package segment
