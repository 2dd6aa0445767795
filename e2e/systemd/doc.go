// Package systemd runs the unit files of packaging/systemd under a real systemd.
//
// Its tests are its only content. They start the host's systemd as the first
// process of namespaces of its own, over a file system that keeps nothing, with
// a control group hierarchy that begins there: as the system manager, and in it
// the manager of an ordinary user. They need root and an installed systemd; the
// host's own first process may be anything.
package systemd
