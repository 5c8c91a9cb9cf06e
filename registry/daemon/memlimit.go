package daemon

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
)

// SetMemoryLimit makes the garbage collector work harder as the process nears
// the memory limit of its cgroup (version 2), instead of being killed there. It
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

// cgroupLimit returns the smallest memory.max on the way from the root to the
// cgroup that self, a /proc/self/cgroup, names. 0 means no limit.
func cgroupLimit(cgroups fs.FS, self string) int64 {
	_, path, ok := strings.Cut(self, "0::")
	if !ok {
		return 0
	}
	path, _, _ = strings.Cut(path, "\n")
	var limit int64
	for dir := filepath.Clean("/" + path); ; dir = filepath.Dir(dir) {
		b, err := fs.ReadFile(cgroups, strings.TrimPrefix(filepath.Join(dir, "memory.max"), "/"))
		if err == nil {
			n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
			if err == nil && (limit == 0 || n < limit) { // "max" does not parse
				limit = n
			}
		}
		if dir == "/" {
			return limit
		}
	}
}
