package kernel

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// address is what connect is asked to connect to: the copied bytes, and what
// they say.
type address struct {
	raw    []byte
	family uint16
	ip     netip.AddrPort // AF_INET, AF_INET6; unmapped, no zone
	path   string         // AF_UNIX with a path
	name   string         // AF_UNIX, abstract: without the leading NUL
	named  bool           // name is set, possibly empty
}

const maxSockaddr = 128 // sizeof(struct sockaddr_storage)

// parseAddress says what a socket address means to the kernel, with the
// kernel's errors for what is too short. It takes bytes over from the caller.
func parseAddress(raw []byte) (address, error) {
	a := address{raw: raw}
	if len(raw) < 2 {
		return a, unix.EINVAL
	}
	a.family = binary.NativeEndian.Uint16(raw)
	switch a.family {
	case unix.AF_INET:
		if len(raw) < unix.SizeofSockaddrInet4 {
			return a, unix.EINVAL
		}
		a.ip = destination(netip.AddrFrom4([4]byte(raw[4:8])), raw)
	case unix.AF_INET6:
		const withoutScope = 24 // SIN6_LEN_RFC2133
		if len(raw) < withoutScope {
			return a, unix.EINVAL
		}
		a.ip = destination(netip.AddrFrom16([16]byte(raw[8:24])), raw)
	case unix.AF_UNIX:
		const beforePath = 2
		rest := raw[beforePath:]
		if len(rest) == 0 || len(raw) > unix.SizeofSockaddrUnix {
			return a, unix.EINVAL
		}
		if rest[0] == 0 {
			a.name, a.named = string(rest[1:]), true
			break
		}
		if nul := bytes.IndexByte(rest, 0); nul >= 0 {
			rest = rest[:nul]
		}
		a.path = string(rest)
	}
	return a, nil
}

// destination is where a connect to ip goes: the mapped address for an IPv4
// address mapped into IPv6, the loopback for the unspecified address.
func destination(ip netip.Addr, raw []byte) netip.AddrPort {
	ip = ip.Unmap()
	if ip.IsUnspecified() {
		if ip.Is4() {
			ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		} else {
			ip = netip.IPv6Loopback()
		}
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(raw[2:4]))
}
