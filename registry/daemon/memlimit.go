package daemon

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// SetMemoryLimit makes the garbage collector work harder as the process nears
// the memory limit of its cgroup, instead of being killed there. It
// leaves a tenth for what the collector does not see: stacks, the page cache of
// open files, the binary. GOMEMLIMIT, if set, wins. It returns the limit in
// bytes, or 0 if there is none.
func SetMemoryLimit() int64 {
	if os.Getenv("GOMEMLIMIT") != "" {
		return 0
	}
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0
	}
	limit := cgroupLimit(os.DirFS("/sys/fs/cgroup"), string(self))
	if limit > 0 {
		limit -= limit / 10
		debug.SetMemoryLimit(limit)
	}
	return limit
}

// MemoryLimit returns the limit of this process in bytes, math.MaxInt64 if there
// is none.
func MemoryLimit() int64 { return debug.SetMemoryLimit(-1) }

// noLimit is from where on a number means that there is no limit: version 1 says
// the largest number of whole pages.
const noLimit = 1 << 60

// cgroupLimit returns the smallest memory limit on the way from the root to the
// cgroups that self, a /proc/self/cgroup, names (cgroups(7)). The hierarchy of
// version 2 lies at the root of cgroups, that of version 1 in "memory". In a
// container the path may be one of the host's that cannot be seen; the root is
// the container's own then. 0 means no limit.
func cgroupLimit(cgroups fs.FS, self string) int64 {
	var limit int64
	for line := range strings.Lines(self) {
		id, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		root, file := ".", "memory.max"
		if id != "0" {
			if !slices.Contains(strings.Split(controllers, ","), "memory") {
				continue
			}
			root, file = "memory", "memory.limit_in_bytes"
		}
		for dir := filepath.Clean("/" + path); ; dir = filepath.Dir(dir) {
			b, err := fs.ReadFile(cgroups, filepath.Join(root, dir, file))
			if err == nil {
				n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
				if err == nil && n < noLimit && (limit == 0 || n < limit) { // "max" does not parse
					limit = n
				}
			}
			if dir == "/" {
				break
			}
		}
	}
	return limit
}
