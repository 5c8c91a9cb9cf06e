package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"

	scannerv1 "github.com/berth-registry/berth/proto/gen/berth/scanner/v1"
	"github.com/berth-registry/berth/registry"
)

// NewScans returns the Scans that is served at the other end of conn. Make conn with
// [Dial].
func NewScans(conn grpc.ClientConnInterface) registry.Scans {
	return &scans{scannerv1.NewScanServiceClient(conn), clientLimits()}
}

// scans implements registry.Scans.
type scans struct {
	client scannerv1.ScanServiceClient
	limits limits
}

// scanTime bounds calls that wait for a scan, or for a database.
const scanTime = 2 * time.Minute

func digestsToWire(all []registry.Digest) []string {
	out := make([]string, len(all))
	for i, d := range all {
		out[i] = text(string(d))
	}
	return out
}

func countsFromWire(all []int64) (c registry.SeverityCounts) {
	copy(c[:], all)
	return c
}

func scanStatusFromWire(s *scannerv1.Status) registry.ScanStatus {
	return registry.ScanStatus{
		Digest: registry.Digest(s.GetDigest()), State: registry.ScanState(s.GetState()), Reason: s.GetReason(),
		Counts: countsFromWire(s.GetCounts()), DB: s.GetDb(), At: s.GetAtUs(), Packages: s.GetPackages(), OS: s.GetOs(),
	}
}

func (s *scans) ScanStatus(ctx context.Context, repo registry.Name, d registry.Digest) (registry.ScanStatus, error) {
	resp, err := unary(ctx, s.limits, s.limits.read, true, s.client.GetStatus, &scannerv1.GetStatusRequest{Repository: text(string(repo)), Digest: text(string(d))})
	return scanStatusFromWire(resp.GetStatus()), err
}

func (s *scans) ScanStatuses(ctx context.Context, images []registry.Digest) ([]registry.ScanStatus, error) {
	resp, err := unary(ctx, s.limits, s.limits.read, true, s.client.ListStatuses, &scannerv1.ListStatusesRequest{Digests: digestsToWire(images)})
	if err != nil {
		return nil, err
	}
	all := make([]registry.ScanStatus, len(resp.GetStatuses()))
	for i, st := range resp.GetStatuses() {
		all[i] = scanStatusFromWire(st)
	}
	return all, nil
}

func (s *scans) Findings(ctx context.Context, d registry.Digest, q registry.FindingQuery) (registry.FindingPage, error) {
	return s.FindingsDiff(ctx, []registry.Digest{d}, nil, q)
}

func (s *scans) FindingsDiff(ctx context.Context, more, less []registry.Digest, q registry.FindingQuery) (registry.FindingPage, error) {
	resp, err := unary(ctx, s.limits, s.limits.read, true, s.client.ListFindings, &scannerv1.ListFindingsRequest{
		In: digestsToWire(more), NotIn: digestsToWire(less), Search: text(q.Search), Exclude: text(q.Exclude),
		Severity: text(q.Severity), Sort: text(string(q.Sort)), Offset: int64(q.Offset), Limit: int64(q.Limit),
	})
	if err != nil {
		return registry.FindingPage{}, err
	}
	page := registry.FindingPage{Items: make([]registry.ScanFinding, len(resp.GetFindings())), Total: resp.GetTotal(), Counts: countsFromWire(resp.GetCounts())}
	for i, f := range resp.GetFindings() {
		packages := make([]registry.FindingPackage, len(f.GetPackages()))
		for j, p := range f.GetPackages() {
			packages[j] = registry.FindingPackage{Name: p.GetName(), Path: p.GetPath(), Version: p.GetVersion(), Fixed: p.GetFixed(), Layer: registry.Digest(p.GetLayer())}
		}
		page.Items[i] = registry.ScanFinding{
			ID: f.GetId(), Severity: registry.Severity(min(max(f.GetSeverity(), 0), int32(registry.SeverityCritical))), Title: f.GetTitle(), //nolint:gosec // 0 to 4
			Description: f.GetDescription(), Reference: f.GetReference(), Packages: packages,
		}
	}
	return page, nil
}

func (s *scans) AffectedImages(ctx context.Context, id string, p registry.Page[registry.Digest]) (registry.List[registry.Digest], error) {
	resp, err := unary(ctx, s.limits, s.limits.read, true, s.client.ListAffected,
		&scannerv1.ListAffectedRequest{Id: text(id), After: text(string(p.After)), Limit: size32(p.Limit)})
	list := registry.List[registry.Digest]{More: resp.GetMore()}
	for _, d := range resp.GetDigests() {
		list.Items = append(list.Items, registry.Digest(d))
	}
	return list, err
}

