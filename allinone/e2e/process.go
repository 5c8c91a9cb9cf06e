package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	readyWithin = 30 * time.Second // a cold start on a busy machine
	stopWithin  = 20 * time.Second // the programs drain within less
	readyPause  = 20 * time.Millisecond
)

// Process is one program of a [System]. Its methods are for the test's own
// goroutine.
type Process struct {
	Name string
	Path string
	Args []string
	Env  []string

	ready   string // URL that answers 200 when the program can serve; empty for gRPC servers
	healthy bool   // it has no such URL, and is ready when its healthcheck says so
	abrupt  bool   // not a program of ours: it dies of SIGTERM

	cmd     *exec.Cmd
	exited  chan struct{} // closed when the process is gone
	exitErr error         // set before exited is closed
	killed  bool          // the test killed it, so its end is no fault
	checked bool          // a cleanup that stops and checks it is registered
	log     logBuffer
}

// PID is the process id of the running program.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log is everything that the program has written so far, over all its starts.
func (p *Process) Log() string { return p.log.String() }

// start runs the program and registers its end with t.
func (p *Process) start(t testing.TB) {
	t.Helper()
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	// A test binary that is killed must not leave servers behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", p.Name, err)
	}
	p.cmd, p.killed, p.exitErr = cmd, false, nil
	exited := make(chan struct{})
	p.exited = exited
	go func() {
		p.exitErr = cmd.Wait()
		close(exited)
	}()
	if !p.checked {
		p.checked = true
		t.Cleanup(func() { p.finish(t) })
	}
}

// Restart starts the program again after [Process.Kill] or [Process.Stop] and
// waits until it is ready.
func (p *Process) Restart(t testing.TB) {
	t.Helper()
	p.start(t)
	p.await(t)
}

// await waits until the program can serve, if it tells.
func (p *Process) await(t testing.TB) {
	t.Helper()
	switch {
	case p.ready != "":
		p.waitReady(t)
	case p.healthy:
		p.waitHealthy(t)
	}
}

// waitHealthy waits until a program that speaks gRPC says that it is well.
func (p *Process) waitHealthy(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(readyWithin); ; {
		out, err := exec.Command(p.Path, "healthcheck", p.Args[1]).CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not well: %s", p.Name, bytes.TrimSpace(out))
		}
		select {
		case <-p.exited:
			t.Fatalf("%s ended before it was ready: %v\n%s", p.Name, p.exitErr, p.tail())
		case <-time.After(readyPause):
		}
	}
}

// waitReady polls the readiness URL until it answers 200.
func (p *Process) waitReady(t testing.TB) {
	t.Helper()
	// Who answers is known by the port: certificates are for clients to check.
	client := &http.Client{
		Timeout:   2 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}
	defer client.CloseIdleConnections()
	deadline := time.Now().Add(readyWithin)
	var last error
	for time.Now().Before(deadline) {
		resp, err := client.Get(p.ready)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
			err = errors.New(resp.Status)
		}
		last = err
		select {
		case <-p.exited:
			t.Fatalf("%s ended before it was ready: %v\n%s", p.Name, p.exitErr, p.tail())
		case <-time.After(readyPause):
		}
	}
	t.Fatalf("%s was not ready within %v: %v\n%s", p.Name, readyWithin, last, p.tail())
}

// Kill ends the program at once, as a power cut would for this process alone.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	p.killed = true
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatalf("killing %s: %v", p.Name, err)
	}
	<-p.exited
}

// Stop asks the program to end and reports what was wrong with its end.
func (p *Process) Stop() error {
	select {
	case <-p.exited:
		if p.killed {
			return nil
		}
		p.killed = true // said once
		return fmt.Errorf("%s ended by itself: %s", p.Name, p.cmd.ProcessState)
	default:
	}
	p.killed = true
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping %s: %w", p.Name, err)
	}
	select {
	case <-p.exited:
		if p.exitErr != nil {
			return fmt.Errorf("%s did not end cleanly: %w", p.Name, p.exitErr)
		}
		return nil
	case <-time.After(stopWithin):
		p.cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("%s did not stop within %v", p.Name, stopWithin)
	}
}

// finish stops the program and fails t for a bad end or a bad line in its log.
func (p *Process) finish(t testing.TB) {
	t.Helper()
	if err := p.Stop(); err != nil && !p.abrupt {
		t.Error(err)
	}
	// Docker's engine asks its containerd for the stacks when that is slow to start,
	// and starts it again.
	if bad := alarming(p.Log()); bad != "" && p.Name != "dockerd" {
		t.Errorf("%s reported a fault of its own:\n%s", p.Name, bad)
	}
	if line := p.leak(); line != "" {
		t.Errorf("%s wrote a secret:\n%s", p.Name, line)
	}
	if t.Failed() {
		t.Logf("end of the log of %s:\n%s", p.Name, p.tail())
	}
}

// leak returns the first line with a secret that a program of ours has written, or "".
func (p *Process) leak() string {
	if !strings.HasPrefix(p.Name, "berth") {
		return ""
	}
	return leak(p.Log())
}

// tail is the end of the log, for messages.
func (p *Process) tail() string {
	const keep = 4000
	log := p.Log()
	if len(log) > keep {
		log = "…" + log[len(log)-keep:]
	}
	return log
}

var alarm = regexp.MustCompile(`(?m)^.*(panic:|panic serving|fatal error:|DATA RACE|runtime error:|goroutine \d+ \[|"message":"refused a call").*$`)

// alarming returns the first line that no healthy program writes and what
// follows it, or "".
func alarming(log string) string {
	at := alarm.FindStringIndex(log)
	if at == nil {
		return ""
	}
	return strings.Join(firstLines(log[at[0]:], 40), "\n")
}

func firstLines(s string, n int) []string {
	lines := strings.SplitN(s, "\n", n+1)
	return lines[:min(n, len(lines))]
}

// logBuffer collects a program's output. Two file descriptors may write to it.
type logBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
