package gateway

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// TestS105OpenUploads: one user gets no more upload sessions than the limit, whichever
// gateway is asked; others do not notice; what is cancelled, finished or given up frees
// its place.
func TestS105OpenUploads(t *testing.T) {
	const limit = 16
	w := newWorld()
	w.cfg.OpenUploads = limit
	w.deps.Auth = askedBy(func(r *http.Request) (registry.Actor, error) {
		return registry.Actor{ID: r.Header.Get("X-User")}, nil
	})
	gateways := []*Gateway{w.gateway(t), w.gateway(t)}
	var urls []string
	for _, g := range gateways {
		s := httptest.NewServer(g)
		t.Cleanup(s.Close)
		urls = append(urls, s.URL)
	}
	tell := func() {
		t.Helper()
		for _, g := range gateways {
			if err := g.uploads.tell(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	start := func(url, user string) answer {
		t.Helper()
		return do(t, "POST", url+"/v2/a/blobs/uploads/", nil, "X-User: "+user)
	}
	// Of a flood no more gets through than the limit and an eighth for each gateway.
	var open []string // locations
	refused := 0
	for i := range 20 * limit {
		a := start(urls[i%2], "ann")
		switch a.status {
		case http.StatusAccepted:
			open = append(open, a.header.Get("Location"))
		case http.StatusTooManyRequests:
			refused++
			if refused == 1 && (!strings.Contains(a.body, "TOOMANYREQUESTS") || !strings.Contains(a.body, `"limit":16`) || a.header.Get("Retry-After") != "60") {
				t.Errorf("refused with %v %s", a.header, a.body)
			}
		default:
			t.Fatalf("upload %d: got %d %s", i, a.status, a.body)
		}
	}
	if most := limit + 2*(limit/8+1); len(open) < limit || len(open) > most {
		t.Fatalf("%d uploads are open, want %d to %d", len(open), limit, most)
	}
	tell()
	for _, url := range urls {
		start(url, "bob").want(t, http.StatusAccepted)
		start(url, "").want(t, http.StatusAccepted)
		// Neither a mount nor a read needs a place.
		do(t, "GET", url+"/v2/_catalog", nil, "X-User: ann").want(t, http.StatusOK)
	}
	// Also one that the other gateway began, and also a whole blob in one request.
	whole := func(url, user string) answer {
		return do(t, "POST", url+"/v2/a/blobs/uploads/?digest="+registry.SHA256.FromString("x").String(), strings.NewReader("x"), "X-User: "+user)
	}
	whole(urls[0], "ann").want(t, http.StatusTooManyRequests)
	whole(urls[0], "bob").want(t, http.StatusCreated)
	free := len(open) - limit + 4
	for i, loc := range open[:free] {
		url := urls[i%2]
		if i%4 < 2 {
			do(t, "DELETE", url+loc, nil, "X-User: ann").want(t, http.StatusNoContent)
			continue
		}
		d := registry.SHA256.FromString(loc)
		do(t, "PUT", url+loc+"&digest="+d.String(), strings.NewReader(loc), "X-User: ann").want(t, http.StatusCreated)
	}
	tell()
	for _, g := range gateways { // as if the answers had grown old
		g.uploads.mu.Lock()
		clear(g.uploads.clients)
		g.uploads.mu.Unlock()
	}
	for range 4 {
		start(urls[0], "ann").want(t, http.StatusAccepted)
	}
	start(urls[0], "ann").want(t, http.StatusTooManyRequests)
	tell()
	counts, err := w.deps.Catalog.NoteUploads(t.Context(), nil, []string{"user ann", "user bob"})
	if err != nil || counts[0] != limit || counts[1] != 2 {
		t.Errorf("the catalog counts %v (%v), want %d and 2", counts, err, limit)
	}
}

// countedNotes counts what a catalog is told of uploads, or is of an earlier version.
type countedNotes struct {
	registry.OpenUploads
	calls, notes atomic.Int64
	err          atomic.Pointer[registry.Error] // of each call, if not nil
	slow         time.Duration                  // what each call takes
}

func (c *countedNotes) NoteUploads(ctx context.Context, notes []registry.UploadNote, owners []string) ([]int64, error) {
	c.calls.Add(1)
	c.notes.Add(int64(len(notes)))
	time.Sleep(c.slow)
	if err := c.err.Load(); err != nil {
		return nil, err
	}
	return c.OpenUploads.NoteUploads(ctx, notes, owners)
}

func newUploads(limit int) (*openUploads, *countedNotes) {
	to := &countedNotes{OpenUploads: memory.NewCatalog(memory.CatalogOptions{})}
	u := new(openUploads)
	u.init(to, limit, slog.New(slog.NewTextHandler(io.Discard, nil)))
	return u, to
}

// TestOpenUploadsCostNothing: a catalog is asked about a client once, and never told of
// uploads that end within a second.
func TestOpenUploadsCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, to := newUploads(100)
		for range 500 {
			p, err := u.take(t.Context(), "user ann")
			if err != nil {
				t.Fatal(err)
			}
			id := registry.NewUploadID(time.Now())
			p.began(id)
			time.Sleep(time.Millisecond)
			u.ended(id, "user ann")
		}
		time.Sleep(2 * uploadsTold)
		if to.notes.Load() != 0 || to.calls.Load() != 1 {
			t.Errorf("told of %d uploads in %d calls", to.notes.Load(), to.calls.Load())
		}
		u.close(t.Context())
	})
}

