package search

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
)

// What zot says, in its words.
var (
	errNoCVE = registry.ErrUnsupported.With("search: CVE search is disabled")
	errNoDB  = registry.ErrUnavailable.With("cve-db is not present")
)

// maxCVE is the largest page of vulnerabilities.
const maxCVE = 4096

// How long a query waits for a scan, and between two looks at it.
const (
	scanTime  = 20 * time.Second
	scanPause = 100 * time.Millisecond
)

// cve answers the queries about vulnerabilities.
func (s *session) cve(ctx context.Context, f *request) (any, error) {
	if s.h.scans == nil {
		return nil, errNoCVE
	}
	switch f.Name {
	case "CVEListForImage":
		return s.cveOfImage(ctx, f)
	case "CVEDiffListForImages":
		return s.cveDiff(ctx, f)
	case "ImageListForCVE":
		return s.affected(ctx, f)
	case "ImageListWithCVEFixed":
		return s.fixed(ctx, f)
	}
	return nil, nil
}

// findingQuery reads the arguments that select vulnerabilities.
func findingQuery(f *request) (registry.FindingQuery, error) {
	p, err := pageOf(f, registry.ByRelevance)
	if err != nil {
		return registry.FindingQuery{}, err
	}
	if p.limit > maxCVE {
		return registry.FindingQuery{}, registry.ErrParameterInvalid.With("a page has at most %d vulnerabilities", maxCVE)
	}
	q := registry.FindingQuery{Search: f.text("searchedCVE"), Exclude: f.text("excludedCVE"), Severity: f.text("severity"), Offset: p.offset, Limit: p.limit}
	if q.Limit == 0 {
		q.Limit = maxCVE
	}
	in, _ := f.args["requestedPage"].(map[string]any)
	switch by := textOf(in, "sortBy"); by {
	case "", "SEVERITY":
	case "ALPHABETIC_ASC":
		q.Sort = registry.ByID
	case "ALPHABETIC_DSC":
		q.Sort = registry.ByIDDown
	default:
		return q, registry.ErrParameterInvalid.With("vulnerabilities are sorted by SEVERITY, ALPHABETIC_ASC or ALPHABETIC_DSC, and not by %.40s", by)
	}
	return q, nil
}

// scanned waits until an image is scanned, as zot's clients expect. What is known of one
// that is scanned again will do.
func (s *session) scanned(ctx context.Context, repo registry.Name, d registry.Digest) error {
	bounded, cancel := context.WithTimeout(ctx, scanTime)
	defer cancel()
	for {
		st, err := s.h.scans.ScanStatus(ctx, repo, d)
		if err != nil || st.Known() {
			return err
		}
		switch st.State {
		case registry.ScanDone:
			return errNoDB
		case registry.ScanFailed, registry.ScanUnsupported:
			return registry.ErrUnsupported.With("the image can't be scanned: %.300s", st.Reason)
		}
		select {
		case <-bounded.Done():
			if err := ctx.Err(); err != nil {
				return err
			}
			return registry.ErrUnavailable.With("the image is being scanned: ask again")
		case <-time.After(scanPause):
		}
	}
}

func (s *session) cveOfImage(ctx context.Context, f *request) (any, error) {
	q, err := findingQuery(f)
	if err != nil {
		return nil, err
	}
	i, err := s.image(ctx, f.text("image"), nil)
	if err != nil {
		return nil, err
	}
	if err := s.scanned(ctx, i.Repository, i.Digest); err != nil {
		return nil, err
	}
	found, err := s.h.scans.Findings(ctx, i.Digest, q)
	if err != nil {
		return nil, err
	}
	o := findings(found)
	o["Tag"] = string(i.Tag)
	if i.Tag == "" {
		o["Tag"] = i.Digest.String()
	}
	return o, nil
}

