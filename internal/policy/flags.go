package policy

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/writ-run/writ/internal/policy/text"
)

// ExtraName is the name of the source that Extra makes.
const ExtraName = "command-line.cedar"

// Extra writes the policies that --read, --write, --exec and --connect of
// `writ run` stand for: a source to be added to the bundle under ExtraName, or
// "" where there are none. It has the same text whatever the order of the flags.
//
// Paths are clean and absolute, and stand for themselves and everything beneath
// them. A write path may be read too; an exec path may be read, mapped and run. A
// connect is ADDRESS:PORT, localhost:PORT, or the path of a unix socket. Nothing
// in a value can become anything but a name in the policy. The error is a
// Problems.
func Extra(reads, writes, execs, connects []string) (string, error) {
	w := &flagWriter{}
	for _, p := range unique(reads) {
		w.path("--read", p, func(id, quoted string) {
			w.permit(id, "", "open", "in Writ::Directory::"+quoted, `context.access == "read"`)
		})
	}
	for _, p := range unique(writes) {
		w.path("--write", p, func(id, quoted string) {
			w.permit(id, "", "open", "in Writ::Directory::"+quoted, `context.access == "read" || context.access == "write"`)
		})
	}
	for _, p := range unique(execs) {
		w.path("--exec", p, func(id, quoted string) {
			w.permit(id, "", "exec", "in Writ::Directory::"+quoted, "")
			w.permit(id+" (its files)", "", "open", "in Writ::Directory::"+quoted, `context.access == "read" || context.access == "execute"`)
		})
	}
	for _, c := range unique(connects) {
		w.connect(c)
	}
	if err := w.problems.Err(); err != nil {
		return "", err
	}
	if w.out.Len() == 0 {
		return "", nil
	}
	return "// Allowed on the command line of `writ run`.\n" + w.out.String(), nil
}

func unique(values []string) []string {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

type flagWriter struct {
	out      strings.Builder
	bodies   map[string]string // by id
	number   int
	problems Problems
}

func (w *flagWriter) problem(flag, value, why, fix string) {
	w.problems = append(w.problems, &Problem{Code: text.CodeFlag, What: fmt.Sprintf("%s %q cannot be granted", flag, value), Why: why, Fix: fix})
}

// id names a policy after its flag, where the value can be part of a name.
func (w *flagWriter) id(flag, value string) string {
	w.number++
	id := flag + " " + value
	if badID(id) != "" || len(id) > maxID-16 {
		id = fmt.Sprintf("%s (number %d)", flag, w.number)
	}
	return id
}

// permit writes one policy. What was written already, because two flags mean the
// same, is not written again.
func (w *flagWriter) permit(id, note, action, resource, condition string) {
	var b strings.Builder
	if note != "" {
		fmt.Fprintf(&b, "%s\n", note)
	}
	fmt.Fprintf(&b, "permit (principal, action == Writ::Action::%s, resource %s)", text.Quote(action), resource)
	if condition != "" {
		fmt.Fprintf(&b, "\nwhen { %s }", condition)
	}
	b.WriteString(";\n")
	if body, taken := w.bodies[id]; taken && body == b.String() {
		return
	} else if taken {
		w.number++
		id = fmt.Sprintf("%s (number %d)", id, w.number)
	}
	if w.bodies == nil {
		w.bodies = map[string]string{}
	}
	w.bodies[id] = b.String()
	fmt.Fprintf(&w.out, "\n@id(%s)\n%s", text.Quote(id), b.String())
}

func (w *flagWriter) path(flag, value string, write func(id, quoted string)) {
	switch why := badPath(value); {
	case !utf8.ValidString(value):
		w.problem(flag, value, "the path is not UTF-8, which policies are written in", "rename the file")
	case len(value) > maxPath:
		w.problem(flag, value[:64]+"...", fmt.Sprintf("the path has more than %d bytes", maxPath), "name a directory above it")
	case why != "":
		w.problem(flag, value, why, "give the absolute path, without . or .. or a slash at its end")
	default:
		write(w.id(flag, value), text.Quote(value))
	}
}

// maxPath is PATH_MAX of Linux, without the NUL.
const maxPath = 4095

const viaHost = `@via("host")`

func (w *flagWriter) connect(value string) {
	const flag = "--connect"
	if strings.HasPrefix(value, "/") {
		w.path(flag, value, func(id, quoted string) {
			w.permit(id, "", "connect", "== Writ::File::"+quoted, "")
			w.permit(id+" (its file)", "", "open", "== Writ::File::"+quoted, `context.access == "read" || context.access == "write"`)
		})
		return
	}
	host, digits, err := net.SplitHostPort(value)
	if err != nil {
		w.problem(flag, value, "it is no address with a port, nor the path of a socket", "write for example --connect 127.0.0.1:8080, --connect [::1]:8080 or --connect /run/app.sock")
		return
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || port == 0 || strconv.FormatUint(port, 10) != digits {
		w.problem(flag, value, fmt.Sprintf("%q is no port", digits), "give a number from 1 to 65535 after the colon")
		return
	}
	condition := fmt.Sprintf("resource.port == %d", port)
	if host == "localhost" {
		for _, h := range []string{"127.0.0.1", "::1"} {
			w.permit(w.id(flag, net.JoinHostPort(h, digits)+" (localhost)"), viaHost, "connect", "== Writ::Host::"+text.Quote(h), condition)
		}
		return
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		w.problem(flag, value, "connections are decided by address: a name could come to mean another one", "give the address; `getent hosts NAME` shows it")
		return
	}
	if addr.Zone() != "" {
		w.problem(flag, value, "an address with a zone means another one on each interface", fmt.Sprintf("give the address without %q", "%"+addr.Zone()))
		return
	}
	canonical := addr.Unmap().String()
	w.permit(w.id(flag, net.JoinHostPort(canonical, digits)), viaHost, "connect", "== Writ::Host::"+text.Quote(canonical), condition)
}