// TestOpenUploadsAreTold: what is open for longer is told of, again while it is in use,
// and forgotten by the catalog after a day otherwise.
func TestOpenUploadsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, to := newUploads(2)
		begin := func() (registry.UploadID, error) {
			p, err := u.take(t.Context(), "user ann")
			if err != nil {
				return "", err
			}
			id := registry.NewUploadID(time.Now())
			p.began(id)
			return id, nil
		}
		used, err := begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err = begin(); err != nil {
			t.Fatal(err)
		}
		for range 26 {
			time.Sleep(time.Hour)
			u.used(used, "user ann")
		}
		time.Sleep(2 * uploadsTold)
		if n := to.notes.Load(); n < 26 || n > 30 {
			t.Errorf("told %d times", n)
		}
		if _, err := begin(); err != nil {
			t.Errorf("after a day: %v", err)
		}
		if _, err := begin(); registry.AsError(err).Code != registry.TooManyRequests {
			t.Errorf("beside one in use: got %v", err)
		}
		u.close(t.Context())
		if len(u.waiting) > 0 {
			t.Errorf("%v is not told", u.waiting)
		}
		if _, err := u.take(t.Context(), "user bob"); registry.AsError(err).Code != registry.Unavailable {
			t.Errorf("after the end: got %v", err)
		}
	})
}

// TestOpenUploadsWithoutCount: while the catalog can't be asked nobody gets a place
// beyond those that are known to be free; one of an earlier version limits nobody.
func TestOpenUploadsWithoutCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, to := newUploads(2)
		to.err.Store(registry.ErrUnavailable)
		if _, err := u.take(t.Context(), "user ann"); registry.AsError(err).Code != registry.Unavailable {
			t.Errorf("no count: got %v", err)
		}
		to.err.Store(nil)
		p, err := u.take(t.Context(), "user ann")
		if err != nil {
			t.Fatal(err)
		}
		p.began(registry.NewUploadID(time.Now()))
		to.err.Store(registry.ErrUnavailable)
		time.Sleep(10 * uploadsTold)
		to.err.Store(nil)
		time.Sleep(2 * uploadsTold)
		if n, _ := to.OpenUploads.NoteUploads(t.Context(), nil, []string{"user ann"}); n[0] != 1 {
			t.Errorf("the catalog counts %d uploads", n[0])
		}
		to.err.Store(registry.ErrUnsupported)
		for range 10 {
			p, err := u.take(t.Context(), "user bob")
			if err != nil {
				t.Fatal(err)
			}
			p.began(registry.NewUploadID(time.Now()))
		}
		u.close(t.Context())
	})
}

// TestOpenUploadsThatEndTwice: to say of a session again and again that it has ended
// makes no room for others.
func TestOpenUploadsThatEndTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 16
		u, _ := newUploads(limit)
		gone := registry.NewUploadID(time.Now())
		open := 0
		for range 5 {
			for range 2 * limit {
				u.ended(gone, "user ann")
				if p, err := u.take(t.Context(), "user ann"); err == nil {
					p.began(registry.NewUploadID(time.Now()))
					open++
				}
			}
			time.Sleep(2 * uploadsTold)
		}
		if open != limit {
			t.Errorf("%d uploads are open, want %d", open, limit)
		}
		u.close(t.Context())
	})
}

// TestOpenUploadsMakeRoom: one that ends makes room for another at once.
func TestOpenUploadsMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, _ := newUploads(1)
		for i := range 5 {
			p, err := u.take(t.Context(), "user ann")
			if err != nil {
				t.Fatalf("upload %d: %v", i, err)
			}
			id := registry.NewUploadID(time.Now())
			p.began(id)
			time.Sleep(3 * uploadsTold / 2) // the catalog is told
			if _, err := u.take(t.Context(), "user ann"); registry.AsError(err).Code != registry.TooManyRequests {
				t.Errorf("beside an open one: %v", err)
			}
			u.ended(id, "user ann")
		}
		u.close(t.Context())
	})
}

