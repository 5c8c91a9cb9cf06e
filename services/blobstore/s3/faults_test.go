package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/blobstore/s3"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// TestG13 runs S3_FAULTS (400) operations against two stores whose requests
// fail in many ways. What was acknowledged must be there, whole, and nothing
// that was cut short may pass for whole. S3_SEED repeats a run.
func TestG13(t *testing.T) {
	n, seed := fromEnv(t, "S3_FAULTS", 400), fromEnv(t, "S3_SEED", uint64(time.Now().UnixNano()))
	srv := s3test.Start(t)
	proxy := s3test.NewProxy(t, srv)
	root := newRoot()
	f := &faultRun{
		rand:   rand.New(rand.NewPCG(seed, 2)),
		proxy:  proxy,
		clean:  openStore(t, map[registry.Pool]config.Driver{"": srv.Driver(root)}),
		faulty: openReplicasWith(t, 2, map[registry.Pool]config.Driver{"": proxy.Driver(root)}, s3.Options{Idle: 200 * time.Millisecond}),
		blobs:  map[registry.Stored]content{},
	}
	proxy.Fail(0.1, seed)
	start := time.Now()
	for i := uint64(1); i <= n && !t.Failed(); i++ {
		f.step(t)
		if i%100 == 0 || i == n {
			f.check(t)
		}
	}
	kinds, all := proxy.Faults()
	requests := 0
	for _, c := range proxy.Counted() {
		requests += c
	}
	t.Logf("seed %d: %d operations in %v, %d requests, of which %d failed (%s)", seed, n, time.Since(start).Round(time.Second), requests, all, kinds)
	t.Logf("%d pushes acknowledged, %d not; %d reads whole, %d not; %d blobs at the end; 0 lost, 0 cut short passed for whole",
		f.pushed, f.unpushed, f.read, f.unread, len(f.blobs))
	if uint64(all) < n/20 {
		t.Errorf("only %d faults in %d operations: the run says nothing", all, n)
	}
	if f.pushed < f.unpushed || f.read < f.unread {
		t.Error("more operations failed than succeeded: requests are not repeated as they should be")
	}
}

func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// content is what noise makes of it.
type content struct {
	size int
	seed byte
}

func (c content) bytes() []byte { return noise(c.size, c.seed) }

// faultRun is a run against a model: which copies there are.
type faultRun struct {
	rand   *rand.Rand
	proxy  *s3test.Proxy
	clean  *store    // on the server itself
	faulty *replicas // through the proxy
	blobs  map[registry.Stored]content

	pushed, unpushed, read, unread int
}

// step does one operation.
func (f *faultRun) step(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	switch k := f.rand.IntN(10); {
	case k < 4 || len(f.blobs) == 0:
		f.push(t, ctx)
	case k < 8:
		f.readOne(t, ctx)
	case k == 8:
		f.list(t, ctx)
	default:
		f.remove(t, ctx)
	}
}

// push pushes a blob in pieces, as a client does that asks where it is after an
// error.
func (f *faultRun) push(t *testing.T, ctx context.Context) {
	c := content{size: f.rand.IntN(600 << 10), seed: byte(f.rand.Uint32())}
	switch f.rand.IntN(20) {
	case 0:
		c.size = 0
	case 1:
		c.size = partSize + f.rand.IntN(partSize)
	}
	data := c.bytes()
	want := registry.SHA256.FromBytes(data)
	u, err := f.faulty.Start(ctx, "", "")
	pieces := f.rand.IntN(4)
	for try := 0; err == nil && try < 8; try++ {
		if pieces > 0 && u.Offset < int64(c.size) {
			pieces--
			n := f.rand.Int64N(int64(c.size)-u.Offset) + 1
			var after registry.Upload
			after, err = f.faulty.Append(ctx, u, bytes.NewReader(data[u.Offset:u.Offset+n]))
			if err == nil && after.Offset != u.Offset+n {
				t.Errorf("Append of %d bytes at %d: got offset %d", n, u.Offset, after.Offset)
			}
			u, err = f.where(ctx, u, after, err)
			continue
		}
		var s registry.Stored
		s, err = f.faulty.Commit(ctx, u, bytes.NewReader(data[u.Offset:]), want)
		if err == nil {
			if s.Size != int64(c.size) || s.Digest != want {
				t.Errorf("Commit: got %+v, want %d bytes of %s", s, c.size, want)
			}
			f.blobs[s] = c
			f.pushed++
			return
		}
		if errors.Is(err, registry.ErrDigestInvalid) {
			t.Errorf("Commit of %d bytes at %d: %v", c.size, u.Offset, err)
		}
		u, err = f.where(ctx, u, u, err)
	}
	f.unpushed++
}

