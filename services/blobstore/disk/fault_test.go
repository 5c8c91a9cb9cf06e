package disk

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

// run is one run of the store on a machine that may fail, and what it was told.
type run struct {
	fs      *faultFS
	root    string
	driver  *Driver
	store   *blobstore.Store
	stored  map[registry.Stored][]byte // acknowledged
	commits map[registry.Stored]registry.Upload
	open    map[registry.Upload][]byte // sessions, with all they were sent
	removed []registry.Stored          // or asked to be
	journal map[string][]byte          // acknowledged
	errs    []error
}

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

// openOn opens a store on fs. On the real file system it does not sync: nothing
// is asked of that but what it holds.
func openOn(t *testing.T, root string, boot bootID, fs fsys) (*Driver, *blobstore.Store, error) {
	t.Helper()
	d, err := open(root, Options{Durable: fs != system{}}, fs)
	if err != nil {
		return nil, nil, err
	}
	d.boot = boot
	s, err := blobstore.Open(t.Context(), map[registry.Pool]blobstore.Driver{"": d}, blobstore.Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		d.Close()
	}
	return d, s, err
}

var boot1, boot2 = bootID{1}, bootID{2}

// work does what clients do until something fails, and then on.
func work(t *testing.T, fs *faultFS) *run {
	t.Helper()
	r := &run{
		fs: fs, root: t.TempDir(),
		stored:  make(map[registry.Stored][]byte),
		commits: make(map[registry.Stored]registry.Upload),
		open:    make(map[registry.Upload][]byte),
		journal: make(map[string][]byte),
	}
	var err error
	r.driver, r.store, err = openOn(t, r.root, boot1, fs)
	if err != nil {
		r.errs = append(r.errs, err)
		return r
	}
	defer r.store.Close()
	r.push(t, noise(3000, 1), 1000, 2500)
	r.push(t, noise(2000, 2))
	r.push(t, noise(400_000, 3), 300_000)
	r.leave(t, noise(1500, 4), 500, 1000)
	r.remove(t, noise(2500, 5))
	r.journalize(t, "segment.1", noise(700, 6))
	r.journalize(t, "segment.2", noise(800, 7))
	r.forget(t, "segment.1")
	return r
}

// remove stores data, and removes it as garbage collection does. A removal that
// failed may have taken place.
func (r *run) remove(t *testing.T, data []byte) {
	t.Helper()
	before := len(r.stored)
	r.push(t, data)
	for s, stored := range r.stored {
		if len(r.stored) > before && bytes.Equal(stored, data) {
			r.fail(r.store.Remove(t.Context(), s))
			delete(r.stored, s)
			r.removed = append(r.removed, s)
		}
	}
}

// journalize adds an object to the journal of the catalog, as backups do, too.
func (r *run) journalize(t *testing.T, name string, content []byte) {
	t.Helper()
	if !r.fail(r.store.AppendJournal(t.Context(), name, content)) {
		r.journal[name] = content
	}
}

func (r *run) forget(t *testing.T, name string) {
	t.Helper()
	r.fail(r.store.RemoveJournal(t.Context(), name))
	delete(r.journal, name)
}

func (r *run) fail(err error) bool {
	if err != nil {
		r.errs = append(r.errs, err)
	}
	return err != nil
}

// push stores data, cut at the given places: Appends, and a Commit of the rest.
// An Append that fails is tried once more where the session then is.
func (r *run) push(t *testing.T, data []byte, cuts ...int) {
	t.Helper()
	u, ok := r.send(t, data, cuts...)
	if !ok {
		return
	}
	want := registry.SHA256.FromBytes(data)
	s, err := r.store.Commit(t.Context(), u, bytes.NewReader(data[u.Offset:]), want)
	if r.fail(err) {
		if u, err = r.store.Status(t.Context(), u); r.fail(err) {
			return
		}
		if s, err = r.store.Commit(t.Context(), u, bytes.NewReader(data[u.Offset:]), want); r.fail(err) {
			return
		}
	}
	r.stored[s], r.commits[s] = data, u
}

