//go:build !linux

package metrics

import "time"

// process adds what is known without the kernel's help.
func (s *Set) process() {
	began := float64(time.Now().UnixMilli()) / 1000
	s.Func(GaugeKind, "process_start_time_seconds", "When the process began, in seconds since 1970.", func() float64 { return began })
}
