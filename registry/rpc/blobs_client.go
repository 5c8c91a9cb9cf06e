package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/daemon"
)

// NewBlobs returns the Blobs that is served at the other end of conn. Make conn
// with [Dial].
func NewBlobs(conn grpc.ClientConnInterface) registry.Blobs {
	return newBlobs(conn, clientLimits(), newPool())
}

func newBlobs(conn grpc.ClientConnInterface, l limits, pool mem.BufferPool) *blobs {
	return &blobs{
		client: blobstorev1.NewBlobServiceClient(conn), journal: blobstorev1.NewJournalServiceClient(conn), layouts: blobstorev1.NewLayoutServiceClient(conn),
		limits: l, pool: pool, slots: newSlots(daemon.MemoryLimit()),
	}
}

// blobs implements registry.Blobs.
type blobs struct {
	client blobstorev1.BlobServiceClient
	// These are the same server's.
	journal blobstorev1.JournalServiceClient
	layouts blobstorev1.LayoutServiceClient
	limits  limits
	pool    mem.BufferPool
	slots   slots
}

func (b *blobs) Open(ctx context.Context, s registry.Stored, r registry.Range) (registry.Content, error) {
	req := &blobstorev1.OpenBlobRequest{Stored: storedToWire(s), Offset: r.Offset, Length: r.Length, Verify: r.Verify}
	size := s.Size
	if r.Length >= 0 {
		size = min(size, r.Length)
	}
	release, err := b.slots.take(ctx, size)
	if err != nil {
		return nil, err
	}
	var c *content
	err = repeat(ctx, b.limits, true, func() (err error) {
		c, err = openContent(ctx, b, req)
		return err
	})
	if err != nil {
		release()
		return nil, fromStatus(ctx, err)
	}
	c.release = release
	return c, nil
}

func (b *blobs) Start(ctx context.Context, p registry.Pool, alg registry.Algorithm) (registry.Upload, error) {
	resp, err := unary(ctx, b.limits, b.limits.write, false, b.client.StartUpload,
		&blobstorev1.StartUploadRequest{Pool: text(string(p)), Algorithm: text(string(alg))})
	return uploadFromWire(resp.GetUpload()), err
}

func (b *blobs) Status(ctx context.Context, u registry.Upload) (registry.Upload, error) {
	resp, err := unary(ctx, b.limits, b.limits.read, true, b.client.GetUpload,
		&blobstorev1.GetUploadRequest{Upload: uploadToWire(u)})
	if err != nil {
		return u, err
	}
	return uploadFromWire(resp.GetUpload()), nil
}

func (b *blobs) Abort(ctx context.Context, u registry.Upload) error {
	_, err := unary(ctx, b.limits, b.limits.write, false, b.client.AbortUpload,
		&blobstorev1.AbortUploadRequest{Upload: uploadToWire(u)})
	return err
}

func (b *blobs) Remove(ctx context.Context, s registry.Stored) error {
	_, err := unary(ctx, b.limits, b.limits.write, true, b.client.RemoveBlob, // gone is gone
		&blobstorev1.RemoveBlobRequest{Stored: storedToWire(s)})
	return err
}

func (b *blobs) Copies(ctx context.Context, p registry.Pool, after *registry.Stored, limit int) ([]registry.Stored, error) {
	req := &blobstorev1.ListCopiesRequest{Pool: text(string(p)), Limit: size32(limit)}
	if after != nil {
		req.After = storedToWire(*after)
	}
	resp, err := unary(ctx, b.limits, b.limits.read, true, b.client.ListCopies, req)
	if err != nil {
		return nil, err
	}
	list := make([]registry.Stored, len(resp.GetCopies()))
	for i, s := range resp.GetCopies() {
		list[i] = storedFromWire(s)
	}
	return list, nil
}

// Presign implements [registry.Presigner]. A server that can't says so.
func (b *blobs) Presign(ctx context.Context, s registry.Stored) (string, error) {
	resp, err := unary(ctx, b.limits, b.limits.read, true, b.client.PresignBlob,
		&blobstorev1.PresignBlobRequest{Stored: storedToWire(s)})
	return resp.GetUrl(), err
}

func (b *blobs) Check(ctx context.Context) (registry.Health, error) {
	resp, err := unary(ctx, b.limits, b.limits.read, true, b.client.Check, &blobstorev1.CheckRequest{})
	h := registry.Health{ReadOnly: resp.GetReadOnly(), Pressure: resp.GetPressure()}
	if resp.GetByPool() {
		h.Pools = make(map[registry.Pool]float64, len(resp.GetPools()))
		for _, p := range resp.GetPools() {
			h.Pools[registry.Pool(p.GetPool())] = p.GetPressure()
		}
	}
	return h, err
}

// Verify has no deadline but waits for signs of life.
func (b *blobs) Verify(ctx context.Context, s registry.Stored, rate int64) error {
	return watch(ctx, b.limits, func(ctx context.Context, p *patience) error {
		stream, err := b.client.VerifyBlob(ctx, &blobstorev1.VerifyBlobRequest{Stored: storedToWire(s), Rate: rate})
		for err == nil {
			err = p.during(func() error {
				_, err := stream.Recv()
				return err
			})
		}
		return endOfStream(err)
	})
}
