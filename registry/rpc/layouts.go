package rpc

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	"github.com/berth-registry/berth/registry"
)

const (
	// maxLayoutNames is how many names or files one message has.
	maxLayoutNames = 1000
	// maxLayoutDigests is how many blobs one call asks for.
	maxLayoutDigests = 1000
	// layoutPart is how much of an index one message has.
	layoutPart = 1 << 20
)

// layoutServer serves registry.LayoutReader.
type layoutServer struct {
	blobstorev1.UnimplementedLayoutServiceServer
	layouts registry.LayoutReader // nil: there are none
	owner   registry.Layouts      // nil: they stay somebody else's
	limits  limits
}

func (s *layoutServer) FindLayouts(req *blobstorev1.FindLayoutsRequest, stream grpc.ServerStreamingServer[blobstorev1.FindLayoutsResponse]) error {
	if s.layouts == nil {
		return nil
	}
	out := &gathered[string]{out: func(names []string) error {
		return stream.Send(&blobstorev1.FindLayoutsResponse{Repositories: names})
	}}
	ctx, stop := beat(stream.Context(), s.limits.beat, out.send)
	defer stop()
	for repo, err := range s.layouts.Layouts(ctx, registry.Pool(req.GetPool())) {
		if err == nil {
			err = out.add(text(string(repo)))
		}
		if err != nil {
			return err
		}
	}
	return out.send()
}

// gathered sends the entries of a list in messages that are not too small.
type gathered[T any] struct {
	out func([]T) error
	mu  sync.Mutex // guards all, and the stream
	all []T
}

func (g *gathered[T]) add(x T) error {
	g.mu.Lock()
	g.all = append(g.all, x)
	full := len(g.all) >= maxLayoutNames
	g.mu.Unlock()
	if full {
		return g.send()
	}
	return nil
}

func (g *gathered[T]) send() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.out(g.all)
	g.all = nil
	return err
}

func (s *layoutServer) GetLayout(ctx context.Context, req *blobstorev1.GetLayoutRequest) (*blobstorev1.GetLayoutResponse, error) {
	repo, err := s.layout(req.GetRepository())
	if err != nil {
		return nil, err
	}
	stamp, err := s.layouts.LayoutStamp(ctx, registry.Pool(req.GetPool()), repo)
	if err != nil {
		return nil, err
	}
	return &blobstorev1.GetLayoutResponse{Stamp: text(stamp)}, nil
}

// layout returns the name of a repository if there may be layouts.
func (s *layoutServer) layout(name string) (registry.Name, error) {
	repo, err := registry.ParseName(name)
	if err == nil && s.layouts == nil {
		err = registry.ErrNameUnknown
	}
	return repo, err
}

func (s *layoutServer) ReadLayoutIndex(req *blobstorev1.ReadLayoutIndexRequest, stream grpc.ServerStreamingServer[blobstorev1.ReadLayoutIndexResponse]) error {
	repo, err := s.layout(req.GetRepository())
	if err != nil {
		return err
	}
	index, err := s.layouts.LayoutIndex(stream.Context(), registry.Pool(req.GetPool()), repo)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(index, layoutPart) {
		if err := stream.Send(&blobstorev1.ReadLayoutIndexResponse{Data: part}); err != nil {
			return err
		}
	}
	return nil
}

func (s *layoutServer) ListLayoutCopies(ctx context.Context, req *blobstorev1.ListLayoutCopiesRequest) (*blobstorev1.ListLayoutCopiesResponse, error) {
	repo, err := s.layout(req.GetRepository())
	if err != nil {
		return nil, err
	}
	blobs, err := layoutDigests(req.GetDigests())
	if err != nil {
		return nil, err
	}
	found, err := s.layouts.LayoutCopies(ctx, registry.Pool(req.GetPool()), repo, blobs)
	if err != nil {
		return nil, err
	}
	resp := &blobstorev1.ListLayoutCopiesResponse{Copies: make([]*blobstorev1.LayoutCopy, len(found))}
	for i, c := range found {
		resp.Copies[i] = &blobstorev1.LayoutCopy{Stored: storedToWire(c.Stored), Modified: c.Modified}
	}
	return resp, nil
}

