package rpc

import (
	"context"
	"io"

	"google.golang.org/grpc"

	scannerv1 "github.com/berth-registry/berth/proto/gen/berth/scanner/v1"
	"github.com/berth-registry/berth/registry"
)

// ServeScans makes srv serve s. srv must come from [NewServer]. rights is asked what
// a client that is no service may see and start; with nil, it may nothing.
func ServeScans(srv grpc.ServiceRegistrar, s registry.Scans, rights ScanRights) {
	scannerv1.RegisterScanServiceServer(srv, &scansServer{scans: s, rights: rights})
}

// scansServer serves registry.Scans.
type scansServer struct {
	scannerv1.UnimplementedScanServiceServer
	scans  registry.Scans
	rights ScanRights
}

// parseDigests returns the digests that a request names.
func parseDigests(all []string) ([]registry.Digest, error) {
	if len(all) > registry.MaxScanned {
		return nil, registry.ErrParameterInvalid.With("%d images at a time, %d may be", len(all), registry.MaxScanned)
	}
	out := make([]registry.Digest, len(all))
	for i, d := range all {
		var err error
		if out[i], err = registry.ParseDigest(d); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func scanStatusToWire(s registry.ScanStatus) *scannerv1.Status {
	return &scannerv1.Status{
		Digest: text(string(s.Digest)), State: text(string(s.State)), Reason: text(s.Reason), Counts: s.Counts[:], Db: text(s.DB),
		AtUs: s.At, Packages: s.Packages, Os: text(s.OS),
	}
}

func (s *scansServer) GetStatus(ctx context.Context, req *scannerv1.GetStatusRequest) (*scannerv1.GetStatusResponse, error) {
	repo, d, err := namedContent(req.GetRepository(), req.GetDigest())
	if err == nil {
		err = s.reads(ctx, repo, d)
	}
	if err != nil {
		return nil, err
	}
	st, err := s.scans.ScanStatus(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	return &scannerv1.GetStatusResponse{Status: scanStatusToWire(st)}, nil
}

func (s *scansServer) ListStatuses(ctx context.Context, req *scannerv1.ListStatusesRequest) (*scannerv1.ListStatusesResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	images, err := parseDigests(req.GetDigests())
	if err != nil {
		return nil, err
	}
	all, err := s.scans.ScanStatuses(ctx, images)
	if err != nil {
		return nil, err
	}
	resp := &scannerv1.ListStatusesResponse{Statuses: make([]*scannerv1.Status, len(all))}
	for i, st := range all {
		resp.Statuses[i] = scanStatusToWire(st)
	}
	return resp, nil
}

func (s *scansServer) ListFindings(ctx context.Context, req *scannerv1.ListFindingsRequest) (*scannerv1.ListFindingsResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	more, err := parseDigests(req.GetIn())
	if err != nil {
		return nil, err
	}
	less, err := parseDigests(req.GetNotIn())
	if err != nil {
		return nil, err
	}
	page, err := s.scans.FindingsDiff(ctx, more, less, registry.FindingQuery{
		Search: req.GetSearch(), Exclude: req.GetExclude(), Severity: req.GetSeverity(), Sort: registry.FindingSort(req.GetSort()),
		Offset: int(req.GetOffset()), Limit: int(req.GetLimit()),
	})
	if err != nil {
		return nil, err
	}
	resp := &scannerv1.ListFindingsResponse{Findings: make([]*scannerv1.Finding, len(page.Items)), Total: page.Total, Counts: page.Counts[:]}
	for i, f := range page.Items {
		packages := make([]*scannerv1.Package, len(f.Packages))
		for j, p := range f.Packages {
			packages[j] = &scannerv1.Package{Name: text(p.Name), Path: text(p.Path), Version: text(p.Version), Fixed: text(p.Fixed), Layer: text(string(p.Layer))}
		}
		resp.Findings[i] = &scannerv1.Finding{
			Id: text(f.ID), Severity: int32(f.Severity), Title: text(f.Title), Description: text(f.Description), Reference: text(f.Reference), Packages: packages,
		}
	}
	return resp, nil
}

func (s *scansServer) ListAffected(ctx context.Context, req *scannerv1.ListAffectedRequest) (*scannerv1.ListAffectedResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	list, err := s.scans.AffectedImages(ctx, req.GetId(), registry.Page[registry.Digest]{After: registry.Digest(req.GetAfter()), Limit: int(req.GetLimit())})
	if err != nil {
		return nil, err
	}
	return &scannerv1.ListAffectedResponse{Digests: digestsToWire(list.Items), More: list.More}, nil
}

func (s *scansServer) CheckAffected(ctx context.Context, req *scannerv1.CheckAffectedRequest) (*scannerv1.CheckAffectedResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	images, err := parseDigests(req.GetDigests())
	if err != nil {
		return nil, err
	}
	all, err := s.scans.AffectedOf(ctx, req.GetId(), images)
	if err != nil {
		return nil, err
	}
	resp := &scannerv1.CheckAffectedResponse{Affections: make([]string, len(all))}
	for i, a := range all {
		resp.Affections[i] = string(a)
	}
	return resp, nil
}

func (s *scansServer) GetSBOM(ctx context.Context, req *scannerv1.GetSBOMRequest) (*scannerv1.GetSBOMResponse, error) {
	repo, d, err := namedContent(req.GetRepository(), req.GetDigest())
	if err == nil {
		err = s.reads(ctx, repo, d)
	}
	if err != nil {
		return nil, err
	}
	b, err := s.scans.SBOM(ctx, repo, d, registry.SBOMFormat(req.GetFormat()))
	if err != nil {
		return nil, err
	}
	return &scannerv1.GetSBOMResponse{Sbom: b}, nil
}

func (s *scansServer) AttachSBOM(ctx context.Context, req *scannerv1.AttachSBOMRequest) (*scannerv1.AttachSBOMResponse, error) {
	repo, d, err := namedContent(req.GetRepository(), req.GetDigest())
	if err == nil {
		err = s.reads(ctx, repo, d)
	}
	if err != nil {
		return nil, err
	}
	made, err := s.scans.AttachSBOM(ctx, actorOf(ctx, req.GetActor()), repo, d, registry.SBOMFormat(req.GetFormat()))
	if err != nil {
		return nil, err
	}
	return &scannerv1.AttachSBOMResponse{Digest: text(string(made))}, nil
}

func (s *scansServer) ScanNow(ctx context.Context, req *scannerv1.ScanNowRequest) (*scannerv1.ScanNowResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	repo, d, err := namedContent(req.GetRepository(), req.GetDigest())
	if err == nil {
		err = s.scans.ScanNow(ctx, repo, d)
	}
	if err != nil {
		return nil, err
	}
	return &scannerv1.ScanNowResponse{}, nil
}

func scanDBToWire(d registry.ScanDB) *scannerv1.DB {
	return &scannerv1.DB{Version: text(d.Version), UpdatedUs: d.Updated, NextUs: d.Next, LoadedUs: d.Loaded, Source: text(d.Source), Error: text(d.Error)}
}

func (s *scansServer) GetQueue(ctx context.Context, _ *scannerv1.GetQueueRequest) (*scannerv1.GetQueueResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	q, err := s.scans.ScanQueue(ctx)
	if err != nil {
		return nil, err
	}
	resp := &scannerv1.GetQueueResponse{
		Db: scanDBToWire(q.DB), Waiting: q.Waiting, Stale: q.Stale, Done: q.Done, Failed: q.Failed, Unsupported: q.Unsupported,
	}
	for _, r := range q.Running {
		resp.Running = append(resp.Running, &scannerv1.Running{
			Digest: text(string(r.Digest)), Repository: text(string(r.Repository)), Layers: r.Layers, LayersDone: r.LayersDone, Bytes: r.Bytes, SinceUs: r.Since,
		})
	}
	return resp, nil
}

func (s *scansServer) UpdateDB(ctx context.Context, _ *scannerv1.UpdateDBRequest) (*scannerv1.UpdateDBResponse, error) {
	if err := s.admit(ctx); err != nil {
		return nil, err
	}
	db, err := s.scans.UpdateDB(ctx)
	if err != nil {
		return nil, err
	}
	return &scannerv1.UpdateDBResponse{Db: scanDBToWire(db)}, nil
}

func (s *scansServer) ImportDB(stream grpc.ClientStreamingServer[scannerv1.ImportDBRequest, scannerv1.ImportDBResponse]) error {
	if err := s.admit(stream.Context()); err != nil {
		return err
	}
	db, err := s.scans.ImportDB(stream.Context(), &importReader{stream: stream})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&scannerv1.ImportDBResponse{Db: scanDBToWire(db)})
}

// importReader reads the bytes that a stream brings.
type importReader struct {
	stream grpc.ClientStreamingServer[scannerv1.ImportDBRequest, scannerv1.ImportDBResponse]
	rest   []byte
}

func (r *importReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		req, err := r.stream.Recv()
		if err == io.EOF {
			return 0, io.EOF
		}
		if err != nil {
			return 0, err
		}
		r.rest = req.GetData()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (s *scansServer) Check(ctx context.Context, _ *scannerv1.CheckRequest) (*scannerv1.CheckResponse, error) {
	if _, err := s.scans.Check(ctx); err != nil {
		return nil, err
	}
	return &scannerv1.CheckResponse{}, nil
}
