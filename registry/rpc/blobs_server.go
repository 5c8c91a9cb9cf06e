package rpc

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	"github.com/berth-registry/berth/registry"
)

// ServeBlobs makes srv serve b. srv must come from [NewServer].
func ServeBlobs(srv grpc.ServiceRegistrar, b registry.Blobs) {
	serveBlobs(srv, b, serverLimits(), newPool())
}

func serveBlobs(srv grpc.ServiceRegistrar, b registry.Blobs, l limits, pool mem.BufferPool) {
	blobstorev1.RegisterBlobServiceServer(srv, &blobsServer{blobs: b, limits: l, pool: pool})
	blobstorev1.RegisterJournalServiceServer(srv, &journalServer{journal: b})
	layouts, _ := b.(registry.LayoutReader)
	owner, _ := b.(registry.Layouts)
	blobstorev1.RegisterLayoutServiceServer(srv, &layoutServer{layouts: layouts, owner: owner, limits: l})
}

// blobsServer serves registry.Blobs. It checks what clients send, so that blobs
// sees well-formed values only.
type blobsServer struct {
	blobstorev1.UnimplementedBlobServiceServer
	blobs  registry.Blobs
	limits limits
	pool   mem.BufferPool
}

func (s *blobsServer) OpenBlob(req *blobstorev1.OpenBlobRequest, stream grpc.ServerStreamingServer[blobstorev1.OpenBlobResponse]) error {
	stored, err := parseStored(req.GetStored())
	if err != nil {
		return err
	}
	c, err := s.blobs.Open(stream.Context(), stored, registry.Range{Offset: req.GetOffset(), Length: req.GetLength(), Verify: req.GetVerify()})
	if err != nil {
		return err
	}
	// Closing also ends a Read that pour left to itself.
	defer c.Close()

	first := &blobstorev1.OpenBlobResponse{Header: &blobstorev1.OpenBlobHeader{Size: c.Size()}}
	if c.Size() <= smallChunk {
		first.Data = make([]byte, c.Size())
		if _, err := io.ReadFull(c, first.Data); err != nil {
			return registry.CutOff(err)
		}
		return stream.Send(first)
	}
	if err := stream.Send(first); err != nil {
		return err
	}
	sent := int64(0)
	out := pourer{
		send: func(ch *chunk) error {
			sent += int64(ch.len())
			return stream.SendMsg(ch)
		},
		stop:  stream.Context().Done(),
		pool:  s.pool,
		flush: s.limits.flush,
	}
	readErr, sendErr := out.pour(c)
	switch {
	case readErr != nil:
		return registry.CutOff(readErr)
	case sendErr != nil:
		return sendErr
	case stream.Context().Err() != nil:
		return stream.Context().Err()
	case sent != c.Size():
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (s *blobsServer) StartUpload(ctx context.Context, req *blobstorev1.StartUploadRequest) (*blobstorev1.StartUploadResponse, error) {
	alg := registry.Algorithm(req.GetAlgorithm())
	if alg != "" {
		var err error
		if alg, err = registry.ParseAlgorithm(req.GetAlgorithm()); err != nil {
			return nil, err
		}
	}
	u, err := s.blobs.Start(ctx, registry.Pool(req.GetPool()), alg)
	if err != nil {
		return nil, err
	}
	return &blobstorev1.StartUploadResponse{Upload: uploadToWire(u)}, nil
}

func (s *blobsServer) AppendUpload(stream grpc.ClientStreamingServer[blobstorev1.AppendUploadRequest, blobstorev1.AppendUploadResponse]) error {
	in := &inflow{stream: stream, cur: chunk{rest: new(blobstorev1.AppendUploadRequest)}}
	defer in.close()
	if err := in.begin(); err != nil {
		return err
	}
	first := in.cur.rest.(*blobstorev1.AppendUploadRequest)
	u, err := parseUpload(first.GetHeader().GetUpload())
	if err != nil {
		return err
	}
	got, err := s.blobs.Append(stream.Context(), u, in)
	if err != nil && !errors.Is(err, errSourceFailed) {
		return err
	}
	return stream.SendAndClose(&blobstorev1.AppendUploadResponse{Upload: uploadToWire(got)})
}

func (s *blobsServer) GetUpload(ctx context.Context, req *blobstorev1.GetUploadRequest) (*blobstorev1.GetUploadResponse, error) {
	u, err := parseUpload(req.GetUpload())
	if err == nil {
		u, err = s.blobs.Status(ctx, u)
	}
	if err != nil {
		return nil, err
	}
	return &blobstorev1.GetUploadResponse{Upload: uploadToWire(u)}, nil
}

func (s *blobsServer) CommitUpload(stream grpc.ClientStreamingServer[blobstorev1.CommitUploadRequest, blobstorev1.CommitUploadResponse]) error {
	in := &inflow{stream: stream, cur: chunk{rest: new(blobstorev1.CommitUploadRequest)}}
	defer in.close()
	if err := in.begin(); err != nil {
		return err
	}
	first := in.cur.rest.(*blobstorev1.CommitUploadRequest)
	u, err := parseUpload(first.GetHeader().GetUpload())
	if err != nil {
		return err
	}
	want, err := registry.ParseDigest(first.GetHeader().GetDigest())
	if err != nil {
		return err
	}
	got, err := s.blobs.Commit(stream.Context(), u, in, want)
	if errors.Is(err, errSourceFailed) {
		return registry.ErrUploadInvalid.With("the sender could not read all bytes")
	}
	if err != nil {
		return err
	}
	return stream.SendAndClose(&blobstorev1.CommitUploadResponse{Stored: storedToWire(got)})
}

func (s *blobsServer) AbortUpload(ctx context.Context, req *blobstorev1.AbortUploadRequest) (*blobstorev1.AbortUploadResponse, error) {
	u, err := parseUpload(req.GetUpload())
	if err == nil {
		err = s.blobs.Abort(ctx, u)
	}
	if err != nil {
		return nil, err
	}
	return &blobstorev1.AbortUploadResponse{}, nil
}

func (s *blobsServer) RemoveBlob(ctx context.Context, req *blobstorev1.RemoveBlobRequest) (*blobstorev1.RemoveBlobResponse, error) {
	stored, err := parseStored(req.GetStored())
	if err == nil {
		err = s.blobs.Remove(ctx, stored)
	}
	if err != nil {
		return nil, err
	}
	return &blobstorev1.RemoveBlobResponse{}, nil
}

func (s *blobsServer) VerifyBlob(req *blobstorev1.VerifyBlobRequest, stream grpc.ServerStreamingServer[blobstorev1.VerifyBlobResponse]) error {
	stored, err := parseStored(req.GetStored())
	if err != nil {
		return err
	}
	ctx, stop := beat(stream.Context(), s.limits.beat, func() error { return stream.Send(&blobstorev1.VerifyBlobResponse{}) })
	defer stop()
	return s.blobs.Verify(ctx, stored, req.GetRate())
}

func (s *blobsServer) ListCopies(ctx context.Context, req *blobstorev1.ListCopiesRequest) (*blobstorev1.ListCopiesResponse, error) {
	var after *registry.Stored
	if req.GetAfter() != nil {
		stored, err := parseStored(req.GetAfter())
		if err != nil {
			return nil, err
		}
		after = &stored
	}
	list, err := s.blobs.Copies(ctx, registry.Pool(req.GetPool()), after, int(req.GetLimit()))
	if err != nil {
		return nil, err
	}
	resp := &blobstorev1.ListCopiesResponse{Copies: make([]*blobstorev1.Stored, len(list))}
	for i, c := range list {
		resp.Copies[i] = storedToWire(c)
	}
	return resp, nil
}

func (s *blobsServer) PresignBlob(ctx context.Context, req *blobstorev1.PresignBlobRequest) (*blobstorev1.PresignBlobResponse, error) {
	stored, err := parseStored(req.GetStored())
	if err != nil {
		return nil, err
	}
	p, ok := s.blobs.(registry.Presigner)
	if !ok {
		return nil, registry.ErrUnsupported
	}
	url, err := p.Presign(ctx, stored)
	if err != nil {
		return nil, err
	}
	return &blobstorev1.PresignBlobResponse{Url: text(url)}, nil
}

func (s *blobsServer) Check(ctx context.Context, _ *blobstorev1.CheckRequest) (*blobstorev1.CheckResponse, error) {
	h, err := s.blobs.Check(ctx)
	if err != nil {
		return nil, err
	}
	resp := &blobstorev1.CheckResponse{ReadOnly: text(h.ReadOnly), Pressure: h.Pressure, ByPool: h.Pools != nil}
	for _, p := range slices.Sorted(maps.Keys(h.Pools)) {
		resp.Pools = append(resp.Pools, &blobstorev1.PoolPressure{Pool: text(string(p)), Pressure: h.Pools[p]})
	}
	return resp, nil
}
