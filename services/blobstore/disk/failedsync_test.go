package disk

import (
	"bytes"
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// TestG5ReadOnlyAfterFailedSync checks the latch in detail.
func TestG5ReadOnlyAfterFailedSync(t *testing.T) {
	fs := newFaultFS()
	_, s, err := openOn(t, t.TempDir(), boot1, fs)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := noise(1000, 1)
	want := registry.SHA256.FromBytes(data)
	push := func() (registry.Stored, registry.Upload, error) {
		u, err := s.Start(t.Context(), "", registry.SHA256)
		if err != nil {
			return registry.Stored{}, u, err
		}
		stored, err := s.Commit(t.Context(), u, bytes.NewReader(data), want)
		return stored, u, err
	}
	good, _, err := push()
	if err != nil {
		t.Fatal(err)
	}
	other, err := s.Start(t.Context(), "", registry.SHA256)
	if err != nil {
		t.Fatal(err)
	}

	failures := 0
	fs.fault = func(_ int, op string) outcome {
		if op == "sync" && failures == 0 {
			failures++
			return outcome{err: syscall.EIO}
		}
		return outcome{}
	}
	_, u, err := push()
	wantUnavailable := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("%s: got %v, want ErrUnavailable", what, err)
		}
	}
	wantUnavailable("the Commit whose sync failed", err)
	_, err = s.Commit(t.Context(), u, bytes.NewReader(data), want)
	wantUnavailable("the same Commit again", err)
	_, _, err = push()
	wantUnavailable("Start", err)
	_, err = s.Append(t.Context(), other, bytes.NewReader(data))
	wantUnavailable("Append", err)
	if failures != 1 {
		t.Errorf("%d syncs failed", failures)
	}

	if h, err := s.Check(t.Context()); err != nil || h.ReadOnly == "" {
		t.Errorf("Check: got %+v, %v, want read-only", h, err)
	}
	if err := s.Verify(t.Context(), good, 0); err != nil {
		t.Errorf("reading: %v", err)
	}
	if err := s.Abort(t.Context(), other); err != nil {
		t.Errorf("Abort: %v", err)
	}
	if err := s.Remove(t.Context(), good); err != nil {
		t.Errorf("Remove: %v", err)
	}
	if _, err := s.Status(t.Context(), u); !errors.Is(err, registry.ErrUploadUnknown) {
		t.Errorf("the session whose sync failed: got %v, want ErrUploadUnknown", err)
	}
}

