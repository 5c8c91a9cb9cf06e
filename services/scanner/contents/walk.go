package contents

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Reader reads layers.
type Reader struct {
	Limits Limits
	// Dir is where files are put that have to be read in any order. They have no name.
	Dir string
}

// IsLayer reports whether a layer of that media type can be read.
func IsLayer(mediaType string) bool {
	return strings.Contains(mediaType, "tar") || strings.Contains(mediaType, ".rootfs.diff")
}

// Read returns what is in a layer: a tar archive, plain or compressed with gzip or
// zstd, whatever its media type says. Errors are [ErrLimit], [ErrUnsupported],
// [ErrDamaged], and those of r.
func (r *Reader) Read(ctx context.Context, src io.Reader) (*Layer, error) {
	l := r.Limits.withDefaults()
	in := &counted{r: src, ctx: ctx}
	buffered := bufio.NewReaderSize(in, 64<<10)
	plain, done, err := decompress(buffered)
	if err != nil {
		return nil, in.blame(err)
	}
	defer done()
	w := &walk{
		limits: l, dir: r.Dir, layer: new(Layer), owned: owned{seed: maphash.MakeSeed()},
		out: &bounded{r: plain, in: in, limits: l},
	}
	err = w.all()
	if err == nil {
		w.owned.leaveOut(w.layer)
		return w.layer, nil
	}
	return nil, in.blame(err)
}

// decompress returns the tar archive of a layer.
func decompress(r *bufio.Reader) (io.Reader, func(), error) {
	head, err := r.Peek(4)
	if err != nil && len(head) == 0 {
		return bytes.NewReader(nil), func() {}, nil // blame finds out why
	}
	switch {
	case len(head) > 2 && head[0] == 0x1f && head[1] == 0x8b:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return z, func() {}, nil
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), len(head) == 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:], []byte{0x2a, 0x4d, 0x18}):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(32<<20), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return z, z.Close, nil
	case len(head) >= 3 && string(head[:3]) == "BZh", len(head) == 4 && string(head[1:4]) == "7zX":
		return nil, nil, fmt.Errorf("%w: compressed with bzip2 or xz", ErrUnsupported)
	}
	return r, func() {}, nil
}

// counted counts the bytes of a layer as it is stored, and keeps its reader's error.
type counted struct {
	r   io.Reader
	ctx context.Context
	n   int64
	err error
}

