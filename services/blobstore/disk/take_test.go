package disk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// TestGivenFile: a file that is given away becomes the blob if it can, and is copied
// if it can't; one that is not what was promised becomes none.
func TestGivenFile(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 300_000)
	for name, c := range map[string]struct {
		prepare func(t *testing.T, file string) // may change the file
		want    registry.Digest
		moved   bool
		err     error
	}{
		"moved":         {want: registry.SHA256.FromBytes(content), moved: true},
		"other content": {want: registry.SHA256.FromString("no"), moved: true, err: registry.ErrDigestInvalid},
		"SHA-512":       {want: registry.SHA512.FromBytes(content), moved: true},
		"has two names": {want: registry.SHA256.FromBytes(content), prepare: func(t *testing.T, file string) { must(t, os.Link(file, file+"2")) }},
		"is a link": {want: registry.SHA256.FromBytes(content), prepare: func(t *testing.T, file string) {
			must(t, errors.Join(os.Rename(file, file+"2"), os.Symlink(file+"2", file)))
		}},
		"others write it": {want: registry.SHA256.FromBytes(content), prepare: func(t *testing.T, file string) { must(t, os.Chmod(file, 0o666)) }},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			drv, s, err := openOn(t, root, boot1, system{})
			must(t, err)
			defer s.Close()
			file := filepath.Join(root, "given")
			must(t, os.WriteFile(file, content, 0o600))
			f, err := os.Open(file)
			must(t, err)
			defer f.Close()
			before, err := f.Stat()
			must(t, err)
			if c.prepare != nil {
				c.prepare(t, file)
			}
			u, err := s.Start(t.Context(), "", registry.SHA256)
			must(t, err)
			stored, err := s.Commit(t.Context(), u, registry.NewGivenFile(f, int64(len(content))), c.want)
			if !errors.Is(err, c.err) {
				t.Fatalf("Commit: %v", err)
			}
			if _, err := os.Lstat(file); os.IsNotExist(err) != c.moved {
				t.Errorf("the file's name: %v", err)
			}
			if got := make([]byte, len(content)); true {
				if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, content) {
					t.Errorf("who has it open reads: %v", err)
				}
			}
			if c.err != nil {
				return
			}
			blob, err := os.Stat(drv.blobs + "/" + string(c.want.Algorithm()) + "/" + c.want.Encoded()[:2] + "/" + blobName(c.want, stored.Locator))
			must(t, err)
			if os.SameFile(before, blob) != c.moved {
				t.Errorf("the blob is the file itself: %v", !c.moved)
			}
			r, err := s.Open(t.Context(), stored, registry.Range{Length: -1, Verify: true})
			must(t, err)
			defer r.Close()
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
				t.Errorf("the store has %d bytes, %v", len(got), err)
			}
		})
	}
}

// endsAfter is a context that ends when it has been asked so often whether it has.
type endsAfter struct {
	context.Context
	asks int
}

func (c *endsAfter) Err() error {
	if c.asks--; c.asks < 0 {
		return context.Canceled
	}
	return nil
}

// TestGivenFileAndAGivenUpCommit ends a commit while the bytes of a file that was given
// away are hashed: they are the session's, and it goes on behind all of them.
func TestGivenFileAndAGivenUpCommit(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 300_000)
	root := t.TempDir()
	_, s, err := openOn(t, root, boot1, system{})
	must(t, err)
	defer s.Close()
	file := filepath.Join(root, "given")
	must(t, os.WriteFile(file, content, 0o600))
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	u, err := s.Start(t.Context(), "", registry.SHA256)
	must(t, err)
	_, err = s.Commit(&endsAfter{t.Context(), 10}, u, registry.NewGivenFile(f, int64(len(content))), registry.SHA256.FromBytes(content))
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Commit: %v", err)
	}
	if _, err := os.Lstat(file); !os.IsNotExist(err) {
		t.Fatalf("the file was not taken: %v", err)
	}
	u, err = s.Status(t.Context(), u)
	must(t, err)
	rest := append(bytes.Clone(content[u.Offset:]), "and more"...)
	u, err = s.Append(t.Context(), u, bytes.NewReader(rest))
	must(t, err)
	whole := append(bytes.Clone(content), "and more"...)
	stored, err := s.Commit(t.Context(), u, nil, registry.SHA256.FromBytes(whole))
	must(t, err)
	must(t, s.Verify(t.Context(), stored, 0))
	if got, err := io.ReadAll(io.NewSectionReader(f, 0, int64(len(content)))); err != nil || !bytes.Equal(got, content) {
		t.Errorf("who has it open reads %d bytes, %v", len(got), err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