// TestCommitAgainIsDurable ends the process between the rename and the sync of
// the directory: a Commit that is repeated must not answer before that sync.
func TestCommitAgainIsDurable(t *testing.T) {
	fs, root := newFaultFS(), t.TempDir()
	_, s, err := openOn(t, root, boot1, fs)
	if err != nil {
		t.Fatal(err)
	}
	data := noise(1000, 1)
	want := registry.SHA256.FromBytes(data)
	u, err := s.Start(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	renamed := false
	fs.fault = func(_ int, op string) outcome {
		renamed = renamed || op == "rename"
		return outcome{crash: renamed && op == "syncDir"}
	}
	if _, err := s.Commit(t.Context(), u, bytes.NewReader(data), want); err == nil {
		t.Fatal("Commit in a process that ends: no error")
	}
	s.Close()

	fs.fault, fs.crashed = nil, false
	_, s, err = openOn(t, root, boot1, fs)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := s.Commit(t.Context(), u, nil, want)
	if err != nil {
		t.Fatal(err)
	}
	left := fs.powerLoss(t, root)
	s.Close()
	_, s, err = openOn(t, left, boot2, system{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Verify(t.Context(), stored, 0); err != nil {
		t.Errorf("after loss of power: %v", err)
	}
}

// TestG5FailedSyncOfANameIsNotBelieved lets the sync of the directory fail: the
// blob must not be found by a later process.
func TestG5FailedSyncOfANameIsNotBelieved(t *testing.T) {
	fs, root := newFaultFS(), t.TempDir()
	_, s, err := openOn(t, root, boot1, fs)
	if err != nil {
		t.Fatal(err)
	}
	data := noise(1000, 1)
	want := registry.SHA256.FromBytes(data)
	u, err := s.Start(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	renamed := false
	fs.fault = func(_ int, op string) outcome {
		if renamed = renamed || op == "rename"; renamed && op == "syncDir" {
			return outcome{err: syscall.EIO}
		}
		return outcome{}
	}
	if _, err := s.Commit(t.Context(), u, bytes.NewReader(data), want); !errors.Is(err, registry.ErrUnavailable) {
		t.Fatalf("Commit: got %v, want ErrUnavailable", err)
	}
	s.Close()
	_, s, err = openOn(t, root, boot1, system{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Commit(t.Context(), u, nil, want); !errors.Is(err, registry.ErrUploadUnknown) {
		t.Errorf("Commit again: got %v, want ErrUploadUnknown", err)
	}
}

// TestG5FailedSyncBesideTheStream lets the first sync in the background fail: the
// last one must not cover that up.
func TestG5FailedSyncBesideTheStream(t *testing.T) {
	fs := newFaultFS()
	_, s, err := openOn(t, t.TempDir(), boot1, fs)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := noise(40<<20, 1)
	u, err := s.Start(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	fs.fault = func(_ int, op string) outcome {
		if op == "syncData" {
			return outcome{err: syscall.EIO}
		}
		return outcome{}
	}
	_, err = s.Commit(t.Context(), u, bytes.NewReader(data), registry.SHA256.FromBytes(data))
	if !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("Commit: got %v, want ErrUnavailable", err)
	}
	if _, err := s.Status(t.Context(), u); !errors.Is(err, registry.ErrUploadUnknown) {
		t.Errorf("Status: got %v, want ErrUploadUnknown", err)
	}
}

// TestLongAppendIsSaved crashes in the middle of a long Append: at most 64 MiB
// may be lost.
func TestLongAppendIsSaved(t *testing.T) {
	const sent = 100 << 20
	fs, root := newFaultFS(), t.TempDir()
	_, s, err := openOn(t, root, boot1, fs)
	if err != nil {
		t.Fatal(err)
	}
	data := noise(sent+1000, 1)
	u, err := s.Start(t.Context(), "", registry.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	r := io.MultiReader(bytes.NewReader(data[:sent]), crashReader{fs})
	if _, err := s.Append(t.Context(), u, r); err == nil {
		t.Error("Append on a machine that crashed: no error")
	}
	left := fs.powerLoss(t, root)
	s.Close()

	_, s, err = openOn(t, left, boot2, system{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if u, err = s.Status(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if u.Offset < sent-64<<20 || u.Offset > sent {
		t.Errorf("offset %d is left of %d", u.Offset, sent)
	}
	if _, err := s.Commit(t.Context(), u, bytes.NewReader(data[u.Offset:]), registry.SHA256.FromBytes(data)); err != nil {
		t.Error(err)
	}
}

// crashReader stops the machine when it is read.
type crashReader struct{ fs *faultFS }

func (r crashReader) Read([]byte) (int, error) {
	r.fs.crash()
	return 0, io.ErrUnexpectedEOF
}

// TestJournalAgainIsDurable ends the process between the rename of an object and the
// sync of its directory, or takes the descriptor away that the sync needs: an
// AppendJournal that is repeated must not answer before that sync.
func TestJournalAgainIsDurable(t *testing.T) {
	for name, fault := range map[string]outcome{"the process ends": {crash: true}, "no descriptor": {err: syscall.EMFILE}} {
		t.Run(name, func(t *testing.T) {
			fs, root := newFaultFS(), t.TempDir()
			_, s, err := openOn(t, root, boot1, fs)
			if err != nil {
				t.Fatal(err)
			}
			content := noise(1000, 1)
			renamed := false
			fs.fault = func(_ int, op string) outcome {
				if renamed = renamed || op == "rename"; renamed && op == "syncDir" {
					return fault
				}
				return outcome{}
			}
			if err := s.AppendJournal(t.Context(), "segment.1", content); err == nil {
				t.Fatal("without the sync: no error")
			}
			fs.fault = nil
			if fault.crash {
				s.Close()
				fs.crashed = false
				if _, s, err = openOn(t, root, boot1, fs); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.AppendJournal(t.Context(), "segment.1", content); err != nil {
				t.Fatal(err)
			}
			left := fs.powerLoss(t, root)
			s.Close()
			_, s, err = openOn(t, left, boot2, system{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if got, err := s.ReadJournal(t.Context(), "segment.1"); err != nil || !bytes.Equal(got, content) {
				t.Errorf("after loss of power: %d bytes, %v", len(got), err)
			}
		})
	}
}

// TestCommitAgainEndsTheUpload ends the process between the rename and the sync of the
// directories: once a repeated Commit has answered the upload does not come back after
// loss of power, or what is written to it would be written to the blob.
func TestCommitAgainEndsTheUpload(t *testing.T) {
	fs, root := newFaultFS(), t.TempDir()
	_, s, err := openOn(t, root, boot1, fs)
	if err != nil {
		t.Fatal(err)
	}
	data := noise(1000, 1)
	want := registry.SHA256.FromBytes(data)
	u, err := s.Start(t.Context(), "", "")
	if err == nil {
		u, err = s.Append(t.Context(), u, bytes.NewReader(data))
	}
	if err == nil {
		err = s.Close() // makes the upload's name durable
	}
	if err == nil {
		_, s, err = openOn(t, root, boot1, fs)
	}
	if err != nil {
		t.Fatal(err)
	}
	renamed := false
	fs.fault = func(_ int, op string) outcome {
		renamed = renamed || op == "rename"
		return outcome{crash: renamed && op == "syncDir"}
	}
	if _, err := s.Commit(t.Context(), u, nil, want); err == nil {
		t.Fatal("Commit in a process that ends: no error")
	}
	s.Close()

	fs.fault, fs.crashed = nil, false
	_, s, err = openOn(t, root, boot1, fs)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := s.Commit(t.Context(), u, nil, want)
	if err != nil {
		t.Fatal(err)
	}
	left := fs.powerLoss(t, root)
	s.Close()
	_, s, err = openOn(t, left, boot2, system{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Verify(t.Context(), stored, 0); err != nil {
		t.Errorf("after loss of power: %v", err)
	}
	if now, err := s.Status(t.Context(), u); !errors.Is(err, registry.ErrUploadUnknown) {
		t.Errorf("the upload is back: %+v, %v", now, err)
	}
}