func (s *scans) AffectedOf(ctx context.Context, id string, images []registry.Digest) ([]registry.Affection, error) {
	resp, err := unary(ctx, s.limits, s.limits.read, true, s.client.CheckAffected, &scannerv1.CheckAffectedRequest{Id: text(id), Digests: digestsToWire(images)})
	if err != nil {
		return nil, err
	}
	all := make([]registry.Affection, len(resp.GetAffections()))
	for i, a := range resp.GetAffections() {
		all[i] = registry.Affection(a)
	}
	return all, nil
}

func (s *scans) SBOM(ctx context.Context, repo registry.Name, d registry.Digest, f registry.SBOMFormat) ([]byte, error) {
	resp, err := unary(ctx, s.limits, scanTime, true, s.client.GetSBOM,
		&scannerv1.GetSBOMRequest{Repository: text(string(repo)), Digest: text(string(d)), Format: text(string(f))})
	return resp.GetSbom(), err
}

func (s *scans) AttachSBOM(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, f registry.SBOMFormat) (registry.Digest, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return "", err
	}
	resp, err := unary(ctx, s.limits, scanTime, false, s.client.AttachSBOM,
		&scannerv1.AttachSBOMRequest{Actor: actor, Repository: text(string(repo)), Digest: text(string(d)), Format: text(string(f))})
	return registry.Digest(resp.GetDigest()), err
}

func (s *scans) ScanNow(ctx context.Context, repo registry.Name, d registry.Digest) error {
	_, err := unary(ctx, s.limits, s.limits.write, true, s.client.ScanNow, &scannerv1.ScanNowRequest{Repository: text(string(repo)), Digest: text(string(d))})
	return err
}

func scanDBFromWire(d *scannerv1.DB) registry.ScanDB {
	return registry.ScanDB{Version: d.GetVersion(), Updated: d.GetUpdatedUs(), Next: d.GetNextUs(), Loaded: d.GetLoadedUs(), Source: d.GetSource(), Error: d.GetError()}
}

func (s *scans) ScanQueue(ctx context.Context) (registry.ScanQueue, error) {
	resp, err := unary(ctx, s.limits, s.limits.read, true, s.client.GetQueue, &scannerv1.GetQueueRequest{})
	q := registry.ScanQueue{
		DB: scanDBFromWire(resp.GetDb()), Waiting: resp.GetWaiting(), Stale: resp.GetStale(), Done: resp.GetDone(),
		Failed: resp.GetFailed(), Unsupported: resp.GetUnsupported(),
	}
	for _, r := range resp.GetRunning() {
		q.Running = append(q.Running, registry.RunningScan{
			Digest: registry.Digest(r.GetDigest()), Repository: registry.Name(r.GetRepository()), Layers: r.GetLayers(),
			LayersDone: r.GetLayersDone(), Bytes: r.GetBytes(), Since: r.GetSinceUs(),
		})
	}
	return q, err
}

func (s *scans) UpdateDB(ctx context.Context) (registry.ScanDB, error) {
	resp, err := unary(ctx, s.limits, scanTime, false, s.client.UpdateDB, &scannerv1.UpdateDBRequest{})
	return scanDBFromWire(resp.GetDb()), err
}

func (s *scans) ImportDB(ctx context.Context, r io.Reader) (db registry.ScanDB, err error) {
	// The server unpacks and looks at all of it before it answers.
	l := s.limits
	l.progress = scanTime
	var source error
	err = watch(ctx, l, func(ctx context.Context, p *patience) error {
		var stream grpc.ClientStreamingClient[scannerv1.ImportDBRequest, scannerv1.ImportDBResponse]
		err := p.during(func() (err error) {
			stream, err = s.client.ImportDB(ctx)
			return err
		})
		if err != nil {
			return err
		}
		buf := make([]byte, mirrorChunk)
		for {
			n, readErr := io.ReadFull(r, buf)
			if n > 0 {
				// An error of Send is io.EOF; what the server says comes below.
				if err := p.during(func() error { return stream.Send(&scannerv1.ImportDBRequest{Data: buf[:n]}) }); err != nil {
					break
				}
			}
			if readErr == io.EOF || errors.Is(readErr, io.ErrUnexpectedEOF) {
				break
			}
			if readErr != nil {
				source = fmt.Errorf("reading the database: %w", readErr)
				return source
			}
		}
		return p.during(func() error {
			resp, err := stream.CloseAndRecv()
			db = scanDBFromWire(resp.GetDb())
			return err
		})
	})
	if source != nil {
		return registry.ScanDB{}, source
	}
	return db, err
}

func (s *scans) Check(ctx context.Context) (registry.Health, error) {
	_, err := unary(ctx, s.limits, s.limits.read, true, s.client.Check, &scannerv1.CheckRequest{})
	return registry.Health{}, err
}