// where returns the upload as it is after a call that returned after and err.
func (f *faultRun) where(ctx context.Context, before, after registry.Upload, err error) (registry.Upload, error) {
	if err == nil {
		return after, nil
	}
	for range 5 {
		var now registry.Upload
		if now, err = f.faulty.Status(ctx, before); err == nil {
			return now, nil
		}
		if errors.Is(err, registry.ErrUploadUnknown) {
			// It may have been published, and only the answer is missing: Commit tells.
			return before, nil
		}
	}
	return before, err
}

// any returns a copy that there is.
func (f *faultRun) any() registry.Stored {
	n := f.rand.IntN(len(f.blobs))
	for s := range f.blobs {
		if n--; n < 0 {
			return s
		}
	}
	panic("unreachable")
}

// readOne reads a part of a blob or all of it.
func (f *faultRun) readOne(t *testing.T, ctx context.Context) {
	s := f.any()
	want := f.blobs[s].bytes()
	r := registry.Whole
	if f.rand.IntN(2) == 0 && s.Size > 0 {
		r.Offset = f.rand.Int64N(s.Size)
		r.Length = f.rand.Int64N(s.Size-r.Offset) + 1
		want = want[r.Offset : r.Offset+r.Length]
	}
	c, err := f.faulty.Open(ctx, s, r)
	if err == nil {
		var got []byte
		got, err = io.ReadAll(c)
		c.Close()
		switch {
		case err == nil && !bytes.Equal(got, want):
			t.Errorf("reading %+v of %+v: %d bytes pass for the %d there are", r, s, len(got), len(want))
		case !bytes.HasPrefix(want, got):
			t.Errorf("reading %+v of %+v: other bytes than were stored", r, s)
		}
	}
	f.known(t, "reading", s, err)
}

// known counts a read, and fails for errors that say that a blob is not there.
func (f *faultRun) known(t *testing.T, what string, s registry.Stored, err error) {
	if errors.Is(err, registry.ErrBlobUnknown) || errors.Is(err, registry.ErrDigestInvalid) || errors.Is(err, registry.ErrRangeInvalid) {
		t.Errorf("%s %+v, which is there: %v", what, s, err)
	}
	if err != nil {
		f.unread++
	} else {
		f.read++
	}
}

func (f *faultRun) list(t *testing.T, ctx context.Context) {
	all, err := f.faulty.Copies(ctx, "", nil, 1000)
	if err == nil {
		f.all(t, all)
	}
	s := f.any()
	f.known(t, "verifying", s, f.faulty.Verify(ctx, s, 0))
}

// all checks that a list has all copies that there are.
func (f *faultRun) all(t *testing.T, list []registry.Stored) {
	listed := map[registry.Stored]bool{}
	for _, s := range list {
		listed[s] = true
	}
	for s := range f.blobs {
		if !listed[s] && len(list) < 1000 {
			t.Errorf("%+v is not in a list of %d", s, len(list))
		}
	}
}

func (f *faultRun) remove(t *testing.T, ctx context.Context) {
	s := f.any()
	delete(f.blobs, s) // whatever comes of it
	if err := f.faulty.Remove(ctx, s); err != nil {
		return
	}
	if c, err := f.clean.Open(ctx, s, registry.Whole); !errors.Is(err, registry.ErrBlobUnknown) {
		if err == nil {
			c.Close()
		}
		t.Errorf("%+v was removed, and is there: %v", s, err)
	}
}

// check looks at everything without faults.
func (f *faultRun) check(t *testing.T) {
	for s := range f.blobs {
		if err := f.clean.Verify(t.Context(), s, 0); err != nil {
			t.Errorf("acknowledged: %+v: %v", s, err)
		}
	}
	var all []registry.Stored
	for after := (*registry.Stored)(nil); ; after = &all[len(all)-1] {
		page, err := f.clean.Copies(t.Context(), "", after, 500)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page...)
		if len(page) < 500 {
			break
		}
	}
	f.all(t, all)
	for finding, err := range f.clean.CheckUploads(t.Context()) {
		if err != nil || finding.Problem != "" {
			t.Errorf("uploads: %v, %v", finding, err)
		}
	}
	for s := range f.blobs { // keeps the run from slowing down
		if len(f.blobs) < 60 {
			break
		}
		delete(f.blobs, s)
		if err := f.clean.Remove(t.Context(), s); err != nil {
			t.Error(fmt.Errorf("removing %+v: %w", s, err))
		}
	}
}
