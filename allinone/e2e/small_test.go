//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// TestG23SmallMachine starts the program where it may open 100 files and has no
// directory for temporary ones, and lets 64 clients push and pull for SMALL_SECONDS
// (5). What can't be done now is refused cleanly or not accepted at all; what was
// acknowledged is there, and afterwards uploads that were refused can be cancelled, and
// everything works as before.
func TestG23SmallMachine(t *testing.T) {
	script := filepath.Join(t.TempDir(), "berth")
	text := fmt.Sprintf("#!/bin/sh\nulimit -n 100\nexport TMPDIR=/nonexistent\nexec %s \"$@\"\n", Program(t, "berth"))
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	s := Start(t, Options{Topology: Linked, Bin: map[string]string{"berth": script}})
	const clients = 64
	l := &smallLoad{base: s.URL() + "/v2/small", until: time.Now().Add(time.Duration(envInt(t, "SMALL_SECONDS", 5)) * time.Second), refused: map[string]int{}}
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() { l.client(i) })
	}
	all.Wait()
	for _, err := range l.bad {
		t.Error(err)
	}
	t.Logf("%d blobs pushed and pulled; refused: %v", len(l.stored), l.refused)
	if len(l.stored) == 0 {
		t.Error("nothing was done")
	}
	calm := &http.Client{Timeout: 30 * time.Second}
	for _, at := range l.left {
		if err := cancelUpload(calm, at); err != nil {
			t.Errorf("an upload that was refused can't be cancelled: %v", err)
		}
	}
	if _, err := l.push(calm, []byte("afterwards")); err != nil {
		t.Errorf("after all clients have gone: %v", err)
	}
	for d := range l.stored {
		if err := l.pull(calm, d); err != nil {
			t.Errorf("an acknowledged blob: %v", err)
		}
	}
	for _, p := range s.Processes {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}
	checkStore(t, s, 24) // which reads everything
}

// smallLoad is what clients did.
type smallLoad struct {
	base  string
	until time.Time

	mu      sync.Mutex // guards what follows
	stored  map[string]bool
	refused map[string]int // how often, by the answer
	bad     []error
	left    []string // uploads that were refused and could not be cancelled
}

func (l *smallLoad) client(i int) {
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: i%2 == 0}}
	defer client.CloseIdleConnections()
	for n := 0; time.Now().Before(l.until); n++ {
		d, err := l.push(client, bytes.Repeat(fmt.Appendf(nil, "%d of %d. ", n, i), 2000))
		if err == nil {
			err = l.pull(client, d)
		}
		l.note(d, err)
	}
}

// note records how an operation ended.
func (l *smallLoad) note(d string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stored == nil {
		l.stored = map[string]bool{}
	}
	if d != "" {
		l.stored[d] = true
	}
	status, isAnswer := err.(answered)
	switch {
	case err == nil:
	case isAnswer && status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests:
		l.bad = append(l.bad, err)
	case isAnswer:
		l.refused[err.Error()]++
	default:
		l.refused["no connection"]++
	}
}

// answered is a status that is no success.
type answered int

func (a answered) Error() string { return fmt.Sprintf("answered %d", int(a)) }

// push pushes a blob, and returns its digest once that is acknowledged.
func (l *smallLoad) push(client *http.Client, content []byte) (string, error) {
	resp, err := client.Post(l.base+"/blobs/uploads/", "", nil)
	if err != nil {
		return "", err
	}
	location := resp.Header.Get("Location")
	if err := drain(resp, http.StatusAccepted); err != nil {
		return "", err
	}
	at, err := url.Parse(l.base)
	if err == nil {
		at, err = at.Parse(location)
	}
	if err != nil {
		return "", err
	}
	d := digest.FromBytes(content).String()
	query := "digest=" + url.QueryEscape(d)
	if strings.Contains(at.String(), "?") {
		query = "&" + query
	} else {
		query = "?" + query
	}
	req, err := http.NewRequest(http.MethodPut, at.String()+query, bytes.NewReader(content))
	if err != nil {
		return "", err
	}
	if resp, err = client.Do(req); err == nil {
		err = drain(resp, http.StatusCreated)
	}
	if err == nil {
		return d, nil
	}
	// One client may leave 1,000 uploads open (http.openUploads).
	if cancelUpload(client, at.String()) != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.left = append(l.left, at.String())
	}
	return "", err
}

// cancelUpload ends an upload, which may have ended already.
func cancelUpload(client *http.Client, at string) error {
	req, err := http.NewRequest(http.MethodDelete, at, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if err = drain(resp, http.StatusNoContent); err == answered(http.StatusNotFound) {
		return nil
	}
	return err
}

func (l *smallLoad) pull(client *http.Client, d string) error {
	resp, err := client.Get(l.base + "/blobs/" + d)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return answered(resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err == nil && digest.FromBytes(body).String() != d {
		return fmt.Errorf("%w: %s has other bytes", answered(resp.StatusCode), d)
	}
	return err
}

// drain reads an answer to its end.
func drain(resp *http.Response, want int) error {
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != want {
		return answered(resp.StatusCode)
	}
	return nil
}
