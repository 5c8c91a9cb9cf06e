package rest

import (
	"context"
	"strconv"

	apiv1 "github.com/berth-registry/berth/proto/gen/berth/api/v1"
	"github.com/berth-registry/berth/registry"
)

// errNoScans is the answer where nobody scans.
var errNoScans = registry.ErrUnsupported.With("images are not scanned here: the config file has no extensions.search.cve, or the program no scanner")

// administer returns nil for administrators.
func (s *server) administer(ctx context.Context, of string) error {
	a := actor(ctx)
	may, err := s.catalog.Allowed(ctx, a, "", registry.ActAdmin)
	if err == nil && !may.Has(registry.ActAdmin) {
		err = a.Refusal("only administrators (http.accessControl.adminPolicy) look after " + of)
	}
	return err
}

// scanner returns what scans, for administrators.
func (s *server) scanner(ctx context.Context) (registry.Scans, error) {
	err := s.administer(ctx, "scans")
	if err == nil && s.scans == nil {
		err = errNoScans
	}
	return s.scans, err
}

// image returns the manifest that a request is about, which the actor may read.
func (s *server) image(ctx context.Context, repository, reference string) (registry.Name, registry.Digest, error) {
	repo, err := registry.ParseName(repository)
	if err != nil {
		return "", "", err
	}
	ref, err := registry.ParseReference(reference)
	if err != nil {
		return "", "", err
	}
	m, err := s.catalog.Manifest(ctx, actor(ctx), repo, registry.ManifestQuery{Ref: ref, NoBytes: true})
	return repo, m.Digest, err
}

// scanned is image, where images are scanned.
func (s *server) scanned(ctx context.Context, repository, reference string) (registry.Name, registry.Digest, error) {
	repo, d, err := s.image(ctx, repository, reference)
	if err == nil && s.scans == nil {
		err = errNoScans
	}
	return repo, d, err
}

func (s *server) GetScans(ctx context.Context, _ *apiv1.GetScansRequest) (*apiv1.GetScansResponse, error) {
	scans, err := s.scanner(ctx)
	if err != nil {
		return nil, err
	}
	q, err := scans.ScanQueue(ctx)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.GetScansResponse{
		Database: scanDatabase(q.DB), Waiting: q.Waiting, Stale: q.Stale, Done: q.Done, Failed: q.Failed, Unsupported: q.Unsupported,
	}
	for _, r := range q.Running {
		resp.Running = append(resp.Running, &apiv1.RunningScan{
			Digest: string(r.Digest), Repository: string(r.Repository), Layers: r.Layers, LayersDone: r.LayersDone, Bytes: r.Bytes, Since: moment(r.Since),
		})
	}
	return resp, nil
}

func scanDatabase(d registry.ScanDB) *apiv1.ScanDatabase {
	return &apiv1.ScanDatabase{Version: d.Version, Made: moment(d.Updated), Next: moment(d.Next), Loaded: moment(d.Loaded), Source: d.Source, Error: d.Error}
}

func (s *server) UpdateScanDatabase(ctx context.Context, _ *apiv1.UpdateScanDatabaseRequest) (*apiv1.UpdateScanDatabaseResponse, error) {
	scans, err := s.scanner(ctx)
	if err != nil {
		return nil, err
	}
	db, err := scans.UpdateDB(ctx)
	if err != nil {
		return nil, err
	}
	return &apiv1.UpdateScanDatabaseResponse{Database: scanDatabase(db)}, nil
}

func (s *server) ListAffected(ctx context.Context, req *apiv1.ListAffectedRequest) (*apiv1.ListAffectedResponse, error) {
	scans, err := s.scanner(ctx)
	if err != nil {
		return nil, err
	}
	if req.GetVulnerability() == "" {
		return nil, registry.ErrParameterInvalid.With("vulnerability is missing: an identifier such as CVE-2024-3094")
	}
	p, err := page[registry.Digest](req.Limit, req.GetAfter())
	if err != nil {
		return nil, err
	}
	list, err := scans.AffectedImages(ctx, req.GetVulnerability(), p)
	if err != nil {
		return nil, err
	}
	digests, next := entries(list)
	return &apiv1.ListAffectedResponse{Digests: digests, Next: next}, nil
}

