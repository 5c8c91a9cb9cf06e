package gateway

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/berth-registry/berth/registry"
)

const (
	// uploadsTold is how long an upload session may be open before the catalog is told.
	// Most end sooner, and cost it nothing.
	uploadsTold = time.Second
	// uploadsCounted is for how long the catalog's count of a client is good, and
	// uploadsRefused for how long a client is refused by one.
	uploadsCounted, uploadsRefused = time.Minute, time.Second
	// uploadsOld is the age from which on the catalog is told of a session again that
	// is in use: it forgets those that it does not hear of.
	uploadsOld = time.Hour
	// uploadsRoom is how many clients are remembered, and how many sessions wait to be
	// told of.
	uploadsRoom = 64 << 10
	// uploadsRetry is when it makes sense to ask again.
	uploadsRetry = time.Minute
)

// openUploads limits how many upload sessions a client has begun and not ended; see
// clientOf. The catalog counts them over all gateways. It is told each second of those
// that began and are open still, and at once if a client has begun more than an
// eighth of the limit since. So each gateway may let in an eighth too many.
type openUploads struct {
	to    registry.OpenUploads
	log   *slog.Logger
	now   func() time.Time
	limit atomic.Int64 // 0: none
	// counts is set when there was a limit, so that the catalog may know of sessions: it
	// hears of their end although there is none any more.
	counts atomic.Bool

	telling chan struct{} // holds an element while the catalog is told
	told    sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	clients map[string]*uploader
	waiting map[registry.UploadID]uploadNote
	timer   *time.Timer // runs while something waits
	swept   time.Time   // when clients were forgotten
	closed  bool
}

// uploader is a client with uploads.
type uploader struct {
	recorded int64     // how many the catalog counted
	counted  time.Time // when it did
	fresh    int64     // begun here, and the catalog was not told yet
	fewer    bool      // one ended since, or was found gone: there may be fewer
}

// uploadNote is what the catalog is to be told of a session.
type uploadNote struct {
	owner string // "": it has ended
	fresh bool   // one of its owner's fresh ones
}

func (u *openUploads) init(to registry.OpenUploads, limit int, log *slog.Logger) {
	u.to, u.log, u.now = to, log, time.Now
	u.setLimit(limit)
	u.telling = make(chan struct{}, 1)
	u.clients = make(map[string]*uploader)
	u.waiting = make(map[registry.UploadID]uploadNote)
}

// setLimit has another limit hold from now on. What was begun while there was none is not
// counted.
func (u *openUploads) setLimit(limit int) {
	u.limit.Store(int64(limit))
	if limit > 0 {
		u.counts.Store(true)
	}
}

// uploadPlace is the place of a session that is being opened. nil is one that nobody
// counts.
type uploadPlace struct {
	u      *openUploads
	client string
}

// take takes a place for one more session of a client, or returns
// [registry.ErrTooManyRequests]. began or give is due.
func (u *openUploads) take(ctx context.Context, client string) (*uploadPlace, error) {
	limit := u.limit.Load()
	if limit <= 0 || client == "" {
		return nil, nil //nolint:nilnil // its methods may be called
	}
	client = uploadOwner(client)
	since := u.now()
	for asked := false; ; asked = true {
		place, open, err := u.taken(client, limit, asked)
		if place != nil || err != nil {
			return place, err
		}
		if open {
			return nil, registry.ErrTooManyRequests.
				With("this client has %d uploads open already (http.openUploads): finish or cancel some; one that nobody touches ends after a day", limit).
				Detailed(map[string]int64{"limit": limit}).After(uploadsRetry)
		}
		if err := u.ask(ctx, client, since); err != nil {
			return nil, doing("counting uploads", err)
		}
	}
}

// uploadOwner returns the words by which the catalog knows a client: what databases
// take as text of a bounded length.
func uploadOwner(client string) string {
	if len(client) <= registry.MaxUploadOwner && utf8.ValidString(client) && !strings.ContainsRune(client, 0) {
		return client
	}
	return string(registry.SHA256.FromString(client))
}

// taken takes a place by what is known of a client. Without one it says whether there
// are as many open as may be; if not, the catalog has to be asked.
func (u *openUploads) taken(client string, limit int64, asked bool) (p *uploadPlace, full bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil, false, registry.ErrUnavailable
	}
	c, age := u.clients[client], time.Duration(0)
	if c != nil {
		age = u.now().Sub(c.counted)
	}
	switch {
	case c == nil || age >= uploadsCounted && !asked:
		return nil, false, nil
	case c.recorded+c.fresh >= limit:
		return nil, asked || age < uploadsRefused && !c.fewer, nil
	case c.fresh > limit/8 && !asked:
		return nil, false, nil
	}
	c.fresh++
	return &uploadPlace{u, client}, false, nil
}

// began says which session has the place.
func (p *uploadPlace) began(id registry.UploadID) {
	if p == nil {
		return
	}
	p.u.mu.Lock()
	defer p.u.mu.Unlock()
	p.u.note(id, uploadNote{p.client, true})
}

// give gives the place back: there is no session.
func (p *uploadPlace) give() {
	if p == nil {
		return
	}
	p.u.mu.Lock()
	defer p.u.mu.Unlock()
	p.u.clients[p.client].fresh--
}

