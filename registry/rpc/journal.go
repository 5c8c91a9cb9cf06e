package rpc

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

// journalServer serves registry.Journal.
type journalServer struct {
	blobstorev1.UnimplementedJournalServiceServer
	journal registry.Journal
}

func (s *journalServer) AppendJournal(ctx context.Context, req *blobstorev1.AppendJournalRequest) (*blobstorev1.AppendJournalResponse, error) {
	if err := s.journal.AppendJournal(ctx, req.GetName(), req.GetContent()); err != nil {
		return nil, err
	}
	return &blobstorev1.AppendJournalResponse{}, nil
}

func (s *journalServer) ReadJournal(ctx context.Context, req *blobstorev1.ReadJournalRequest) (*blobstorev1.ReadJournalResponse, error) {
	content, err := s.journal.ReadJournal(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return &blobstorev1.ReadJournalResponse{Content: content}, nil
}

func (s *journalServer) ListJournal(ctx context.Context, req *blobstorev1.ListJournalRequest) (*blobstorev1.ListJournalResponse, error) {
	names, err := s.journal.ListJournal(ctx, req.GetAfter(), int(req.GetLimit()))
	if err != nil {
		return nil, err
	}
	return &blobstorev1.ListJournalResponse{Names: names}, nil
}

func (s *journalServer) RemoveJournal(ctx context.Context, req *blobstorev1.RemoveJournalRequest) (*blobstorev1.RemoveJournalResponse, error) {
	if err := s.journal.RemoveJournal(ctx, req.GetName()); err != nil {
		return nil, err
	}
	return &blobstorev1.RemoveJournalResponse{}, nil
}

// AppendJournal may be repeated: the same object is no other content.
func (b *blobs) AppendJournal(ctx context.Context, name string, content []byte) error {
	_, err := unary(ctx, b.limits, b.limits.write, true, b.journal.AppendJournal,
		&blobstorev1.AppendJournalRequest{Name: text(name), Content: content})
	return err
}

func (b *blobs) ReadJournal(ctx context.Context, name string) ([]byte, error) {
	resp, err := unary(ctx, b.limits, b.limits.read, true, b.journal.ReadJournal, &blobstorev1.ReadJournalRequest{Name: text(name)})
	return resp.GetContent(), err
}

func (b *blobs) ListJournal(ctx context.Context, after string, limit int) ([]string, error) {
	resp, err := unary(ctx, b.limits, b.limits.read, true, b.journal.ListJournal,
		&blobstorev1.ListJournalRequest{After: text(after), Limit: size32(limit)})
	return resp.GetNames(), err
}

func (b *blobs) RemoveJournal(ctx context.Context, name string) error {
	_, err := unary(ctx, b.limits, b.limits.write, true, b.journal.RemoveJournal, // gone is gone
		&blobstorev1.RemoveJournalRequest{Name: text(name)})
	return err
}

// exportServer serves registry.Exporter.
type exportServer struct {
	metadatav1.UnimplementedExportServiceServer
	catalog registry.Exporter
}

func (s *exportServer) Export(_ *metadatav1.ExportRequest, stream grpc.ServerStreamingServer[metadatav1.ExportResponse]) error {
	return s.catalog.Export(stream.Context(), func(part []byte) error {
		return stream.Send(&metadatav1.ExportResponse{Part: part})
	})
}

// Export has no deadline but waits for parts.
func (c *catalog) Export(ctx context.Context, part func([]byte) error) error {
	var refused error // what part returned
	err := watch(ctx, c.limits, func(ctx context.Context, p *patience) error {
		stream, err := c.export.Export(ctx, &metadatav1.ExportRequest{}, grpc.MaxCallRecvMsgSize(maxMessage))
		if err != nil {
			return err
		}
		for {
			var resp *metadatav1.ExportResponse
			err := p.during(func() (err error) {
				resp, err = stream.Recv()
				return err
			})
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if refused = part(resp.GetPart()); refused != nil {
				return refused
			}
		}
	})
	if refused != nil {
		return refused
	}
	return err
}