// findings is a page of vulnerabilities.
func findings(p registry.FindingPage) fields {
	list := []any{}
	for _, x := range p.Items {
		packages := []any{}
		for _, k := range x.Packages {
			fixed := k.Fixed
			if fixed == "" {
				fixed = "Not Specified"
			}
			packages = append(packages, fields{"Name": k.Name, "PackagePath": k.Path, "InstalledVersion": k.Version, "FixedVersion": fixed})
		}
		list = append(list, fields{
			"Id": x.ID, "Title": x.Title, "Description": x.Description, "Reference": registry.WebAddress(x.Reference), "Severity": x.Severity.String(), "PackageList": packages,
		})
	}
	return fields{"CVEList": list, "Summary": counts(p.Counts), "Page": pageInfo(int(p.Total), len(list))}
}

// counts is an ImageVulnerabilitySummary of an image that is scanned.
func counts(c registry.SeverityCounts) fields {
	return fields{
		"MaxSeverity": c.Max(), "Count": c.Total(), "UnknownCount": c[registry.SeverityUnknown], "LowCount": c[registry.SeverityLow],
		"MediumCount": c[registry.SeverityMedium], "HighCount": c[registry.SeverityHigh], "CriticalCount": c[registry.SeverityCritical],
	}
}

// notScanned is one of an image that nobody has scanned.
var notScanned = fields{"MaxSeverity": "", "Count": 0, "UnknownCount": 0, "LowCount": 0, "MediumCount": 0, "HighCount": 0, "CriticalCount": 0}

// look asks for the scans of images whose vulnerabilities will be told.
func (s *session) look(ctx context.Context, names map[string]bool, images ...*registry.FoundImage) error {
	if s.h.scans == nil || !names["Vulnerabilities"] {
		return nil
	}
	var all []registry.Digest
	for _, i := range images {
		all = append(all, i.Digest)
		for _, m := range i.Manifests {
			all = append(all, m.Digest)
		}
	}
	for part := range slices.Chunk(all, registry.MaxScanned) {
		list, err := s.h.scans.ScanStatuses(ctx, part)
		if err != nil {
			return err
		}
		for _, st := range list {
			if st.Known() {
				s.counts[st.Digest] = st.Counts
			}
		}
	}
	return nil
}

// vulnerabilities counts what was found in an image.
func (s *session) vulnerabilities(d registry.Digest) any {
	if c, ok := s.counts[d]; ok {
		return counts(c)
	}
	return notScanned
}

// cveDiff answers CVEDiffListForImages.
func (s *session) cveDiff(ctx context.Context, f *request) (any, error) {
	q, err := findingQuery(f)
	if err != nil {
		return nil, err
	}
	var digests [2][]registry.Digest
	var names [2]any
	for n, arg := range []string{"minuend", "subtrahend"} {
		in, _ := f.args[arg].(map[string]any)
		if names[n], digests[n], err = s.identify(ctx, in); err != nil {
			return nil, err
		}
	}
	found, err := s.h.scans.FindingsDiff(ctx, digests[0], digests[1], q)
	if err != nil {
		return nil, err
	}
	o := findings(found)
	o["Minuend"], o["Subtrahend"] = names[0], names[1]
	return o, nil
}

