package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

// fileBlobs serves every blob from files, the way a disk store does.
type fileBlobs struct {
	registry.Blobs
	dir string
}

func (b fileBlobs) Open(ctx context.Context, s registry.Stored, r registry.Range) (registry.Content, error) {
	c, err := b.Blobs.Open(ctx, s, registry.Whole)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	f, err := os.CreateTemp(b.dir, "")
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f, c); err != nil {
		return nil, err
	}
	offset, length, err := r.Resolve(s.Size)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	return &fileContent{File: f, left: length, size: length}, nil
}

type fileContent struct {
	*os.File
	left, size int64
}

func (c *fileContent) Size() int64 { return c.size }

func (c *fileContent) WriteTo(w io.Writer) (int64, error) {
	lr := &io.LimitedReader{R: c.File, N: c.left}
	n, err := io.Copy(w, lr)
	c.left = lr.N
	if err == nil && c.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// spyListener tells what its connections are asked to send.
type spyListener struct {
	net.Listener
	sawFile atomic.Bool
}

func (l *spyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &spyConn{c.(*net.TCPConn), l}, nil
}

type spyConn struct {
	*net.TCPConn
	spy *spyListener
}

func (c *spyConn) ReadFrom(r io.Reader) (int64, error) {
	if lr, ok := r.(*io.LimitedReader); ok {
		if _, ok := lr.R.(*os.File); ok {
			c.spy.sawFile.Store(true)
		}
	}
	return c.TCPConn.ReadFrom(r)
}

// TestBlobGetUsesSendfile fails if anything on the path hides the file from the
// TCP connection.
func TestBlobGetUsesSendfile(t *testing.T) {
	w := newWorld()
	w.deps.Blobs = fileBlobs{w.deps.Blobs, t.TempDir()}
	s := httptest.NewUnstartedServer(nil)
	s.Config = w.gateway(t).Server()
	spy := &spyListener{Listener: s.Listener}
	s.Listener = spy
	s.Start()
	defer s.Close()

	content := string(bytes.Repeat([]byte("0123456789abcdef"), 1<<16)) + "the end"
	d := pushBlob(t, s.URL, "a", content)
	if got := do(t, "GET", s.URL+"/v2/a/blobs/"+d.String(), nil).want(t, 200); got.body != content {
		t.Errorf("got %d bytes, want %d", len(got.body), len(content))
	}
	if !spy.sawFile.Swap(false) {
		t.Error("the blob went through user space; is something wrapping http.ResponseWriter?")
	}
	if got := do(t, "GET", s.URL+"/v2/a/blobs/"+d.String(), nil, "Range: bytes=100000-").want(t, 206); got.body != content[100000:] {
		t.Errorf("got %d bytes of the range", len(got.body))
	}
	if !spy.sawFile.Load() {
		t.Error("the range went through user space")
	}
}

// slowConn is a response that takes what its steps say before its deadline.
type slowConn struct {
	http.ResponseWriter
	takes []int64
	got   bytes.Buffer
}

func (c *slowConn) ReadFrom(r io.Reader) (int64, error) {
	if len(c.takes) == 0 {
		return io.Copy(&c.got, r)
	}
	n := c.takes[0]
	c.takes = c.takes[1:]
	n, err := io.CopyN(&c.got, r, n)
	if err != nil {
		return n, err
	}
	return n, os.ErrDeadlineExceeded
}

// TestP23SlowReadersOfFiles lets deadlines pass in the middle of a chunk: a
// client that took something by then is slow, one that took nothing is gone.
func TestP23SlowReadersOfFiles(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	send := func(takes ...int64) (*slowConn, error) {
		f.Seek(0, io.SeekStart)
		c := &slowConn{ResponseWriter: httptest.NewRecorder(), takes: takes}
		x := &exchange{w: c, r: httptest.NewRequest("GET", "/", nil), idle: time.Minute, pins: new(pins)}
		return c, x.send(&fileContent{File: f, left: int64(len(content)), size: int64(len(content))}, int64(len(content)))
	}
	if c, err := send(1000, 2000, 600); err != nil || !bytes.Equal(c.got.Bytes(), content) {
		t.Errorf("a slow client: %v, %d bytes", err, c.got.Len())
	}
	if _, err := send(1000, 0); !errors.Is(err, registry.ErrCanceled) {
		t.Errorf("a client that is gone: got error %v", err)
	}
}
