package metadata

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata/sqlite"
)

var errLooked = errors.New("somebody looked for a layout")

// lookedAt is a blobstore that tells by an error that it was asked.
type lookedAt struct{ LayoutBlobs }

func (lookedAt) LayoutStamp(context.Context, registry.Pool, registry.Name) (string, error) {
	return "", errLooked
}

func (lookedAt) Layouts(context.Context, registry.Pool) iter.Seq2[registry.Name, error] {
	return func(yield func(registry.Name, error) bool) {}
}

// openHere opens a catalog on SQLite until the end of the test.
func openHere(t *testing.T) (*sqldb.DB, *Catalog) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	c, err := Open(t.Context(), db, nil, Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return db, c
}

// readNothing are methods that name a repository and do not read what is in it: they
// answer from the rules, list names from one on, or what was announced.
var readNothing = []string{"Allowed", "ExplainAccess", "Repositories", "TakeOvers", "Announced"}

// TestServiceTakesOverFirst calls each method of the port that names a repository:
// it must have the repository taken over before it does anything.
func TestServiceTakesOverFirst(t *testing.T) {
	db, c := openHere(t)
	s := &Service{Catalog: c, DB: db, takeover: newTakeover(t.Context(), c, lookedAt{})}
	port, name := reflect.TypeFor[registry.Catalog](), reflect.TypeFor[registry.Name]()
	n := 0
	for i := range port.NumMethod() {
		m := reflect.ValueOf(s).MethodByName(port.Method(i).Name)
		args := []reflect.Value{reflect.ValueOf(t.Context())}
		names := 0
		for j := 1; j < m.Type().NumIn(); j++ {
			arg := reflect.New(m.Type().In(j)).Elem()
			if arg.Type() == name {
				arg.SetString("a")
				names++
			}
			for k := 0; arg.Kind() == reflect.Struct && k < arg.NumField(); k++ { // of a query
				if f := arg.Field(k); f.Type() == name {
					f.SetString("a")
					names++
				}
			}
			args = append(args, arg)
		}
		if names == 0 || slices.Contains(readNothing, port.Method(i).Name) {
			continue
		}
		n++
		out := m.Call(args)
		if err, _ := out[len(out)-1].Interface().(error); !errors.Is(err, errLooked) {
			t.Errorf("%s: got %v: it is not among the methods of Service that take over first", port.Method(i).Name, err)
		}
	}
	if n < 12 {
		t.Errorf("only %d methods", n)
	}
	// Once all is taken over nobody is asked.
	s.takeover.start()
	s.takeover.work.Wait()
	if _, err := s.Tags(t.Context(), registry.Actor{}, "a", registry.Page[registry.Tag]{Limit: 1}); !errors.Is(err, registry.ErrNameUnknown) {
		t.Errorf("got %v", err)
	}
	s.takeover.close()
}

// layoutHost is a blobstore of another process with the layout of repository a.
type layoutHost struct {
	LayoutBlobs
	down  atomic.Bool
	looks atomic.Int32
}

func (h *layoutHost) Layouts(context.Context, registry.Pool) iter.Seq2[registry.Name, error] {
	return func(yield func(registry.Name, error) bool) {
		if h.looks.Add(1) < 3 || h.down.Load() {
			yield("", registry.ErrUnavailable)
			return
		}
		yield("a", nil)
	}
}

func (h *layoutHost) LayoutStamp(_ context.Context, _ registry.Pool, repo registry.Name) (string, error) {
	switch {
	case h.down.Load():
		return "", registry.ErrUnavailable
	case repo != "a":
		return "", registry.ErrNameUnknown
	}
	return "1", nil
}

func (h *layoutHost) LayoutIndex(context.Context, registry.Pool, registry.Name) ([]byte, error) {
	if h.looks.Add(1) < 6 {
		return nil, registry.ErrUnavailable
	}
	return []byte(`{"schemaVersion":2,"manifests":[]}`), nil
}

func (h *layoutHost) LayoutCopies(context.Context, registry.Pool, registry.Name, []registry.Digest) ([]registry.LayoutCopy, error) {
	return nil, nil
}

// A blobstore that is another process may start after the catalog, and end and come
// back: what is in the catalog is served meanwhile, and the take-over goes on.
func TestTakeoverWaitsForTheBlobstore(t *testing.T) {
	db, c := openHere(t)
	body := []byte(`{"schemaVersion":2,"mediaType":"` + registry.TypeIndex + `","manifests":[]}`)
	m := registry.ManifestPut{Digest: registry.SHA256.FromBytes(body), MediaType: registry.TypeIndex, Bytes: body, Tags: []registry.Tag{"v1"}}
	if _, err := c.PutManifest(t.Context(), registry.Actor{}, "known", m); err != nil {
		t.Fatal(err)
	}
	host := new(layoutHost)
	host.down.Store(true)
	s := &Service{Catalog: c, DB: db, takeover: newTakeover(t.Context(), c, host)}
	defer s.takeover.close()
	s.takeover.pause = time.Millisecond
	page := registry.Page[registry.Tag]{Limit: 1}
	if _, err := s.Tags(t.Context(), registry.Actor{}, "known", page); err != nil {
		t.Errorf("a repository of the catalog while the blobstore is away: %v", err)
	}
	if _, err := s.Tags(t.Context(), registry.Actor{}, "a", page); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("a repository that may have to be taken over, while the blobstore is away: %v", err)
	}
	host.down.Store(false)
	s.takeover.start()
	s.takeover.work.Wait()
	if !s.takeover.idle.Load() {
		t.Error("the take-over has not ended")
	}
	old, err := c.readAdoption(t.Context(), "a")
	if err != nil || old.state != adoptionDone {
		t.Errorf("state %d, %v: want that it is done", old.state, err)
	}
}

// Of two processes that take over one is told by the catalog what the other has done.
func TestTakeoversOfTwoProcesses(t *testing.T) {
	db, c := openHere(t)
	host := new(layoutHost)
	host.looks.Store(9)
	s := &Service{Catalog: c, DB: db, takeover: newTakeover(t.Context(), c, host)}
	defer s.takeover.close()
	states := func() (all []string) {
		list, err := s.TakeOvers(t.Context(), registry.Actor{System: true}, registry.Page[registry.Name]{Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range list.Items {
			all = append(all, string(x.Repo)+" "+x.State)
		}
		return all
	}
	s.takeover.patience = time.Millisecond
	if list, err := s.TakeOvers(t.Context(), registry.Actor{System: true}, registry.Page[registry.Name]{Limit: 10}); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("before it was looked for them: %v, %v; an empty list would say that nothing waits", list.Items, err)
	}
	if _, err := s.takeover.walk(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a waits"}, states()); diff != "" {
		t.Error(diff)
	}
	if _, err := c.takeOver(t.Context(), host, "a"); err != nil { // the other process
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a taken"}, states()); diff != "" {
		t.Error(diff)
	}
}