func (c *counted) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		c.err = err
		return 0, err
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// blame returns why a layer could not be read: its reader's error, or what is wrong
// with its content.
func (c *counted) blame(err error) error {
	if c.err != nil {
		return c.err
	}
	if errors.Is(err, ErrLimit) || errors.Is(err, ErrUnsupported) || errors.Is(err, ErrDamaged) || errors.Is(err, errHere) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// errHere is the error of this machine, not of a layer.
var errHere = errors.New("scratch file")

// bounded reads a decompressed layer, as far as limits allow.
type bounded struct {
	r      io.Reader
	in     *counted
	limits Limits
	n      int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += int64(n)
	switch {
	case b.n > b.limits.Expanded:
		return 0, limit("a layer expands to more than %d bytes", b.limits.Expanded)
	case b.n > b.limits.Modest && b.n > b.in.n*b.limits.Ratio:
		return 0, limit("a layer expands to more than %d times its size", b.limits.Ratio)
	}
	return n, err
}

// walk is one pass through a layer.
type walk struct {
	limits   Limits
	dir      string
	layer    *Layer
	out      *bounded
	packages int
	kept     int64 // bytes of names and packages
	expanded int64 // by archives in the layer
	// directories are bytes of those of archives that are being read.
	directories int64
	owned       owned
}

func (w *walk) all() error {
	t := tar.NewReader(w.out)
	for n := 0; ; n++ {
		h, err := t.Next()
		if err == io.EOF {
			return w.rest()
		}
		if err != nil {
			return err
		}
		if n >= w.limits.Entries {
			return limit("a layer has more than %d entries", w.limits.Entries)
		}
		if err := w.entry(h, t); err != nil {
			return err
		}
	}
}

// rest reads what follows the archive: the blob's reader is read to its end, which is
// where content that is wrong is told.
func (w *walk) rest() error {
	if _, err := io.Copy(io.Discard, w.out); err != nil {
		return err
	}
	return nil
}

// clean returns a name of a layer as the packages of the scanner know it: relative to
// the root, which it can't leave. "" if it is none.
func clean(name string) string {
	if strings.ContainsRune(name, 0) || len(name) > 4096 {
		return ""
	}
	return strings.ToValidUTF8(strings.TrimPrefix(path.Clean("/"+name), "/"), "\uFFFD")
}

func (w *walk) entry(h *tar.Header, content io.Reader) error {
	name := clean(h.Name)
	if name == "" {
		return nil
	}
	dir, base := path.Split(name)
	if base == ".wh..wh..opq" {
		w.layer.Opaque = append(w.layer.Opaque, strings.TrimSuffix(dir, "/"))
		return w.notes(name)
	}
	if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
		if hidden != "" && hidden != "." && hidden != ".." && !strings.HasPrefix(hidden, ".wh.") {
			w.layer.Hidden = append(w.layer.Hidden, dir+hidden)
		}
		return w.notes(name)
	}
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeDir:
		return nil
	default:
		return w.replaces(name)
	}
	look := lookAt(name, base)
	executable := h.Mode&0o111 != 0 && h.Size >= smallestProgram
	if look == nil && !executable {
		// It may be where a directory was that had packages. Most files can't be.
		if !strings.Contains(base, ".") || strings.HasSuffix(base, "-info") {
			return w.replaces(name)
		}
		return nil
	}
	if h.Size > w.limits.File || look != nil && look.text != nil && (h.Size > w.limits.Document || look.most > 0 && h.Size > look.most) {
		w.layer.Skipped = append(w.layer.Skipped, name)
		return w.replaces(name)
	}
	found := told{Found: Found{Path: name}, w: w}
	packages := w.packages
	var err error
	switch {
	case look == nil:
		err = w.program(&found, h.Size, content)
	case look.file != nil:
		err = w.inAnyOrder(content, h.Size, func(r io.ReaderAt) error { return look.file(w, &found, r, h.Size) })
	default:
		err = look.text(w, &found, content)
	}
	switch {
	case err == nil:
	case isFatal(err), w.out.in.err != nil:
		return err
	default:
		// A file that is not what its name says tells of no packages.
		found.Packages, found.Kind, found.OS = nil, "", nil
	}
	w.packages = packages + len(found.Packages)
	if found.Packages == nil && found.OS == nil && (found.Kind == NodePkg || found.Kind == Conda) {
		found.Kind = ""
	}
	w.layer.Found = append(w.layer.Found, found.Found)
	return w.notes(name)
}

// isFatal reports whether an error ends the scan of a layer, and not only of a file.
func isFatal(err error) bool { return errors.Is(err, ErrLimit) || errors.Is(err, errHere) }

// replaces notes that a name may replace a file that was looked at.
func (w *walk) replaces(name string) error {
	w.layer.Found = append(w.layer.Found, Found{Path: name})
	return w.notes(name)
}

func (w *walk) notes(name string) error {
	l := w.layer
	if len(l.Found)+len(l.Hidden)+len(l.Opaque)+len(l.Skipped) > w.limits.Notes {
		return limit("a layer has more than %d names to remember", w.limits.Notes)
	}
	return w.remembers(len(name))
}

// inAnyOrder calls f with the content of a file.
func (w *walk) inAnyOrder(content io.Reader, size int64, f func(io.ReaderAt) error) error {
	const inMemory = 2 << 20
	if size <= inMemory {
		b := make([]byte, size)
		if _, err := io.ReadFull(content, b); err != nil {
			return err
		}
		return f(bytes.NewReader(b))
	}
	scratch, err := w.scratch()
	if err != nil {
		return err
	}
	defer scratch.Close()
	if _, err := io.CopyN(writesHere{scratch}, content, size); err != nil {
		return err
	}
	return f(scratch)
}

// scratch returns a file without a name.
func (w *walk) scratch() (*os.File, error) {
	f, err := os.CreateTemp(w.dir, "layer-")
	if err == nil {
		if err = os.Remove(f.Name()); err != nil {
			f.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errHere, err)
	}
	return f, nil
}

// writesHere marks errors of writing as ours.
type writesHere struct{ f *os.File }

func (w writesHere) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	if err != nil {
		err = fmt.Errorf("%w: %w", errHere, err)
	}
	return n, err
}

// sparing lets so many bytes be read of a file, and so many at once.
type sparing struct {
	r      io.ReaderAt
	left   int64
	atOnce int64 // 0: any number
	n      int64
	spent  bool
}

func (s *sparing) ReadAt(p []byte, at int64) (int, error) {
	if n := int64(len(p)); n > s.left || s.atOnce > 0 && n > s.atOnce {
		s.spent = true
		return 0, damaged("its tables are too large")
	}
	n, err := s.r.ReadAt(p, at)
	s.left -= int64(n)
	s.n += int64(n)
	return n, err
}