// used says that a session is in use.
func (u *openUploads) used(id registry.UploadID, client string) {
	if u.limit.Load() <= 0 || client == "" || u.now().Sub(id.Time()) < uploadsOld {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.waiting[id]; !ok {
		u.note(id, uploadNote{uploadOwner(client), false})
	}
}

// ended says that a session is not open any more. It may be said of one again and
// again: only the catalog knows whether there are fewer.
func (u *openUploads) ended(id registry.UploadID, client string) {
	if !u.counts.Load() || client == "" {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if n := u.waiting[id]; n.fresh { // nobody was told that it began
		delete(u.waiting, id)
		u.clients[n.owner].fresh--
		return
	}
	if c := u.clients[uploadOwner(client)]; c != nil {
		c.fewer = true
	}
	u.note(id, uploadNote{})
}

// note has the catalog told soon. u.mu must be held.
func (u *openUploads) note(id registry.UploadID, n uploadNote) {
	if !n.fresh && len(u.waiting) >= uploadsRoom {
		return // it is forgotten after a day
	}
	id = registry.UploadID(strings.Clone(string(id))) // not a part of the request
	u.waiting[id] = n
	u.wake()
}

// wake has the catalog told of what waits. u.mu must be held.
func (u *openUploads) wake() {
	if u.timer != nil || u.closed {
		return
	}
	u.told.Add(1)
	u.timer = time.AfterFunc(uploadsTold, func() {
		defer u.told.Done()
		u.mu.Lock()
		u.timer = nil
		u.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), pullsTime)
		defer cancel()
		if err := u.tell(ctx); err != nil && ctx.Err() == nil && registry.AsError(err).Code.Kind() != registry.Passing {
			u.log.Warn("telling of open uploads", "error", err)
		}
	})
}

// tell tells the catalog of what waits, or as much of it as it takes at a time, and
// asks how many sessions those have whom it was told of.
func (u *openUploads) tell(ctx context.Context) error {
	select {
	case u.telling <- struct{}{}:
		defer func() { <-u.telling }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return u.send(ctx, "")
}

// ask does that, too, and asks for a client, unless that was done since: its requests
// come several at a time, and the first one asks for all.
func (u *openUploads) ask(ctx context.Context, client string, since time.Time) error {
	select {
	case u.telling <- struct{}{}:
		defer func() { <-u.telling }()
	case <-ctx.Done():
		return ctx.Err()
	}
	u.mu.Lock()
	c := u.clients[client]
	done := c != nil && c.counted.After(since)
	u.mu.Unlock()
	if done {
		return nil
	}
	return u.send(ctx, client)
}

// send does what tell and ask are for. The caller has put an element into u.telling.
func (u *openUploads) send(ctx context.Context, client string) error {
	notes, sent, owners := u.next(client)
	if len(notes) == 0 && len(owners) == 0 {
		return nil
	}
	counts, err := u.to.NoteUploads(ctx, notes, owners)
	if errors.Is(err, registry.ErrUnsupported) { // a catalog of an earlier version does not count
		counts, err = make([]int64, len(owners)), nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		for id, n := range sent {
			if later, ok := u.waiting[id]; !ok || n.fresh && later.owner != "" {
				u.waiting[id] = n
			} else if n.fresh {
				u.clients[n.owner].fresh--
			}
		}
	} else {
		for _, n := range sent {
			if n.fresh {
				u.clients[n.owner].fresh--
			}
		}
		now := u.now()
		for i, o := range owners {
			c := u.clients[o]
			if c == nil {
				c = new(uploader)
				u.clients[o] = c
			}
			c.recorded, c.counted, c.fewer = counts[i], now, false
		}
	}
	u.forget()
	if len(u.waiting) > 0 {
		u.wake()
	}
	return err
}

// next takes notes from those that wait.
func (u *openUploads) next(client string) (notes []registry.UploadNote, sent map[registry.UploadID]uploadNote, owners []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	sent = make(map[registry.UploadID]uploadNote, len(u.waiting))
	asked := make(map[string]bool)
	ask := func(owner string) {
		if owner != "" && !asked[owner] {
			asked[owner] = true
			owners = append(owners, owner)
		}
	}
	ask(client)
	for id, n := range u.waiting {
		if len(notes) == registry.MaxUploadNotes || len(owners) == registry.MaxUploadNotes {
			break
		}
		ask(n.owner)
		notes = append(notes, registry.UploadNote{ID: id, Owner: n.owner})
		sent[id] = n
		delete(u.waiting, id)
	}
	return notes, sent, owners
}

// forget drops clients whose count is too old to go by, and any if there are too many.
// u.mu must be held.
func (u *openUploads) forget() {
	now := u.now()
	if now.Sub(u.swept) < uploadsTold {
		return
	}
	u.swept = now
	old := now.Add(-uploadsCounted)
	for name, c := range u.clients {
		if c.fresh == 0 && (c.counted.Before(old) || len(u.clients) > uploadsRoom) {
			delete(u.clients, name)
		}
	}
}

// close tells the catalog of what waits, but not longer than ctx lives. Nobody gets a
// place from then on.
func (u *openUploads) close(ctx context.Context) {
	u.mu.Lock()
	u.closed = true
	if u.timer != nil && u.timer.Stop() {
		u.told.Done()
	}
	u.timer = nil
	u.mu.Unlock()
	u.told.Wait()
	for left := -1; ; {
		u.mu.Lock()
		now := len(u.waiting)
		u.mu.Unlock()
		if now == 0 || now == left {
			return
		}
		left = now
		if err := u.tell(ctx); err != nil {
			return // they are forgotten after a day
		}
	}
}
