package pgtest

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// killChildren kills the processes of the server and returns a function that
// waits until they are gone.
func (s *Server) killChildren() (wait func()) {
	pid := strconv.Itoa(s.cmd.Process.Pid)
	// What it starts after this ends when it connects to a server that is gone.
	_ = s.cmd.Process.Signal(syscall.SIGSTOP)
	list, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	if err != nil {
		return func() {}
	}
	children := strings.Fields(string(list))
	for _, c := range children {
		if n, err := strconv.Atoi(c); err == nil {
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
	}
	return func() {
		for _, c := range children {
			for running(c) {
				<-time.After(time.Millisecond)
			}
		}
	}
}

// running reports whether there is a process that is not dead and unburied.
func running(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}
