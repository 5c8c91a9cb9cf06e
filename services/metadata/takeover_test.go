package metadata

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"reflect"
	"testing"

	"github.com/berth-registry/berth/registry"
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

// TestServiceTakesOverFirst calls each method of the port that names a repository:
// it must have the repository taken over before it does anything.
func TestServiceTakesOverFirst(t *testing.T) {
	db, err := sqlite.Open(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c, err := Open(t.Context(), db, nil, Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
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
			args = append(args, arg)
		}
		if names == 0 || port.Method(i).Name == "Allowed" { // which reads nothing
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
