package vulndb

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/berth-registry/berth/registry"
)

// maxDatabase is the size of the largest database, in bytes: Trivy's has less than
// one GB.
const maxDatabase = 8 << 30

// metadata is what metadata.json tells.
type metadata struct {
	Version    int
	UpdatedAt  time.Time
	NextUpdate time.Time
}

// unpack writes the database that r has to dir, durably. Of an archive nothing else
// is taken, and no name of it is used.
func unpack(r io.Reader, dir string) (meta metadata, err error) {
	in := &source{r: r}
	buffered := bufio.NewReaderSize(in, 64<<10)
	head, err := buffered.Peek(20)
	if err != nil && len(head) < 20 {
		return meta, in.blame("it has %d bytes only", len(head))
	}
	// bbolt: the first page has a header of 16 bytes, then this number.
	if bytes.Equal(head[16:20], []byte{0xed, 0xda, 0x0c, 0xed}) {
		return meta, in.save(buffered, dir)
	}
	z, err := gzip.NewReader(buffered)
	if err != nil {
		return meta, in.blame("neither a database nor an archive compressed with gzip: %v", err)
	}
	found := false
	for t := tar.NewReader(z); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return meta, in.blame("the archive is damaged: %v", err)
		}
		switch path.Base(path.Clean("/" + h.Name)) {
		case fileName:
			if found || h.Typeflag != tar.TypeReg {
				return meta, in.blame("the archive has several databases")
			}
			found = true
			if err := in.save(t, dir); err != nil {
				return meta, err
			}
		case "metadata.json":
			if err := json.NewDecoder(io.LimitReader(t, 1<<20)).Decode(&meta); err != nil {
				return meta, in.blame("metadata.json: %v", err)
			}
		}
	}
	if !found {
		return meta, in.blame("the archive has no %s", fileName)
	}
	// What follows is read, too: a reader that compares a digest tells at the end.
	if _, err := io.Copy(io.Discard, buffered); err != nil {
		return meta, in.blame("%v", err)
	}
	return meta, nil
}

// source keeps its reader's error apart from those of the content.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s *source) blame(format string, args ...any) error {
	if s.err != nil {
		return s.err
	}
	return registry.ErrParameterInvalid.With("this is no vulnerability database: "+format, args...)
}

func (s *source) save(r io.Reader, dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, fileName), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := &sink{f: f}
	n, err := io.Copy(w, io.LimitReader(r, maxDatabase+1))
	switch {
	case w.err != nil:
		return w.err
	case err != nil:
		return s.blame("%v", err)
	case n > maxDatabase:
		return s.blame("it has more than %d bytes", int64(maxDatabase))
	}
	return f.Sync()
}

// sink keeps errors of writing.
type sink struct {
	f   *os.File
	err error
}

func (w *sink) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}
