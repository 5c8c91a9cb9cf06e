// Package auditlog writes audit events to the file or stream that log.audit names.
package auditlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/daemon"
)

// line is an event in the file: zot's keys first, then ours.
type line struct {
	Time      time.Time `json:"time"`
	Level     string    `json:"level"`
	Message   string    `json:"message"`
	Component string    `json:"component"`
	ClientIP  string    `json:"clientIP"`
	Subject   string    `json:"subject"`
	Action    string    `json:"action"` // the HTTP method
	Object    string    `json:"object"` // the path
	Status    int       `json:"status"`
	Event     string    `json:"event"`
	Target    string    `json:"target"`
	Result    string    `json:"result"`
	RequestID string    `json:"requestId"`
	ID        string    `json:"id"`
}

// Line returns an event as a line of the file, with its end. method and path are those
// of the HTTP request, "" if there was none.
func Line(e registry.AuditEvent, method, path string) ([]byte, error) {
	b, err := json.Marshal(line{
		Time: time.UnixMicro(e.At).UTC(), Level: "info", Message: "HTTP API Audit", Component: "audit",
		ClientIP: e.Source, Subject: e.Actor, Action: method, Object: path, Status: e.Status,
		Event: e.Action, Target: e.Object, Result: e.Result, RequestID: e.RequestID, ID: e.ID,
	})
	return append(b, '\n'), err
}

// Open opens what log.audit names: a file that may be rotated, or a stream. The
// writer is nil if it names none. Each Write must be whole lines: several processes,
// and several writers of one process, may append to one file.
func Open(path string, rotated *daemon.Rotation) (io.Writer, io.Closer, error) {
	switch path {
	case "":
		return nil, nopCloser{}, nil
	case "stdout", "/dev/stdout":
		return os.Stdout, nopCloser{}, nil
	case "stderr", "/dev/stderr":
		return os.Stderr, nopCloser{}, nil
	}
	f, err := daemon.OpenLogFile(path)
	if err != nil {
		return nil, nil, err
	}
	rotated.Add(f.Reopen)
	return f, f, nil
}

type nopCloser struct{}

func (nopCloser) Close() error { return nil }

// Both returns an Audit that writes events to a file, unless that is nil, and then
// hands them to the other. It is for events that are of no HTTP request. An event that
// the file does not take goes to the other all the same, and the error says so.
func Both(file io.Writer, to registry.Audit) registry.Audit {
	if file == nil {
		return to
	}
	return &both{to, file}
}

type both struct {
	registry.Audit
	file io.Writer
}

// RecordAudit implements [registry.Audit].
func (b *both) RecordAudit(ctx context.Context, events []registry.AuditEvent) error {
	var text bytes.Buffer
	for _, e := range events {
		l, err := Line(e, "", "")
		if err != nil {
			return err
		}
		text.Write(l)
	}
	_, err := b.file.Write(text.Bytes()) // at once: others write there, too
	return errors.Join(err, b.Audit.RecordAudit(ctx, events))
}