// TestS105FoundGone: a session that is found gone by whatever request frees its place.
func TestS105FoundGone(t *testing.T) {
	for _, method := range []string{"GET", "PATCH", "PATCH with a range", "PUT", "DELETE"} {
		w := newWorld()
		w.cfg.OpenUploads = 1
		w.deps.Auth = askedBy(func(*http.Request) (registry.Actor, error) { return registry.Actor{ID: "ann"}, nil })
		g := w.gateway(t)
		s := httptest.NewServer(g)
		t.Cleanup(s.Close)
		loc := do(t, "POST", s.URL+"/v2/a/blobs/uploads/", nil).want(t, http.StatusAccepted).header.Get("Location")
		if err := g.uploads.tell(t.Context()); err != nil {
			t.Fatal(err)
		}
		do(t, "POST", s.URL+"/v2/a/blobs/uploads/", nil).want(t, http.StatusTooManyRequests)
		path, _, _ := strings.Cut(loc, "?")
		if err := w.deps.Blobs.Abort(t.Context(), registry.Upload{ID: registry.UploadID(path[strings.LastIndex(path, "/")+1:])}); err != nil {
			t.Fatal(err)
		}
		method, ranged, _ := strings.Cut(method, " ")
		var headers []string
		if ranged != "" {
			headers = []string{"Content-Range: 0-0"}
		}
		do(t, method, s.URL+loc+"&digest="+registry.SHA256.FromString("x").String(), strings.NewReader("x"), headers...).want(t, http.StatusNotFound)
		if a := do(t, "POST", s.URL+"/v2/a/blobs/uploads/", nil); a.status != http.StatusAccepted {
			t.Errorf("after %s %s: %d %s", method, ranged, a.status, a.body)
		}
	}
}

// TestS105LimitComesBack: what ended while there was no limit is not counted when there is
// one again.
func TestS105LimitComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, to := newUploads(2)
		var ids []registry.UploadID
		for range 2 {
			p, err := u.take(t.Context(), "user ann")
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, registry.NewUploadID(time.Now()))
			p.began(ids[len(ids)-1])
		}
		time.Sleep(2 * uploadsTold)
		u.setLimit(0)
		for _, id := range ids {
			u.ended(id, "user ann")
		}
		time.Sleep(2 * uploadsTold)
		u.setLimit(2)
		if _, err := u.take(t.Context(), "user ann"); err != nil {
			t.Errorf("after a time without a limit: %v", err)
		}
		u.close(t.Context())

		never, told := newUploads(0)
		never.ended(registry.NewUploadID(time.Now()), "user ann")
		time.Sleep(2 * uploadsTold)
		if never.close(t.Context()); told.calls.Load() != 0 || to.calls.Load() == 0 {
			t.Errorf("without a limit the catalog is told of the end of uploads")
		}
	})
}

// TestOpenUploadsOfOddNames: a name that no database takes, or that is too long, keeps
// nobody's uploads from being counted.
func TestOpenUploadsOfOddNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, to := newUploads(2)
		long := strings.Repeat("x", registry.MaxUploadOwner)
		var known []string
		for _, name := range []string{"user \xff", "user \x00", long + "y", long + "z", long} {
			p, err := u.take(t.Context(), name)
			if err != nil {
				t.Fatalf("%.10q: %v", name, err)
			}
			id := registry.NewUploadID(time.Now())
			p.began(id)
			time.Sleep(2 * uploadsOld)
			u.used(id, name)
			time.Sleep(2 * uploadsTold)
			known = append(known, uploadOwner(name))
		}
		counts, err := to.OpenUploads.NoteUploads(t.Context(), nil, known)
		if diff := cmp.Diff([]int64{1, 1, 1, 1, 1}, counts); diff != "" || err != nil {
			t.Errorf("counted: %v, -want +got\n%s", err, diff)
		}
		for _, name := range known {
			if !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
				t.Errorf("the catalog is told of %q", name)
			}
		}
		u.close(t.Context())
	})
}

// TestOpenUploadsAskOnce: requests of a new client that come at the same time make one
// question.
func TestOpenUploadsAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, to := newUploads(100)
		to.slow = 10 * time.Millisecond
		var work sync.WaitGroup
		for range 8 {
			work.Go(func() {
				p, err := u.take(t.Context(), "user ann")
				if err != nil {
					t.Error(err)
					return
				}
				p.give()
			})
		}
		work.Wait()
		if n := to.calls.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		u.close(t.Context())
	})
}