// identify finds the image that an ImageInput names, and scans it: all of an index, or
// the one for a platform or with a digest.
func (s *session) identify(ctx context.Context, in map[string]any) (name any, digests []registry.Digest, err error) {
	repo, tag := textOf(in, "Repo"), textOf(in, "Tag")
	i, err := s.image(ctx, repo+":"+tag, map[string]bool{"Manifests": true})
	if err != nil {
		return nil, nil, err
	}
	digests = []registry.Digest{i.Digest}
	o := fields{"Repo": repo, "Tag": tag, "Digest": i.Digest.String()}
	platform, _ := in["Platform"].(map[string]any)
	if digest := textOf(in, "Digest"); digest != "" || platform != nil {
		all := (imageValue{i, s}).manifests()
		at := slices.IndexFunc(all, func(m registry.FoundManifest) bool {
			if digest != "" {
				return m.Digest.String() == digest
			}
			return isFor(m, platform, archOf)
		})
		if at < 0 && digest == "" { // who names no variant means any
			at = slices.IndexFunc(all, func(m registry.FoundManifest) bool {
				return isFor(m, platform, func(c *registry.ImageConfig) string { return c.Architecture })
			})
		}
		if at < 0 && digest != i.Digest.String() {
			return nil, nil, registry.ErrManifestUnknown.With("can't find image: %.200s:%.128s has none for that digest or platform", repo, tag)
		}
		if at >= 0 {
			digests[0] = all[at].Digest
			o["Digest"] = digests[0].String()
			if c := all[at].Config; c != nil {
				o["Platform"] = fields{"Os": c.OS, "Arch": archOf(c)}
			}
		}
	}
	return o, digests, s.scanned(ctx, i.Repository, digests[0])
}

// isFor reports whether an image is for a platform, by what arch says of its architecture.
func isFor(m registry.FoundManifest, platform map[string]any, arch func(*registry.ImageConfig) string) bool {
	return m.Config != nil && strings.EqualFold(m.Config.OS, textOf(platform, "Os")) && strings.EqualFold(arch(m.Config), textOf(platform, "Arch"))
}

// affected answers ImageListForCVE.
func (s *session) affected(ctx context.Context, f *request) (any, error) {
	var all []registry.Digest
	for p := (registry.Page[registry.Digest]{Limit: registry.MaxSearch}); ; {
		list, err := s.h.scans.AffectedImages(ctx, f.text("id"), p)
		if err != nil {
			return nil, err
		}
		all = append(all, list.Items...)
		if !list.More || len(list.Items) == 0 || len(all) >= registry.MaxSearchManifests {
			break
		}
		p.After = list.Items[len(list.Items)-1]
	}
	if len(all) == 0 {
		return imagesPage(s, registry.Found[registry.FoundImage]{}), nil
	}
	return s.imageList(ctx, f, registry.ImageQuery{Manifests: all[:min(len(all), registry.MaxSearchManifests)]}, registry.ByUpdate)
}

// fixed answers ImageListWithCVEFixed: images without the vulnerability that were made
// after the first one that has it, or all without it if none has.
func (s *session) fixed(ctx context.Context, f *request) (any, error) {
	p, err := pageOf(f, registry.ByUpdate)
	if err != nil {
		return nil, err
	}
	repo, err := registry.ParseName(f.text("image"))
	if err != nil {
		return imagesPage(s, registry.Found[registry.FoundImage]{}), nil // there is none of that name
	}
	names := f.names()
	names["LastUpdated"] = true
	found, err := s.images(ctx, registry.ImageQuery{Repository: repo, Filter: filterOf(f)}, page{order: p.order}, names)
	if err != nil {
		return nil, err
	}
	var digests []registry.Digest
	for _, i := range found.Items {
		digests = append(digests, i.Digest)
	}
	if len(digests) == 0 {
		return imagesPage(s, found), nil
	}
	is, err := s.h.scans.AffectedOf(ctx, f.text("id"), digests)
	if err != nil {
		return nil, err
	}
	if len(is) != len(digests) {
		return nil, errors.New("the scanner has told of another number of images")
	}
	first := int64(0)
	for n, i := range found.Items {
		if is[n] == registry.IsAffected && (first == 0 || i.Created < first) {
			first = i.Created
		}
	}
	var clean []registry.FoundImage
	for n, i := range found.Items {
		if is[n] == registry.NotAffected && i.Created >= first {
			clean = append(clean, i)
		}
	}
	total := len(clean)
	clean = clean[min(p.offset, total):]
	if p.limit > 0 {
		clean = clean[:min(p.limit, len(clean))]
	}
	return imagesPage(s, registry.Found[registry.FoundImage]{Items: clean, Total: total}), nil
}
