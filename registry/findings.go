package registry

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
)

// maxFindingLimit is the largest [FindingQuery.Limit].
const maxFindingLimit = 4096

// Check returns [ErrParameterInvalid] if there can be no answer to q.
func (q FindingQuery) Check() error {
	if q.Offset < 0 || q.Limit < 0 || q.Limit > maxFindingLimit {
		return ErrParameterInvalid.With("offset must not be negative, limit must be 0 to %d", maxFindingLimit)
	}
	if q.Sort != BySeverity && q.Sort != ByID && q.Sort != ByIDDown {
		return ErrParameterInvalid.With("findings can't be sorted by %q", q.Sort)
	}
	if q.Severity != "" {
		_, err := ParseSeverity(q.Severity)
		return err
	}
	return nil
}

// selects reports whether q is for a finding.
func (q FindingQuery) selects(f *ScanFinding) bool {
	has := func(text, part string) bool { return strings.Contains(strings.ToLower(text), strings.ToLower(part)) }
	if q.Severity != "" && f.Severity.String() != q.Severity {
		return false
	}
	if q.Exclude != "" && (has(f.ID, q.Exclude) || has(f.Title, q.Exclude)) {
		return false
	}
	return q.Search == "" || has(f.ID, q.Search) || has(f.Title, q.Search) ||
		slices.ContainsFunc(f.Packages, func(p FindingPackage) bool { return has(p.Name, q.Search) })
}

// Of returns what q wants of all findings of an image, each ID once. It may reorder
// them.
func (q FindingQuery) Of(all []ScanFinding) (FindingPage, error) {
	if err := q.Check(); err != nil {
		return FindingPage{}, err
	}
	page := FindingPage{Items: []ScanFinding{}}
	var selected []ScanFinding
	for i := range all {
		if s := all[i].Severity; s <= SeverityCritical {
			page.Counts[s]++
		}
		if q.selects(&all[i]) {
			selected = append(selected, all[i])
		}
	}
	slices.SortFunc(selected, func(a, b ScanFinding) int {
		switch q.Sort {
		case ByID:
			return strings.Compare(a.ID, b.ID)
		case ByIDDown:
			return strings.Compare(b.ID, a.ID)
		}
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), strings.Compare(a.ID, b.ID))
	})
	page.Total = int64(len(selected))
	selected = selected[min(q.Offset, len(selected)):]
	if q.Limit > 0 {
		selected = selected[:min(q.Limit, len(selected))]
	}
	page.Items = append(page.Items, selected...)
	return page, nil
}

// MergeFindings returns the findings of several images as those of one: each ID
// once, ordered by ID, with all its packages, ordered by name, path, version and layer.
func MergeFindings(images ...[]ScanFinding) []ScanFinding {
	byID := make(map[string]*ScanFinding)
	for _, all := range images {
		for _, f := range all {
			have := byID[f.ID]
			if have == nil {
				c := f
				c.Packages = slices.Clone(f.Packages)
				byID[f.ID] = &c
				continue
			}
			have.Severity = max(have.Severity, f.Severity)
			for _, p := range f.Packages {
				if !slices.Contains(have.Packages, p) {
					have.Packages = append(have.Packages, p)
				}
			}
		}
	}
	merged := make([]ScanFinding, 0, len(byID))
	for _, f := range byID {
		slices.SortFunc(f.Packages, func(a, b FindingPackage) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Path, b.Path), strings.Compare(a.Version, b.Version), strings.Compare(string(a.Layer), string(b.Layer)))
		})
		merged = append(merged, *f)
	}
	slices.SortFunc(merged, func(a, b ScanFinding) int { return strings.Compare(a.ID, b.ID) })
	return merged
}

// WithoutFindings returns those of more whose ID is in none of less.
func WithoutFindings(more, less []ScanFinding) []ScanFinding {
	known := make(map[string]bool, len(less))
	for _, f := range less {
		known[f.ID] = true
	}
	return slices.DeleteFunc(slices.Clone(more), func(f ScanFinding) bool { return known[f.ID] })
}

// WebAddress returns an address that strangers wrote if it leads to a page, by http or
// https, and else "": nobody shall come to click on what is code.
func WebAddress(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	return text
}
