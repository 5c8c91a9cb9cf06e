package scanner

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/scanner/contents"
)

// running is an image that is being scanned.
type running struct {
	job
	since        int64
	layers, done atomic.Int64
	bytes        atomic.Int64
	runs         bool // some client can run it
}

// idle is how often the queue is looked at without being told.
const idle = 30 * time.Second

// scanAll scans what waits, one image after another: a registry has better things to
// do with its processors.
func (s *Service) scanAll() {
	for s.ctx.Err() == nil {
		var j job
		var ok bool
		var err error
		if !s.live.Load().Off {
			j, ok, err = s.store.next(s.ctx, s.now())
		}
		if err == nil && ok {
			if err = s.scan(s.ctx, j); err != nil {
				err = errors.Join(err, s.retry(j))
			}
		}
		switch {
		case s.ctx.Err() != nil:
			return
		case err != nil:
			s.log.Error("scanning", "error", err)
			if !s.pause(nil, time.Second) {
				return
			}
		case !ok:
			if !s.pause(s.wake, idle) {
				return
			}
		}
	}
}

// retry has an image that could not be recorded wait, or else fail: it would count as
// being scanned for as long as the process lives.
func (s *Service) retry(j job) error {
	for s.ctx.Err() == nil {
		var err error
		const reason = "what was found could not be recorded"
		if j.attempts < len(patience) {
			err = s.store.again(s.ctx, j.digest, reason, s.o.Now().Add(patience[j.attempts]).UnixMicro())
		} else {
			err = s.store.fail(s.ctx, j.digest, reason)
		}
		if err == nil || s.store.db.Failed() != nil || !s.pause(nil, time.Second) {
			return err
		}
	}
	return s.ctx.Err()
}

// patience is how long an image waits after each attempt that failed for want of
// something that may come.
var patience = []time.Duration{10 * time.Second, time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour}

// scan scans an image and records what became of it. The error is one of recording.
func (s *Service) scan(ctx context.Context, j job) error {
	began := s.o.Now()
	r := &running{job: j, since: began.UnixMicro()}
	s.mu.Lock()
	s.running[j.digest] = r
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.running, j.digest)
		s.mu.Unlock()
	}()
	bounded, cancel := context.WithTimeout(ctx, s.o.Time)
	defer cancel()
	st := registry.ScanStatus{Digest: j.digest, State: registry.ScanDone}
	image, children, err := s.read(bounded, r)
	var found []registry.ScanFinding
	if err == nil && image != nil {
		found, st.DB, err = s.vulns.Lookup(bounded, image)
	}
	if ctx.Err() != nil {
		return nil // the end: it waits again when we are back
	}
	st.At = s.now()
	switch {
	case err == nil && children != nil:
		return s.index(ctx, j, children)
	case err == nil:
		st.Packages, st.OS = int64(image.Count()), clip(strings.TrimSpace(image.OS.Family+" "+image.OS.Version), 500)
		if len(image.Skipped) > 0 {
			st.Reason = fmt.Sprintf("%d files were not looked at: %s", len(image.Skipped), clip(strings.Join(image.Skipped, ", "), 500))
		}
	case errors.Is(err, errGone):
		return s.store.drop(ctx, j.digest)
	case errors.Is(err, contents.ErrLimit):
		st.State, st.Reason = registry.ScanFailed, clip(err.Error(), 500)
	case bounded.Err() != nil:
		st.State, st.Reason = registry.ScanFailed, fmt.Sprintf("limit: it takes longer than %v", s.o.Time)
	case errors.Is(err, contents.ErrUnsupported) && r.runs:
		st.State, st.Reason = registry.ScanFailed, clip(err.Error(), 500)
	case errors.Is(err, contents.ErrUnsupported):
		st.State, st.Reason = registry.ScanUnsupported, clip(strings.TrimPrefix(err.Error(), "unsupported: "), 500)
	case errors.Is(err, contents.ErrDamaged):
		st.State, st.Reason = registry.ScanFailed, clip(err.Error(), 500)
	case j.attempts < len(patience):
		s.log.Warn("an image could not be scanned and will be tried again", "repository", j.repo, "digest", j.digest, "error", err)
		return s.store.again(ctx, j.digest, clip(registry.AsError(err).Text(), 500), s.o.Now().Add(patience[j.attempts]).UnixMicro())
	default:
		st.State, st.Reason = registry.ScanFailed, clip(registry.AsError(err).Text(), 500)
	}
	s.meters.scanned(st.State, s.o.Now().Sub(began))
	if st.State == registry.ScanFailed {
		s.log.Warn("an image could not be scanned", "repository", j.repo, "digest", j.digest, "reason", st.Reason, "error", err)
	}
	if err := s.store.finish(ctx, st, j.repo, image, found); err != nil {
		return fmt.Errorf("recording a scan: %w", err)
	}
	if st.State == registry.ScanDone && st.DB != "" {
		s.announce(ctx, j.repo, j.digest, st.At, found)
	}
	if format := s.live.Load().SBOM; st.State == registry.ScanDone && format != "" {
		if _, err := s.AttachSBOM(ctx, installation, j.repo, j.digest, format); err != nil {
			s.log.Warn("a bill of materials could not be attached", "repository", j.repo, "digest", j.digest, "error", err)
		}
	}
	return nil
}