func (s *server) GetScan(ctx context.Context, req *apiv1.GetScanRequest) (*apiv1.GetScanResponse, error) {
	repo, d, err := s.scanned(ctx, req.GetRepository(), req.GetReference())
	if err != nil {
		return nil, err
	}
	st, err := s.scans.ScanStatus(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	return &apiv1.GetScanResponse{Scan: scan(st)}, nil
}

func scan(st registry.ScanStatus) *apiv1.Scan {
	return &apiv1.Scan{
		Digest: string(st.Digest), State: string(st.State), Reason: st.Reason, Database: st.DB, Scanned: moment(st.At), Packages: st.Packages, Os: st.OS,
		Counts: &apiv1.VulnerabilityCounts{
			Unknown: st.Counts[registry.SeverityUnknown], Low: st.Counts[registry.SeverityLow], Medium: st.Counts[registry.SeverityMedium],
			High: st.Counts[registry.SeverityHigh], Critical: st.Counts[registry.SeverityCritical],
		},
	}
}

func (s *server) StartScan(ctx context.Context, req *apiv1.StartScanRequest) (*apiv1.StartScanResponse, error) {
	scans, err := s.scanner(ctx)
	if err != nil {
		return nil, err
	}
	repo, d, err := s.image(ctx, req.GetRepository(), req.GetReference())
	if err == nil {
		err = scans.ScanNow(ctx, repo, d)
	}
	if err != nil {
		return nil, err
	}
	return &apiv1.StartScanResponse{Digest: string(d)}, nil
}

func (s *server) ListFindings(ctx context.Context, req *apiv1.ListFindingsRequest) (*apiv1.ListFindingsResponse, error) {
	q := registry.FindingQuery{Search: req.GetSearch(), Severity: req.GetSeverity(), Sort: registry.FindingSort(req.GetSort())}
	var err error
	if q.Limit, err = limitOf(req.Limit); err != nil {
		return nil, err
	}
	if after := req.GetAfter(); after != "" {
		n, err := strconv.ParseUint(after, 10, 31)
		if err != nil {
			return nil, registry.ErrPageInvalid.With("after is no \"next\" of this list")
		}
		q.Offset = int(n)
	}
	if err := q.Check(); err != nil {
		return nil, err
	}
	repo, d, err := s.scanned(ctx, req.GetRepository(), req.GetReference())
	if err != nil {
		return nil, err
	}
	st, err := s.scans.ScanStatus(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	found, err := s.scans.Findings(ctx, d, q)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListFindingsResponse{Scan: scan(st), Total: found.Total}
	for _, f := range found.Items {
		one := &apiv1.Finding{Id: f.ID, Severity: f.Severity.String(), Title: f.Title, Description: f.Description, Url: registry.WebAddress(f.Reference)}
		for _, p := range f.Packages {
			one.Packages = append(one.Packages, &apiv1.VulnerablePackage{Name: p.Name, Version: p.Version, Fixed: p.Fixed, Path: p.Path, Layer: string(p.Layer)})
		}
		resp.Findings = append(resp.Findings, one)
	}
	if end := q.Offset + len(found.Items); len(found.Items) > 0 && int64(end) < found.Total {
		resp.Next = strconv.Itoa(end)
	}
	return resp, nil
}

// billFormat returns the format that a request asks for.
func billFormat(text string) (registry.SBOMFormat, error) {
	f := registry.SBOMFormat(text)
	if text == "" {
		f = registry.SPDX
	}
	if f.MediaType() == "" {
		return "", registry.ErrParameterInvalid.With("format must be %s or %s", registry.SPDX, registry.CycloneDX)
	}
	return f, nil
}

func (s *server) GetSBOM(ctx context.Context, req *apiv1.GetSBOMRequest) (*apiv1.GetSBOMResponse, error) {
	repo, d, err := s.scanned(ctx, req.GetRepository(), req.GetReference())
	if err != nil {
		return nil, err
	}
	f, err := billFormat(req.GetFormat())
	if err != nil {
		return nil, err
	}
	b, err := s.scans.SBOM(ctx, repo, d, f)
	if err != nil {
		return nil, err
	}
	return &apiv1.GetSBOMResponse{Digest: string(d), MediaType: f.MediaType(), Content: b}, nil
}

func (s *server) AttachSBOM(ctx context.Context, req *apiv1.AttachSBOMRequest) (*apiv1.AttachSBOMResponse, error) {
	repo, d, err := s.scanned(ctx, req.GetRepository(), req.GetReference())
	if err != nil {
		return nil, err
	}
	f, err := billFormat(req.GetFormat())
	if err != nil {
		return nil, err
	}
	made, err := s.scans.AttachSBOM(ctx, actor(ctx), repo, d, f)
	if err != nil {
		return nil, err
	}
	return &apiv1.AttachSBOMResponse{Digest: string(d), Manifest: string(made)}, nil
}
