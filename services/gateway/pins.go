package gateway

import (
	"math"
	"sync/atomic"
)

// pinned is how many bytes of the page cache one answer by sendfile(2) may keep
// from being reclaimed: what is queued in the sockets are those very pages, on
// loopback until the client has read them. It is about what Linux lets the queues
// of a connection grow to.
const pinned = 4 << 20

// pins limits how many answers go by sendfile(2) at a time in a process whose
// memory is limited, where the page cache counts, too: 32 downloads can pin more
// than 64 MiB, and the kernel kills then. The others are copied.
type pins struct {
	most int64 // 0: any number
	used atomic.Int64
}

// init gives a quarter of the memory limit (see [daemon.MemoryLimit]) to pages
// that are pinned.
func (p *pins) init(memoryLimit int64) {
	if memoryLimit < math.MaxInt64 {
		p.most = max(1, memoryLimit/4/pinned)
	}
}

// take reports whether an answer may go by sendfile(2). If so, give is due.
func (p *pins) take() bool {
	if p.most == 0 {
		return true
	}
	if p.used.Add(1) > p.most {
		p.used.Add(-1)
		return false
	}
	return true
}

func (p *pins) give() {
	if p.most != 0 {
		p.used.Add(-1)
	}
}
