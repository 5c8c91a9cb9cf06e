package vulndb

import (
	"context"
	"fmt"
	"slices"

	tdb "github.com/aquasecurity/trivy-db/pkg/db"
	dbtypes "github.com/aquasecurity/trivy-db/pkg/types"
	ftypes "github.com/aquasecurity/trivy/pkg/fanal/types"
	"github.com/aquasecurity/trivy/pkg/scan/langpkg"
	"github.com/aquasecurity/trivy/pkg/scan/ospkg"
	"github.com/aquasecurity/trivy/pkg/types"
	"github.com/aquasecurity/trivy/pkg/vulnerability"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/scanner/contents"
)

// Lookup returns what is known of the packages of an image, each vulnerability once,
// ordered by ID, and the version of the database that knows it. The version is "" if
// there is no database.
func (d *DB) Lookup(ctx context.Context, image *contents.Image) (found []registry.ScanFinding, version string, err error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.current.Version == "" {
		return nil, "", nil
	}
	ignored, sum := d.choice.Load().ignored.current()
	err = guarded(func() error {
		found, err = d.lookup(ctx, image, ignored)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("looking up an image's packages: %w", err)
	}
	return found, d.told(d.current, sum).Version, nil
}

func (d *DB) lookup(ctx context.Context, image *contents.Image, ignored map[string]bool) ([]registry.ScanFinding, error) {
	target := types.ScanTarget{
		Name:     "image",
		OS:       ftypes.OS{Family: ftypes.OSType(image.OS.Family), Name: image.OS.Version},
		Packages: packages(image.Packages, ""),
	}
	for _, a := range image.Apps {
		target.Applications = append(target.Applications, ftypes.Application{Type: ftypes.LangType(a.Kind), FilePath: a.Path, Packages: packages(a.Packages, a.Path)})
	}
	choice := d.choice.Load()
	sources := make([]dbtypes.SourceID, len(choice.sources))
	for i, s := range choice.sources {
		sources[i] = dbtypes.SourceID(s)
	}
	o := types.ScanOptions{
		PkgTypes: types.PkgTypes, PkgRelationships: ftypes.Relationships,
		Scanners: types.Scanners{types.VulnerabilityScanner}, VulnSeveritySources: sources,
	}
	var results types.Results
	if image.OS.Family != "" && len(image.Packages) > 0 {
		r, _, err := ospkg.NewScanner().Scan(ctx, target, o)
		if err != nil && !isUnknownOS(err) {
			return nil, err
		}
		results = append(results, r)
	}
	rs, err := langpkg.NewScanner().Scan(ctx, target, o)
	if err != nil {
		return nil, err
	}
	results = append(results, rs...)
	client := vulnerability.NewClient(tdb.Config{})
	var each [][]registry.ScanFinding
	for i := range results {
		client.FillInfo(results[i].Vulnerabilities, sources)
		one := make([]registry.ScanFinding, 0, len(results[i].Vulnerabilities))
		where := ""
		if results[i].Class != types.ClassOSPkg {
			where = results[i].Target
		}
		for _, v := range results[i].Vulnerabilities {
			if ignored[v.VulnerabilityID] {
				continue
			}
			one = append(one, finding(&v, where))
		}
		each = append(each, one)
	}
	all := registry.MergeFindings(slices.Concat(each...))
	return all, nil
}

func finding(v *types.DetectedVulnerability, where string) registry.ScanFinding {
	severity, err := registry.ParseSeverity(v.Severity) //nolint:staticcheck // FillInfo puts the chosen one there
	if err != nil {
		severity = registry.SeverityUnknown
	}
	if v.PkgPath != "" {
		where = v.PkgPath
	}
	return registry.ScanFinding{
		ID: v.VulnerabilityID, Severity: severity, Title: clip(v.Title, 1<<10), Description: clip(v.Description, 16<<10), Reference: safeURL(v.PrimaryURL),
		Packages: []registry.FindingPackage{{
			Name: v.PkgName, Path: where, Version: v.InstalledVersion, Fixed: v.FixedVersion, Layer: registry.Digest(v.Layer.Digest),
		}},
	}
}

func packages(all []contents.Package, path string) ftypes.Packages {
	out := make(ftypes.Packages, len(all))
	for i, p := range all {
		out[i] = ftypes.Package{
			ID: p.Name + "@" + p.Version, Name: p.Name, Version: p.Version, Release: p.Release, Epoch: p.Epoch, Arch: p.Arch,
			SrcName: p.SourceName, SrcVersion: p.SourceVersion, SrcRelease: p.SourceRelease, SrcEpoch: p.SourceEpoch,
			FilePath: path, Layer: ftypes.Layer{Digest: string(p.Layer)}, Modularitylabel: p.Module,
		}
		if p.Foreign {
			out[i].Repository.Class = ftypes.RepositoryClassThirdParty
		}
	}
	return out
}
