// Package container runs writ inside containers, started by runc from
// configurations as Docker and Podman write them: with their defaults, where it
// must refuse and say why, and with what docs/how-to/containers.md asks for,
// where it must govern.
//
// Its tests are its only content. They need root and an installed runc.
package container
