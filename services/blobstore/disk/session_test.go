package disk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

// TestResume looks at sessions after the end of the process or of the machine.
func TestResume(t *testing.T) {
	data := noise(3000, 1)
	flip := func(at int64) func(*testing.T, *Driver, registry.UploadID) {
		return func(t *testing.T, d *Driver, id registry.UploadID) {
			f, err := os.OpenFile(d.uploadPath(id), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte{^data[at]}, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	cut := func(size int64) func(*testing.T, *Driver, registry.UploadID) {
		return func(t *testing.T, d *Driver, id registry.UploadID) {
			if err := os.Truncate(d.uploadPath(id), size); err != nil {
				t.Fatal(err)
			}
		}
	}
	none := func(*testing.T, *Driver, registry.UploadID) {}
	// 1,000 bytes are synced, 2,000 written, and 500 more arrived.
	tests := map[string]struct {
		damage func(*testing.T, *Driver, registry.UploadID)
		boot   bootID
		want   int64
	}{
		"process ended":                         {none, boot1, 2000},
		"machine rebooted":                      {none, boot2, 1000},
		"bytes changed behind the sync":         {flip(1500), boot1, 1000},
		"bytes missing behind the sync":         {cut(1800), boot1, 1000},
		"bytes changed behind what was claimed": {flip(2200), boot1, 2000},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root, fs := t.TempDir(), newFaultFS()
			_, s, err := openOn(t, root, boot1, fs)
			if err != nil {
				t.Fatal(err)
			}
			u, err := s.Start(t.Context(), "", registry.SHA512)
			if err != nil {
				t.Fatal(err)
			}
			u, err = s.Append(t.Context(), u, bytes.NewReader(data[:1000]))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil { // syncs
				t.Fatal(err)
			}
			d, s, err := openOn(t, root, boot1, fs)
			if err != nil {
				t.Fatal(err)
			}
			u, err = s.Append(t.Context(), u, bytes.NewReader(data[1000:2000]))
			if err != nil {
				t.Fatal(err)
			}
			fs.crash()
			s.Close()
			f, err := os.OpenFile(d.uploadPath(u.ID), os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write(data[2000:2500]); err != nil {
				t.Fatal(err)
			}
			f.Close()
			tt.damage(t, d, u.ID)

			_, s, err = openOn(t, root, tt.boot, newFaultFS())
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if u, err = s.Status(t.Context(), u); err != nil || u.Offset != tt.want {
				t.Fatalf("got offset %d, %v, want %d", u.Offset, err, tt.want)
			}
			// Fewer bytes than lay behind the offset: none of those may stay.
			whole := data[:u.Offset+100]
			stored, err := s.Commit(t.Context(), u, bytes.NewReader(whole[u.Offset:]), registry.SHA512.FromBytes(whole))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Verify(t.Context(), stored, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCheckUploads(t *testing.T) {
	root := t.TempDir()
	d, s, err := openOn(t, root, boot1, newFaultFS())
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]registry.UploadID, 0, 3)
	for range 3 {
		u, err := s.Start(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(t.Context(), u, bytes.NewReader(noise(1000, 1))); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, u.ID)
	}
	s.Close()
	if err := os.Truncate(d.uploadPath(ids[0]), 10); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.statePath(ids[1]), bytes.Repeat([]byte("x"), stateSize), 0o600); err != nil {
		t.Fatal(err)
	}
	_, s, err = openOn(t, root, boot1, system{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var problems []string
	for f, err := range s.CheckUploads(t.Context()) {
		if err != nil || f.Invariant != "I9" {
			t.Errorf("got %v, %v", f, err)
		}
		problems = append(problems, f.Problem)
	}
	if len(problems) != 2 {
		t.Errorf("got %q, want two problems", problems)
	}
}

// clockStore is a store whose wall clock starts now, though time in the bubble
// of a test does not.
func clockStore(t *testing.T, fs fsys) (*Driver, *blobstore.Store) {
	t.Helper()
	d, err := open(t.TempDir(), Options{Durable: true}, fs)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(d.home)
	if err != nil {
		t.Fatal(err)
	}
	wall, start := info.ModTime(), time.Now()
	s, err := blobstore.Open(t.Context(), map[registry.Pool]blobstore.Driver{"": d}, blobstore.Options{
		Now: func() time.Time { return wall.Add(time.Since(start)) },
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return d, s
}

func TestUntouchedSessionsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, s := clockStore(t, newFaultFS())
		defer s.Close()
		left, err := s.Start(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		left, err = s.Append(t.Context(), left, bytes.NewReader(noise(1000, 1)))
		if err != nil {
			t.Fatal(err)
		}
		touched, err := s.Start(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		orphan := registry.NewUploadID(time.Now())
		if err := os.WriteFile(d.statePath(orphan), nil, 0o600); err != nil {
			t.Fatal(err)
		}

		time.Sleep(23 * time.Hour)
		if _, err := s.Status(t.Context(), left); err != nil {
			t.Errorf("after 23 h: %v", err)
		}
		info, err := os.Stat(d.home)
		if err != nil {
			t.Fatal(err)
		}
		at := info.ModTime().Add(23 * time.Hour)
		if err := os.Chtimes(d.uploadPath(touched.ID), at, at); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if _, err := s.Status(t.Context(), left); !errors.Is(err, registry.ErrUploadUnknown) {
			t.Errorf("untouched for 26 h: got %v, want ErrUploadUnknown", err)
		}
		if _, err := s.Status(t.Context(), touched); err != nil {
			t.Errorf("touched 3 h ago: %v", err)
		}
		entries, err := os.ReadDir(d.uploads)
		if err != nil || len(entries) != 1 {
			t.Errorf("%d files are left, %v; want one", len(entries), err)
		}
	})
}

// TestOneUploadThatStays can't remove the first of the sessions that expired: the others
// go all the same.
func TestOneUploadThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newFaultFS()
		var armed, failed atomic.Bool
		fs.fault = func(_ int, op string) outcome {
			if op == "remove" && armed.Load() && !failed.Swap(true) {
				return outcome{err: syscall.EIO}
			}
			return outcome{}
		}
		d, s := clockStore(t, fs)
		defer s.Close()
		for range 3 {
			if _, err := s.Start(t.Context(), "", ""); err != nil {
				t.Fatal(err)
			}
		}
		armed.Store(true)
		left := func() int {
			synctest.Wait()
			entries, err := os.ReadDir(d.uploads)
			if err != nil {
				t.Fatal(err)
			}
			return len(entries)
		}
		time.Sleep(24*time.Hour + 30*time.Minute)
		if n := left(); n != 1 || !failed.Load() {
			t.Errorf("%d uploads are left, one of which can't be removed", n)
		}
		time.Sleep(time.Hour)
		if n := left(); n != 0 {
			t.Errorf("%d uploads are left an hour later", n)
		}
	})
}

// TestIdleSessionIsSynced leaves a session alone: after 5 s its bytes are safe
// and its file is closed, and it goes on from there.
func TestIdleSessionIsSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := newFaultFS()
		d, s := clockStore(t, fs)
		defer s.Close()
		data := noise(2000, 1)
		u, err := s.Start(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		u, err = s.Append(t.Context(), u, bytes.NewReader(data[:1000]))
		if err != nil {
			t.Fatal(err)
		}
		before := len(fs.since(0))
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if early := fs.since(before); len(early) > 0 {
			t.Errorf("synced early: %v", early)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		_, r, err := d.Resume(t.Context(), u.ID, -1)
		if err != nil || r.Safe.Offset != 1000 {
			t.Errorf("got %d bytes safe, %v, want 1000", r.Safe.Offset, err)
		}
		if _, err := s.Commit(t.Context(), u, bytes.NewReader(data[1000:]), registry.SHA256.FromBytes(data)); err != nil {
			t.Error(err)
		}
	})
}

// TestStatusWhileAppending asks for the offset while bytes arrive.
func TestStatusWhileAppending(t *testing.T) {
	_, s, err := openOn(t, t.TempDir(), boot1, system{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	u, err := s.Start(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	pr, pw := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := s.Append(context.WithoutCancel(t.Context()), u, pr)
		ended <- err
	}()
	data := noise(1<<20, 1)
	if _, err := pw.Write(data); err != nil {
		t.Fatal(err)
	}
	if now, err := s.Status(t.Context(), u); err != nil || now.Offset == 0 || now.Offset > 1<<20 {
		t.Errorf("Status after 1 MiB: %d, %v", now.Offset, err)
	}
	_, err = s.Append(t.Context(), u, bytes.NewReader(nil))
	if !errors.Is(err, registry.ErrRangeInvalid) {
		t.Errorf("a second Append: got %v, want ErrRangeInvalid", err)
	}
	if err := s.Abort(t.Context(), u); !errors.Is(err, registry.ErrRangeInvalid) {
		t.Errorf("Abort meanwhile: got %v, want ErrRangeInvalid", err)
	}
	pw.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if now, err := s.Status(t.Context(), u); err != nil || now.Offset != 1<<20 {
		t.Errorf("Status at the end: %d, %v", now.Offset, err)
	}
}

// TestManySessions opens more sessions than stay open, and goes on with each.
func TestManySessions(t *testing.T) {
	_, s, err := openOn(t, t.TempDir(), boot1, newFaultFS())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := noise(20, 1)
	var all []registry.Upload
	for range 600 {
		u, err := s.Start(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		u, err = s.Append(t.Context(), u, bytes.NewReader(data[:10]))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	// They are closed in the background.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil || len(files) <= 600 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d files are open", len(files))
		}
	}
	for _, u := range all {
		if _, err := s.Commit(t.Context(), u, bytes.NewReader(data[10:]), registry.SHA256.FromBytes(data)); err != nil {
			t.Fatal(err)
		}
	}
}
