package daemon

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// logMode lets a group that collects logs read them, and nobody else.
const logMode = 0o640

// recheckLog is how long a log is believed to be at its path still.
const recheckLog = time.Second

// LogFile is a file that lines are appended to and that may be rotated: once its
// path has another file, or none, lines go to a new one there. No line is lost or
// divided. Truncating it in place works, too. Its methods may be called by many
// goroutines.
type LogFile struct {
	path string

	mu      sync.Mutex // guards the rest
	f       *os.File
	checked time.Time
}

// OpenLogFile opens a log, which is made with mode 0640 if there is none.
func OpenLogFile(path string) (*LogFile, error) {
	f, err := openLog(path)
	if err != nil {
		return nil, err
	}
	return &LogFile{path: path, f: f, checked: time.Now()}, nil
}

func openLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, logMode)
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	return f, nil
}

// Write appends b, one or more whole lines, in one call of the system.
func (l *LogFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.checked) >= recheckLog {
		l.checked = now
		if l.moved() {
			_ = l.reopen() // the old file still takes lines
		}
	}
	n, err := l.f.Write(b)
	if err == nil || n > 0 {
		return n, err
	}
	// A file system that went away and came back, perhaps.
	if l.reopen() != nil {
		return n, err
	}
	return l.f.Write(b)
}

// Sync waits until all lines are on stable storage.
func (l *LogFile) Sync() error {
	l.mu.Lock()
	f := l.f
	l.mu.Unlock()
	return f.Sync()
}

// moved reports whether the path leads to another file, or to none.
func (l *LogFile) moved() bool {
	at, err := os.Stat(l.path)
	if err != nil {
		return os.IsNotExist(err)
	}
	ours, err := l.f.Stat()
	return err != nil || !os.SameFile(at, ours)
}

// Reopen opens the path again: SIGHUP asks for it. If that fails lines go where
// they went.
func (l *LogFile) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reopen()
}

func (l *LogFile) reopen() error {
	f, err := openLog(l.path)
	if err != nil {
		return err
	}
	old := l.f
	l.f = f
	_ = old.Close() // every line was one write
	return nil
}

// Close closes the file.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}