// index queues what an index lists, and records that: before, it would have nothing in it.
func (s *Service) index(ctx context.Context, j job, children []registry.Digest) error {
	for _, c := range children {
		if err := s.store.hasten(ctx, job{repo: j.repo, digest: c}, rankAsked, s.now(), false); err != nil {
			return err
		}
	}
	return s.store.index(ctx, j, children, s.now())
}

// errGone is the error of an image that is not in the catalog any more.
var errGone = errors.New("the image is gone")

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", contents.ErrUnsupported, fmt.Sprintf(format, args...))
}

// read returns what is in an image, or else the images that it lists.
func (s *Service) read(ctx context.Context, r *running) (image *contents.Image, children []registry.Digest, err error) {
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("a scan has panicked", "digest", r.digest, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			image, children, err = nil, nil, fmt.Errorf("%w: the scanner can't cope with it", contents.ErrDamaged)
		}
	}()
	m, err := s.catalog.Manifest(ctx, installation, r.repo, registry.ManifestQuery{Ref: registry.Reference{Digest: r.digest}})
	if errors.Is(err, registry.ErrManifestUnknown) || errors.Is(err, registry.ErrNameUnknown) {
		return nil, nil, errGone
	}
	if err != nil {
		return nil, nil, err
	}
	var doc struct {
		Config       registry.Descriptor   `json:"config"`
		Layers       []registry.Descriptor `json:"layers"`
		Manifests    []registry.Descriptor `json:"manifests"`
		ArtifactType string                `json:"artifactType"`
	}
	if err := json.Unmarshal(m.Bytes, &doc); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", contents.ErrDamaged, err)
	}
	if m.MediaType == registry.TypeIndex || m.MediaType == registry.TypeDockerList {
		children = []registry.Digest{}
		for _, c := range doc.Manifests {
			// Attestations of buildkit are listed as if they were images.
			if isManifest(c.MediaType) && c.Annotations["vnd.docker.reference.type"] == "" {
				children = append(children, c.Digest)
			}
		}
		return nil, children, nil
	}
	if t := doc.Config.MediaType; t != imgspec.MediaTypeImageConfig && t != "application/vnd.docker.container.image.v1+json" {
		return nil, nil, unsupported("%s is no image", cmp.Or(doc.ArtifactType, t))
	}
	// What is in an image must not stay unknown because of what it says of itself: clients
	// don't look at an artifact's type, and some not at those of layers. Attestations of
	// buildkit have the configuration of an image.
	for _, l := range doc.Layers {
		r.runs = r.runs || l.MediaType != "application/vnd.in-toto+json"
	}
	for _, l := range doc.Layers {
		if !contents.IsLayer(l.MediaType) {
			return nil, nil, unsupported("it has a layer of type %s", l.MediaType)
		}
	}
	r.layers.Store(int64(len(doc.Layers)))
	stack := make([]contents.Stacked, len(doc.Layers))
	read := make(map[registry.Digest]*contents.Layer)
	var size int64
	for i, l := range doc.Layers {
		if read[l.Digest] == nil {
			if read[l.Digest], err = s.layer(ctx, r, l.Digest); err != nil {
				return nil, nil, err
			}
			if size += read[l.Digest].Size(); size > maxOfImage {
				return nil, nil, fmt.Errorf("%w: its layers tell more than %d bytes", contents.ErrLimit, maxOfImage)
			}
		}
		stack[i] = contents.Stacked{Digest: l.Digest, Layer: read[l.Digest]}
		r.done.Add(1)
	}
	return contents.Squash(stack), nil, nil
}

// maxOfImage is how many bytes all layers of an image may tell: they are in memory together.
const maxOfImage = 128 << 20

func isManifest(mediaType string) bool {
	switch mediaType {
	case registry.TypeManifest, registry.TypeDockerManifest, registry.TypeIndex, registry.TypeDockerList:
		return true
	}
	return false
}

// layer returns what is in a layer, which is read if that is not known.
func (s *Service) layer(ctx context.Context, r *running, d registry.Digest) (*contents.Layer, error) {
	l, err := s.store.layer(ctx, d, s.now())
	if err != nil || l != nil {
		if l != nil {
			s.meters.cachedLayers.Add(1)
		}
		return l, err
	}
	b, err := s.catalog.Blob(ctx, installation, r.repo, d)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", d, err)
	}
	var content io.Reader = bytes.NewReader(b.Inline)
	if b.Locator != "" {
		c, err := s.blobs.Open(ctx, b.Stored, registry.Range{Length: -1, Verify: b.Unverified})
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", d, err)
		}
		defer c.Close()
		content = c
	}
	if l, err = s.reader.Read(ctx, &metered{content, r, s.meters}); err != nil {
		return nil, fmt.Errorf("%w (layer %s)", err, d)
	}
	s.meters.readLayers.Add(1)
	return l, s.store.putLayer(ctx, d, l, s.now())
}

// metered counts what is read.
type metered struct {
	io.Reader
	r *running
	m *meters
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	m.r.bytes.Add(int64(n))
	m.m.bytes.Add(int64(n))
	return n, err
}

func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "…"
	}
	// PostgreSQL takes no zero bytes.
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