// leave starts a session and does not end it.
func (r *run) leave(t *testing.T, data []byte, cuts ...int) {
	t.Helper()
	if u, ok := r.send(t, data, cuts...); ok {
		r.open[registry.Upload{ID: u.ID}] = data
	}
}

func (r *run) send(t *testing.T, data []byte, cuts ...int) (registry.Upload, bool) {
	t.Helper()
	u, err := r.store.Start(t.Context(), "", registry.SHA256)
	if r.fail(err) {
		return u, false
	}
	for _, cut := range cuts {
		_, err := r.store.Append(t.Context(), u, bytes.NewReader(data[u.Offset:cut]))
		if !r.fail(err) {
			u.Offset = int64(cut)
			continue
		}
		if u, err = r.store.Status(t.Context(), u); r.fail(err) {
			return u, false
		}
		if u.Offset > int64(cut) {
			t.Errorf("Status tells offset %d after %d bytes", u.Offset, cut)
		}
		if u, err = r.store.Append(t.Context(), u, bytes.NewReader(data[u.Offset:cut])); r.fail(err) {
			return u, false
		}
	}
	return u, true
}

// check opens what is left at root and checks that all that was acknowledged is
// there, and nothing that is wrong.
func (r *run) check(t *testing.T, root string, boot bootID) {
	t.Helper()
	_, s, err := openOn(t, root, boot, system{})
	if err != nil {
		t.Errorf("opening again: %v", err)
		return
	}
	defer s.Close()
	for f, err := range s.CheckUploads(t.Context()) {
		t.Errorf("CheckUploads: %v, %v", f, err)
	}
	for stored, data := range r.stored {
		if err := s.Verify(t.Context(), stored, 0); err != nil {
			t.Errorf("acknowledged blob of %d bytes: %v", len(data), err)
		}
		again, err := s.Commit(t.Context(), r.commits[stored], nil, stored.Digest)
		if err != nil || again != stored {
			t.Errorf("Commit again: got %v, %v, want %v", again, err, stored)
		}
	}
	copies, err := s.Copies(t.Context(), "", nil, 1000)
	if err != nil {
		t.Error(err)
	}
	for _, c := range copies {
		if err := s.Verify(t.Context(), c, 0); err != nil {
			t.Errorf("copy %v: %v", c, err)
		}
	}
	for name, want := range r.journal {
		if got, err := s.ReadJournal(t.Context(), name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("acknowledged object %s of the journal: %d bytes of %d, %v", name, len(got), len(want), err)
		}
	}
	names, err := s.ListJournal(t.Context(), "", 1000)
	if err != nil {
		t.Error(err)
	}
	for _, name := range names { // none passes for whole that is not
		if _, err := s.ReadJournal(t.Context(), name); err != nil {
			t.Errorf("object %s of the journal: %v", name, err)
		}
	}
	for u, data := range r.open {
		u, err := s.Status(t.Context(), u)
		if errors.Is(err, registry.ErrUploadUnknown) {
			continue // its name was not synced
		}
		if err != nil || u.Offset > int64(len(data)) {
			t.Errorf("session: offset %d of %d sent, %v", u.Offset, len(data), err)
			continue
		}
		stored, err := s.Commit(t.Context(), u, bytes.NewReader(data[u.Offset:]), registry.SHA256.FromBytes(data))
		if err != nil {
			t.Errorf("session went on at %d: %v", u.Offset, err)
			continue
		}
		if err := s.Verify(t.Context(), stored, 0); err != nil {
			t.Errorf("session went on at %d: %v", u.Offset, err)
		}
	}
}

