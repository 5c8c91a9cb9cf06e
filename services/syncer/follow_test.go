package syncer_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// fileTaker is a writer that takes files, as a connection does.
type fileTaker struct {
	bytes.Buffer
	files, others int
	begun         func()
}

func (f *fileTaker) ReadFrom(r io.Reader) (int64, error) {
	from := r
	if lr, ok := r.(*io.LimitedReader); ok {
		from = lr.R
	}
	if _, ok := from.(*os.File); ok {
		f.files++
	} else {
		f.others++
	}
	if f.files+f.others == 1 {
		f.begun()
	}
	return f.Buffer.ReadFrom(r)
}

// TestReadersGiveTheirFile: whoever sends what is being fetched gets a file, so that the
// kernel may copy; each reader has an offset of its own.
func TestReadersGiveTheirFile(t *testing.T) {
	up := newHostile(t)
	layer := random(3 << 20)
	up.image(t, "a", "v1", layer)
	w := open(t, at(t, up.URL))
	up.set(func() { up.hold = make(chan struct{}) })
	hold := up.hold
	var readers, begun sync.WaitGroup
	for i := range 8 {
		r := registry.Range{Offset: int64(i * 1000), Length: -1}
		c, err := w.Open(t.Context(), nobody, "a", registry.SHA256.FromBytes(layer), r)
		if err != nil {
			t.Fatal(err)
		}
		begun.Add(1)
		readers.Go(func() {
			to := fileTaker{begun: begun.Done}
			_, err := io.Copy(&to, c)
			if err = errors.Join(err, c.Close()); err != nil || !bytes.Equal(to.Bytes(), layer[r.Offset:]) {
				t.Errorf("from %d: %d bytes, %v", r.Offset, to.Len(), err)
			}
			if to.files == 0 || to.others > 0 {
				t.Errorf("from %d: %d files and %d other readers", r.Offset, to.files, to.others)
			}
		})
	}
	begun.Wait()
	close(hold)
	readers.Wait()
}