// layoutDigests parses the digests of a request.
func layoutDigests(all []string) ([]registry.Digest, error) {
	if n := len(all); n > maxLayoutDigests {
		return nil, registry.ErrTooLarge.With("%d digests are more than %d", n, maxLayoutDigests)
	}
	blobs := make([]registry.Digest, len(all))
	for i, d := range all {
		var err error
		if blobs[i], err = registry.ParseDigest(d); err != nil {
			return nil, err
		}
	}
	return blobs, nil
}

var _ registry.LayoutReader = (*blobs)(nil)

// Layouts implements [registry.LayoutReader]. It has all names before it yields the
// first: who gets them may take its time. A server that knows nothing of layouts has
// none.
func (b *blobs) Layouts(ctx context.Context, p registry.Pool) iter.Seq2[registry.Name, error] {
	return func(yield func(registry.Name, error) bool) {
		names, err := b.findLayouts(ctx, p)
		if err != nil && !notServed(err) {
			yield("", err)
			return
		}
		for _, n := range names {
			if !yield(n, nil) {
				return
			}
		}
	}
}

// findLayouts has no deadline but waits for signs of life.
func (b *blobs) findLayouts(ctx context.Context, p registry.Pool) (names []registry.Name, err error) {
	err = watch(ctx, b.limits, func(ctx context.Context, patience *patience) error {
		stream, err := b.layouts.FindLayouts(ctx, &blobstorev1.FindLayoutsRequest{Pool: text(string(p))})
		for err == nil {
			var resp *blobstorev1.FindLayoutsResponse
			err = patience.during(func() (err error) {
				resp, err = stream.Recv()
				return err
			})
			for _, n := range resp.GetRepositories() {
				names = append(names, registry.Name(n))
			}
		}
		return endOfStream(err)
	})
	return names, err
}

// LayoutStamp implements [registry.LayoutReader].
func (b *blobs) LayoutStamp(ctx context.Context, p registry.Pool, repo registry.Name) (string, error) {
	resp, err := unary(ctx, b.limits, b.limits.read, true, b.layouts.GetLayout,
		&blobstorev1.GetLayoutRequest{Pool: text(string(p)), Repository: text(string(repo))})
	if notServed(err) {
		err = registry.ErrNameUnknown
	}
	return resp.GetStamp(), err
}

// LayoutIndex implements [registry.LayoutReader].
func (b *blobs) LayoutIndex(ctx context.Context, p registry.Pool, repo registry.Name) (index []byte, err error) {
	err = watch(ctx, b.limits, func(ctx context.Context, patience *patience) error {
		stream, err := b.layouts.ReadLayoutIndex(ctx, &blobstorev1.ReadLayoutIndexRequest{Pool: text(string(p)), Repository: text(string(repo))},
			grpc.MaxCallRecvMsgSize(maxMessage))
		for err == nil {
			var resp *blobstorev1.ReadLayoutIndexResponse
			err = patience.during(func() (err error) {
				resp, err = stream.Recv()
				return err
			})
			if index = append(index, resp.GetData()...); len(index) > registry.MaxLayoutIndex {
				return registry.ErrTooLarge.With("index.json is larger than %d bytes", registry.MaxLayoutIndex)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return index, nil
}

// LayoutCopies implements [registry.LayoutReader].
func (b *blobs) LayoutCopies(ctx context.Context, p registry.Pool, repo registry.Name, all []registry.Digest) (found []registry.LayoutCopy, err error) {
	for part := range slices.Chunk(all, maxLayoutDigests) {
		req := &blobstorev1.ListLayoutCopiesRequest{Pool: text(string(p)), Repository: text(string(repo)), Digests: make([]string, len(part))}
		for i, d := range part {
			req.Digests[i] = text(string(d))
		}
		resp, err := unary(ctx, b.limits, b.limits.read, true, b.layouts.ListLayoutCopies, req)
		if err != nil {
			return nil, err
		}
		for _, c := range resp.GetCopies() {
			found = append(found, registry.LayoutCopy{Stored: storedFromWire(c.GetStored()), Modified: c.GetModified()})
		}
	}
	return found, nil
}

// notServed reports whether a server is older than what it was asked for.
func notServed(err error) bool { return status.Code(err) == codes.Unimplemented }