// waysToFail are the ways in which a step fails, or all from one on.
var waysToFail = map[string]func(n int) func(int, string) outcome{
	"EIO once":     once(outcome{err: syscall.EIO}),
	"EIO ever":     ever(outcome{err: syscall.EIO}),
	"half, EIO":    once(outcome{err: syscall.EIO, half: true}),
	"ENOSPC once":  once(outcome{err: syscall.ENOSPC, half: true}),
	"ENOSPC ever":  ever(outcome{err: syscall.ENOSPC, half: true}),
	"EDQUOT once":  once(outcome{err: syscall.EDQUOT}),
	"EMFILE once":  once(outcome{err: syscall.EMFILE}),
	"EROFS ever":   ever(outcome{err: syscall.EROFS}),
	"machine ends": once(outcome{crash: true}),
}

// TestG3G4EveryStepFails lets every call that changes the disk fail in turn, in each
// way, and looks at what is left after the process or the machine has ended.
func TestG3G4EveryStepFails(t *testing.T) {
	whole := newFaultFS()
	r := work(t, whole)
	if len(r.errs) > 0 || len(r.stored) != 3 || len(r.open) != 1 || len(r.removed) != 1 || len(r.journal) != 1 {
		t.Fatalf("without a fault: %v", r.errs)
	}
	t.Logf("%d steps: %s", whole.steps, strings.Join(whole.log, " "))

	for name, at := range waysToFail {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			for n := range whole.steps {
				t.Run(fmt.Sprintf("%d_%s", n, whole.log[n]), func(t *testing.T) {
					fs := newFaultFS()
					fs.fault = at(n)
					r := work(t, fs)
					r.checkErrors(t, name, whole.log[n])
					lost := fs.powerLoss(t, r.root)
					r.check(t, r.root, boot1)
					r.check(t, lost, boot2)
				})
			}
		})
	}
}

func once(o outcome) func(int) func(int, string) outcome {
	return func(at int) func(int, string) outcome {
		return func(n int, _ string) outcome {
			if n == at {
				return o
			}
			return outcome{}
		}
	}
}

func ever(o outcome) func(int) func(int, string) outcome {
	return func(at int) func(int, string) outcome {
		return func(n int, _ string) outcome {
			if n >= at {
				return o
			}
			return outcome{}
		}
	}
}

// checkErrors checks that callers were told what they can do about a fault.
func (r *run) checkErrors(t *testing.T, fault, op string) {
	t.Helper()
	if r.store == nil {
		return
	}
	h, err := r.store.Check(t.Context())
	if err != nil {
		t.Error(err)
	}
	latched := h.ReadOnly != ""
	synced := strings.HasPrefix(op, "sync")
	if once := strings.HasSuffix(fault, "once"); once && latched != (synced && fault != "ENOSPC once" && fault != "EDQUOT once" && fault != "EMFILE once") {
		t.Errorf("read-only is %q after %s at %s", h.ReadOnly, fault, op)
	}
	for _, err := range r.errs {
		switch {
		case strings.HasPrefix(fault, "ENOSPC") || strings.HasPrefix(fault, "EDQUOT"):
			if !errors.Is(err, registry.ErrStorageFull) && !errors.Is(err, registry.ErrUploadUnknown) {
				t.Errorf("%s at %s: got %v", fault, op, err)
			}
		case strings.HasPrefix(fault, "EMFILE") && !latched, strings.HasPrefix(fault, "EROFS"):
			if !errors.Is(err, registry.ErrUnavailable) && !errors.Is(err, registry.ErrUploadUnknown) {
				t.Errorf("%s at %s: got %v", fault, op, err)
			}
		}
	}
}

// TestOrderOfAcknowledgement pins what a small Commit does, and that it does no
// more.
func TestOrderOfAcknowledgement(t *testing.T) {
	fs := newFaultFS()
	_, s, err := openOn(t, t.TempDir(), boot1, fs)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := noise(1000, 1)
	push := func() {
		u, err := s.Start(t.Context(), "", registry.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Commit(t.Context(), u, bytes.NewReader(data), registry.SHA256.FromBytes(data)); err != nil {
			t.Fatal(err)
		}
	}
	push()
	before := len(fs.since(0))
	push()
	if got, want := strings.Join(fs.since(before), " "), "create write sync rename syncDir"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
