package rpc

import (
	"context"
	"iter"
	"slices"

	"google.golang.org/grpc"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	"github.com/berth-registry/berth/registry"
)

// How files of somebody else's layouts become the store's own, and go there.

// owned returns the name of a repository if its files may become the store's own.
func (s *layoutServer) owned(name string) (registry.Name, error) {
	repo, err := registry.ParseName(name)
	if err == nil && s.owner == nil {
		err = registry.ErrUnsupported
	}
	return repo, err
}

func (s *layoutServer) TakeOverCopy(req *blobstorev1.TakeOverCopyRequest, stream grpc.ServerStreamingServer[blobstorev1.TakeOverCopyResponse]) error {
	stored, err := parseStored(req.GetStored())
	if err == nil && s.owner == nil {
		err = registry.ErrUnsupported
	}
	if err != nil {
		return err
	}
	ctx, stop := beat(stream.Context(), s.limits.beat, func() error { return stream.Send(&blobstorev1.TakeOverCopyResponse{}) })
	defer stop()
	made, err := s.owner.TakeOver(ctx, stored)
	if err != nil {
		return err
	}
	stop()
	return stream.Send(&blobstorev1.TakeOverCopyResponse{Stored: storedToWire(made)})
}

func (s *layoutServer) ListLayoutFiles(req *blobstorev1.ListLayoutFilesRequest, stream grpc.ServerStreamingServer[blobstorev1.ListLayoutFilesResponse]) error {
	repo, err := s.owned(req.GetRepository())
	if err != nil {
		return err
	}
	out := &gathered[*blobstorev1.LayoutFile]{out: func(files []*blobstorev1.LayoutFile) error {
		return stream.Send(&blobstorev1.ListLayoutFilesResponse{Files: files})
	}}
	ctx, stop := beat(stream.Context(), s.limits.beat, out.send)
	defer stop()
	for f, err := range s.owner.LayoutFiles(ctx, registry.Pool(req.GetPool()), repo) {
		if err == nil {
			err = out.add(&blobstorev1.LayoutFile{Digest: text(string(f.Digest)), Size: f.Size})
		}
		if err != nil {
			return err
		}
	}
	return out.send()
}

func (s *layoutServer) RemoveLayoutFiles(ctx context.Context, req *blobstorev1.RemoveLayoutFilesRequest) (*blobstorev1.RemoveLayoutFilesResponse, error) {
	repo, err := s.owned(req.GetRepository())
	if err != nil {
		return nil, err
	}
	all, err := layoutDigests(req.GetDigests())
	if err != nil {
		return nil, err
	}
	n, err := s.owner.RemoveLayoutFiles(ctx, registry.Pool(req.GetPool()), repo, all)
	if err != nil {
		return nil, err
	}
	return &blobstorev1.RemoveLayoutFilesResponse{Bytes: n}, nil
}

func (s *layoutServer) RemoveLayout(req *blobstorev1.RemoveLayoutRequest, stream grpc.ServerStreamingServer[blobstorev1.RemoveLayoutResponse]) error {
	repo, err := s.owned(req.GetRepository())
	if err != nil {
		return err
	}
	ctx, stop := beat(stream.Context(), s.limits.beat, func() error { return stream.Send(&blobstorev1.RemoveLayoutResponse{}) })
	defer stop()
	n, err := s.owner.RemoveLayout(ctx, registry.Pool(req.GetPool()), repo)
	if err != nil {
		return err
	}
	stop()
	return stream.Send(&blobstorev1.RemoveLayoutResponse{Bytes: n})
}

var _ registry.Layouts = (*blobs)(nil)

// answers reads a stream of signs of life and parts of an answer to its end.
func answers[Resp any](ctx context.Context, l limits, open func(context.Context) (grpc.ServerStreamingClient[Resp], error), each func(*Resp)) error {
	return watch(ctx, l, func(ctx context.Context, p *patience) error {
		stream, err := open(ctx)
		for err == nil {
			var resp *Resp
			err = p.during(func() (err error) {
				resp, err = stream.Recv()
				return err
			})
			if err == nil {
				each(resp)
			}
		}
		return endOfStream(err)
	})
}

// TakeOver implements [registry.Layouts]. It has no deadline but waits for signs of
// life.
func (b *blobs) TakeOver(ctx context.Context, s registry.Stored) (made registry.Stored, err error) {
	err = answers(ctx, b.limits, func(ctx context.Context) (grpc.ServerStreamingClient[blobstorev1.TakeOverCopyResponse], error) {
		return b.layouts.TakeOverCopy(ctx, &blobstorev1.TakeOverCopyRequest{Stored: storedToWire(s)})
	}, func(resp *blobstorev1.TakeOverCopyResponse) {
		if resp.GetStored() != nil {
			made = storedFromWire(resp.GetStored())
		}
	})
	if err == nil && made.Locator == "" {
		err = registry.ErrUnavailable.With("the blobstore did not say where its copy is")
	}
	return made, err
}

// LayoutFiles implements [registry.Layouts]. It has all files before it yields the
// first, as who gets them asks for more.
func (b *blobs) LayoutFiles(ctx context.Context, p registry.Pool, repo registry.Name) iter.Seq2[registry.LayoutFile, error] {
	return func(yield func(registry.LayoutFile, error) bool) {
		var all []registry.LayoutFile
		err := answers(ctx, b.limits, func(ctx context.Context) (grpc.ServerStreamingClient[blobstorev1.ListLayoutFilesResponse], error) {
			return b.layouts.ListLayoutFiles(ctx, &blobstorev1.ListLayoutFilesRequest{Pool: text(string(p)), Repository: text(string(repo))})
		}, func(resp *blobstorev1.ListLayoutFilesResponse) {
			for _, f := range resp.GetFiles() {
				all = append(all, registry.LayoutFile{Digest: registry.Digest(f.GetDigest()), Size: f.GetSize()})
			}
		})
		if err != nil {
			yield(registry.LayoutFile{}, err)
			return
		}
		for _, f := range all {
			if !yield(f, nil) {
				return
			}
		}
	}
}

// RemoveLayoutFiles implements [registry.Layouts].
func (b *blobs) RemoveLayoutFiles(ctx context.Context, p registry.Pool, repo registry.Name, all []registry.Digest) (n int64, err error) {
	for part := range slices.Chunk(all, maxLayoutDigests) {
		req := &blobstorev1.RemoveLayoutFilesRequest{Pool: text(string(p)), Repository: text(string(repo)), Digests: make([]string, len(part))}
		for i, d := range part {
			req.Digests[i] = text(string(d))
		}
		resp, err := unary(ctx, b.limits, b.limits.write, true, b.layouts.RemoveLayoutFiles, req)
		n += resp.GetBytes()
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// RemoveLayout implements [registry.Layouts]. It has no deadline but waits for signs
// of life.
func (b *blobs) RemoveLayout(ctx context.Context, p registry.Pool, repo registry.Name) (n int64, err error) {
	err = answers(ctx, b.limits, func(ctx context.Context) (grpc.ServerStreamingClient[blobstorev1.RemoveLayoutResponse], error) {
		return b.layouts.RemoveLayout(ctx, &blobstorev1.RemoveLayoutRequest{Pool: text(string(p)), Repository: text(string(repo))})
	}, func(resp *blobstorev1.RemoveLayoutResponse) { n += resp.GetBytes() })
	return n, err
}
