//go:build linux && amd64

package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The packages that bring a kernel, the best first: Linux 6.12 has Landlock
// with scopes. Which one there is depends on the release of Debian.
var kernels = []string{"linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"}

var dependsOn = regexp.MustCompile(`(?m)^Depends: (linux-image-[^ ,]+)`)

// kernel is the file of Debian's kernel, from apt's archive. It is kept in the
// user's cache, under its package's name and version.
func kernel(t *testing.T) string {
	t.Helper()
	name, version := newest()
	if name == "" && os.Geteuid() == 0 {
		_ = exec.Command("apt-get", "-o", "DPkg::Lock::Timeout=300", "update", "-qq").Run()
		name, version = newest()
	}
	if name == "" {
		t.Fatalf("apt knows no kernel: none of %s; run apt-get update", kernels)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = "/var/cache"
	}
	dir := filepath.Join(cache, "writ-vm", name+"_"+strings.ReplaceAll(version, ":", "_"))
	if found, _ := filepath.Glob(dir + "/boot/vmlinuz-*"); len(found) == 1 {
		return found[0]
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(temporary)
	for _, argv := range [][]string{
		{"apt-get", "-o", "APT::Sandbox::User=root", "download", name + "=" + version},
		{"sh", "-c", "dpkg-deb -x *.deb x && rm -r x/lib *.deb"}, // the modules are of no use here
		{"mv", "-T", "x", dir},
	} {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Dir = temporary
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("bringing a kernel: %q: %v\n%s", argv, err, out)
		}
	}
	found, _ := filepath.Glob(dir + "/boot/vmlinuz-*")
	if len(found) != 1 {
		t.Fatalf("the package %s has no kernel: %s", name, found)
	}
	return found[0]
}

// newest gives the package that has the kernel itself, not the one that points
// to it, and its version.
func newest() (name, version string) {
	for _, pointer := range kernels {
		out, err := exec.Command("apt-cache", "show", "--no-all-versions", pointer).Output()
		if err != nil {
			continue
		}
		if m := dependsOn.FindSubmatch(out); m != nil {
			shown, err := exec.Command("apt-cache", "show", "--no-all-versions", string(m[1])).Output()
			if v := regexp.MustCompile(`(?m)^Version: (\S+)`).FindSubmatch(shown); err == nil && v != nil {
				return string(m[1]), string(v[1])
			}
		}
	}
	return "", ""
}
