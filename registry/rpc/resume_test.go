package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// shared is a blobstore of several replicas over one store, as on S3, of which
// the test may cut off one in the middle of what it does.
type shared struct {
	*memory.Blobs
	cut func() // ends the replica that calls it
	cfg *cutting
}

// cutting says when replicas are cut off.
type cutting struct {
	mu    sync.Mutex
	opens []registry.Range // in the order they came
	after []int            // bytes that the n-th Open sends before its replica ends

	commits     int
	commitFirst bool // a Commit is made before its replica ends, else not
	commitCuts  int  // how many Commits end their replica
}

func (s *shared) Open(ctx context.Context, st registry.Stored, r registry.Range) (registry.Content, error) {
	c, err := s.Blobs.Open(ctx, st, r)
	if err != nil {
		return nil, err
	}
	s.cfg.mu.Lock()
	defer s.cfg.mu.Unlock()
	n := len(s.cfg.opens)
	s.cfg.opens = append(s.cfg.opens, r)
	if n >= len(s.cfg.after) {
		return c, nil
	}
	return &cutContent{Content: c, ctx: ctx, left: s.cfg.after[n], cut: s.cut}, nil
}

func (s *shared) Commit(ctx context.Context, u registry.Upload, last io.Reader, want registry.Digest) (registry.Stored, error) {
	s.cfg.mu.Lock()
	cut, first := s.cfg.commits < s.cfg.commitCuts, s.cfg.commitFirst
	s.cfg.commits++
	s.cfg.mu.Unlock()
	if !cut {
		return s.Blobs.Commit(ctx, u, last, want)
	}
	if first {
		if _, err := s.Blobs.Commit(ctx, u, last, want); err != nil {
			return registry.Stored{}, err
		}
	} else if _, err := io.Copy(io.Discard, last); err != nil {
		return registry.Stored{}, err
	}
	s.cut()
	<-ctx.Done()
	return registry.Stored{}, ctx.Err()
}

// cutContent ends its replica after some bytes.
type cutContent struct {
	registry.Content
	ctx  context.Context
	left int
	cut  func()
}

func (c *cutContent) Read(p []byte) (int, error) {
	if c.left == 0 {
		c.cut()
		<-c.ctx.Done()
		return 0, c.ctx.Err()
	}
	n, err := c.Content.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// twins starts two replicas over one store.
func twins(t *testing.T, local *memory.Blobs, cfg *cutting) (b registry.Blobs, end func()) {
	t.Helper()
	c := newCluster(t)
	for _, at := range []string{"a:1", "b:1"} {
		s := &shared{Blobs: local, cfg: cfg}
		m := c.startBlobs(t, at, s)
		s.cut = sync.OnceFunc(m.srv.Stop) // Stop waits for the handler that calls it
		stop := s.cut
		s.cut = func() { go stop() }
	}
	c.publish("a:1", "b:1")
	c.conn.Connect()
	synctest.Wait()
	return NewBlobs(c.conn), c.end
}

// TestG14ReadsGoOn cuts off the replica that sends a blob at many bytes of it:
// the reader gets the whole blob from the other one.
func TestG14ReadsGoOn(t *testing.T) {
	data := pattern(1<<20 + 512<<10 + 12345)
	for _, part := range []registry.Range{registry.Whole, {Offset: 1 << 19, Length: 1 << 20}} {
		at, n, err := part.Resolve(int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		cuts := []int{0, 1, smallChunk - 1, smallChunk, smallChunk + 1, 1 << 19, int(n) - 1, int(n)}
		for range 4 {
			cuts = append(cuts, rand.IntN(int(n)))
		}
		for _, cut := range cuts {
			for name, read := range map[string]func(registry.Content, io.Writer) error{
				"WriteTo": func(c registry.Content, w io.Writer) error { _, err := c.WriteTo(w); return err },
				"Read":    func(c registry.Content, w io.Writer) error { _, err := io.Copy(w, struct{ io.Reader }{c}); return err },
			} {
				synctest.Test(t, func(t *testing.T) {
					local, cfg := memory.NewBlobs(), &cutting{after: []int{cut}}
					b, end := twins(t, local, cfg)
					defer end()
					c, err := b.Open(t.Context(), put(t, local, data), part)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					var got bytes.Buffer
					if err := read(c, &got); err != nil || !bytes.Equal(got.Bytes(), data[at:at+n]) {
						t.Errorf("%s of %+v, cut after %d bytes: got %d bytes, %v", name, part, cut, got.Len(), err)
					}
					if len(cfg.opens) < 2 && cut < int(n) {
						t.Errorf("%s of %+v, cut after %d bytes: %d opens", name, part, cut, len(cfg.opens))
					}
				})
			}
		}
	}
}

// With nobody left to go on, the reader gets an error and never a clean end.
func TestG14ReadsEndInAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, cfg := memory.NewBlobs(), &cutting{after: []int{1 << 20, 1 << 19}}
		data := pattern(3 << 20)
		b, end := twins(t, local, cfg)
		defer end()
		c, err := b.Open(t.Context(), put(t, local, data), registry.Whole)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		got, err := io.ReadAll(c)
		wantErr(t, "reading", err, registry.ErrUnavailable)
		if !bytes.HasPrefix(data, got) || len(got) == len(data) {
			t.Errorf("got %d bytes", len(got))
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, errClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// Closing ends a wait for another replica.
func TestCloseWhileResuming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		local, cfg := memory.NewBlobs(), &cutting{after: []int{1 << 20, 0, 0}}
		b, end := twins(t, local, cfg)
		defer end()
		c, err := b.Open(t.Context(), put(t, local, pattern(3<<20)), registry.Whole)
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, c)
			read <- err
		}()
		time.Sleep(time.Second)
		began := time.Now()
		c.Close()
		if err := <-read; err == nil {
			t.Error("no error")
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A Commit whose replica ends is made by the other one, or found to be made.
func TestCommitAtAnotherReplica(t *testing.T) {
	for name, test := range map[string]struct {
		first bool // the commit is made, its answer is lost
		last  int  // bytes that come with it
		cuts  int
		well  bool
	}{
		"made, the answer lost":                  {true, 1000, 1, true},
		"made, the answer lost, no bytes":        {true, 0, 1, true},
		"not made, no bytes":                     {false, 0, 1, true},
		"not made, and its bytes lost with it":   {false, 1000, 1, false},
		"made, the answer lost, then lost again": {true, 1000, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				local, cfg := memory.NewBlobs(), &cutting{commitFirst: test.first, commitCuts: test.cuts}
				b, end := twins(t, local, cfg)
				defer end()
				data := pattern(5000)
				u := start(t, b)
				u, err := b.Append(t.Context(), u, bytes.NewReader(data[:5000-test.last]))
				if err != nil {
					t.Fatal(err)
				}
				s, err := b.Commit(t.Context(), u, bytes.NewReader(data[5000-test.last:]), registry.SHA256.FromBytes(data))
				if !test.well {
					wantErr(t, "Commit", err, registry.ErrUnavailable)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if list, err := local.Copies(t.Context(), "", nil, 10); err != nil || len(list) != 1 || list[0] != s {
					t.Errorf("there are %v, %v, want %v alone", list, err, s)
				}
			})
		})
	}
}
