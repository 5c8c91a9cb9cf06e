package registry

import (
	"context"
	"io"
)

// Scans knows what is in images, and which of it has known vulnerabilities.
//
// It decides nothing about rights: who asks about an image has been allowed by the
// [Catalog] to read it before. Images are manifests by digest, whatever repositories
// they are in. An index is what its images are together. The methods of
// [ScanControl] are for administrators, and whoever passes them on decides who that
// is.
type Scans interface {
	ScanReports
	Vulnerabilities
	Bills
	ScanControl
	Checker
}

// MaxScanned is how many images one question of [ScanReports] or [Vulnerabilities]
// may name.
const MaxScanned = 10_000

// ScanReports is the part of [Scans] about single images.
type ScanReports interface {
	// ScanStatus returns what became of the image d of repo. One that nobody has
	// scanned is queued by that, before those that nobody asked for.
	ScanStatus(ctx context.Context, repo Name, d Digest) (ScanStatus, error)

	// ScanStatuses returns the same of several images, in their order, and queues
	// nothing: State is "" for those that are not known.
	ScanStatuses(ctx context.Context, images []Digest) ([]ScanStatus, error)

	// Findings returns what was found in the image d as q wants it. An image that is
	// not scanned has none.
	Findings(ctx context.Context, d Digest, q FindingQuery) (FindingPage, error)
}

// Vulnerabilities is the part of [Scans] about one vulnerability, or two images.
type Vulnerabilities interface {
	// FindingsDiff returns what was found in an image of more and in none of less.
	FindingsDiff(ctx context.Context, more, less []Digest, q FindingQuery) (FindingPage, error)

	// AffectedImages lists the images that have the vulnerability id, by digest, from the
	// one behind p.After on. Those of an index are listed, and the index itself is.
	AffectedImages(ctx context.Context, id string, p Page[Digest]) (List[Digest], error)

	// AffectedOf tells of each of some images, in their order, whether it has the
	// vulnerability id.
	AffectedOf(ctx context.Context, id string, images []Digest) ([]Affection, error)
}

// Affection says whether an image has a vulnerability.
type Affection string

// What [Vulnerabilities.AffectedOf] knows.
const (
	NotScanned  Affection = "" // so nobody knows
	IsAffected  Affection = "affected"
	NotAffected Affection = "clean"
)

// Bills is the part of [Scans] that writes bills of materials.
type Bills interface {
	// SBOM returns a bill of materials of the image d of repo, which is scanned for it
	// if need be. [ErrParameterInvalid] for another format; [ErrUnavailable] if the
	// image can't be scanned, [ErrTooLarge] if the bill is.
	SBOM(ctx context.Context, repo Name, d Digest, f SBOMFormat) ([]byte, error)

	// AttachSBOM stores one in repo as a referrer of d, on behalf of a, and returns
	// the digest of its manifest.
	AttachSBOM(ctx context.Context, a Actor, repo Name, d Digest, f SBOMFormat) (Digest, error)
}

// SBOMFormat is a format of bills of materials.
type SBOMFormat string

// The formats.
const (
	CycloneDX SBOMFormat = "cyclonedx" // CycloneDX 1.6, JSON
	SPDX      SBOMFormat = "spdx-json" // SPDX 2.3, JSON
)

// MediaType returns the media type of bills in that format, "" if there is none such.
func (f SBOMFormat) MediaType() string {
	switch f {
	case CycloneDX:
		return "application/vnd.cyclonedx+json"
	case SPDX:
		return "application/spdx+json"
	}
	return ""
}

// ScanControl is the part of [Scans] for people.
type ScanControl interface {
	// ScanNow queues an image before all others, also one that is scanned, and one
	// whose scan has failed. What was found before holds until then.
	ScanNow(ctx context.Context, repo Name, d Digest) error

	// ScanQueue tells what is scanned now, what waits, and how the scanner is.
	ScanQueue(ctx context.Context) (ScanQueue, error)

	// UpdateDB fetches the vulnerability database if there is a newer one, and
	// returns when it is in use.
	UpdateDB(ctx context.Context) (ScanDB, error)

	// ImportDB takes a vulnerability database from r: the layer of its artifact (tar
	// and gzip), or trivy.db itself. One that is not valid is [ErrParameterInvalid],
	// and the one in use stays.
	ImportDB(ctx context.Context, r io.Reader) (ScanDB, error)
}

// ScanState says how far the scan of an image has come.
type ScanState string

// The states.
const (
	ScanQueued      ScanState = "queued"
	ScanRunning     ScanState = "scanning"
	ScanDone        ScanState = "done"
	ScanFailed      ScanState = "failed"      // Reason says why; it is not tried again by itself
	ScanUnsupported ScanState = "unsupported" // there is nothing in it that can be scanned
)

// ScanStatus is what became of an image.
type ScanStatus struct {
	Digest Digest    `json:"digest"`
	State  ScanState `json:"state"` // "": nobody has heard of it
	// Reason why the state is what it is; "limit: " begins it if the image is more
	// than may be scanned.
	Reason string         `json:"reason,omitempty"`
	Counts SeverityCounts `json:"counts"`
	// DB is the version of the database that Counts are of; "" if there was none: then
	// the packages are known, and nothing of vulnerabilities.
	DB string `json:"db,omitempty"`
	At int64  `json:"at,omitempty"` // end of the scan, microseconds since 1970
	// Packages is how many the image has.
	Packages int64 `json:"packages"`
	// OS as in "debian 12.5"; "" if it has none.
	OS string `json:"os,omitempty"`
}

// Known reports whether Counts are those of a scan, the last one: also while the image
// waits for another, or is being scanned again.
func (s ScanStatus) Known() bool {
	return s.DB != "" && (s.State == ScanDone || s.State == ScanQueued || s.State == ScanRunning)
}

// Scanned reports whether the image was scanned with what it can tell, be it that there
// was no database to look it up in.
func (s ScanStatus) Scanned() bool { return s.State == ScanDone || s.Known() }

// Severity of a vulnerability, from 0, unknown, to 4.
type Severity uint8

// The severities.
const (
	SeverityUnknown Severity = iota
	SeverityLow
	SeverityMedium
	SeverityHigh
	SeverityCritical
)

var severities = [...]string{"UNKNOWN", "LOW", "MEDIUM", "HIGH", "CRITICAL"}

// String returns the name that zot and Trivy use.
func (s Severity) String() string {
	if int(s) < len(severities) {
		return severities[s]
	}
	return severities[0]
}

// MarshalText implements [encoding.TextMarshaler].
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Severity) UnmarshalText(b []byte) (err error) {
	*s, err = ParseSeverity(string(b))
	return err
}

// ParseSeverity returns the severity of a name, in upper case.
func ParseSeverity(name string) (Severity, error) {
	for i, n := range severities {
		if n == name {
			return Severity(i), nil
		}
	}
	return 0, ErrParameterInvalid.With("%q is no severity: want UNKNOWN, LOW, MEDIUM, HIGH or CRITICAL", name)
}

// SeverityCounts counts vulnerabilities by [Severity].
type SeverityCounts [5]int64

// Total returns how many there are.
func (c SeverityCounts) Total() (n int64) {
	for _, x := range c {
		n += x
	}
	return n
}

// Max returns the highest severity, as a name: "NONE" if nothing was found.
func (c SeverityCounts) Max() string {
	for s := len(c) - 1; s >= 0; s-- {
		if c[s] > 0 {
			return severities[s]
		}
	}
	return "NONE"
}

// ScanFinding is a vulnerability of an image.
type ScanFinding struct {
	ID          string           `json:"id"` // as in CVE-2024-3094
	Severity    Severity         `json:"severity"`
	Title       string           `json:"title,omitempty"`
	Description string           `json:"description,omitempty"`
	Reference   string           `json:"reference,omitempty"` // URL
	Packages    []FindingPackage `json:"packages"`
}

// FindingPackage is a package that has a vulnerability.
type FindingPackage struct {
	Name    string `json:"name"`
	Path    string `json:"path,omitempty"` // file of the image, "" for packages of its OS
	Version string `json:"version"`
	Fixed   string `json:"fixed,omitempty"` // versions without it, "" if there is none
	Layer   Digest `json:"layer,omitempty"` // that it came with
}

// FindingSort is an order of findings.
type FindingSort string

// The orders. Those of one severity are ordered by ID.
const (
	BySeverity FindingSort = "" // the worst first
	ByID       FindingSort = "id"
	ByIDDown   FindingSort = "id-down"
)

// FindingQuery selects findings.
type FindingQuery struct {
	// Search is a text that must be in the ID, the title, or the name of a package, in
	// any letter case; "" for all.
	Search string
	// Exclude leaves out those with that text in the ID or title; "" for none.
	Exclude string
	// Severity selects one, by its name; "" for all.
	Severity string
	Sort     FindingSort
	Offset   int // how many to leave out
	Limit    int // 0 for all
}

// FindingPage is a part of the findings that a query selects.
type FindingPage struct {
	Items []ScanFinding `json:"items"`
	Total int64         `json:"total"` // that the query selects
	// Counts are those of all findings, whatever the query selects.
	Counts SeverityCounts `json:"counts"`
}

// ScanDB is a vulnerability database.
type ScanDB struct {
	// Version is new for each content. "" if there is none.
	Version string `json:"version"`
	Updated int64  `json:"updated,omitempty"` // when it was made, microseconds since 1970
	Next    int64  `json:"next,omitempty"`    // when its makers said they would make the next
	Loaded  int64  `json:"loaded,omitempty"`  // when it came here
	Source  string `json:"source,omitempty"`  // where it is from
	Error   string `json:"error,omitempty"`   // of the last attempt to renew it
}

// ScanQueue is what the scanner does.
type ScanQueue struct {
	DB      ScanDB        `json:"db"`
	Running []RunningScan `json:"running"`
	Waiting int64         `json:"waiting"`
	// Stale images were looked up in an older database, and will be again.
	Stale  int64 `json:"stale"`
	Done   int64 `json:"done"`
	Failed int64 `json:"failed"`
	// Unsupported have nothing that can be scanned.
	Unsupported int64 `json:"unsupported"`
}

// RunningScan is an image that is being scanned.
type RunningScan struct {
	Digest     Digest `json:"digest"`
	Repository Name   `json:"repository"`
	Layers     int64  `json:"layers"`
	LayersDone int64  `json:"layersDone"`
	Bytes      int64  `json:"bytes"` // read of its layers
	Since      int64  `json:"since"` // microseconds since 1970
}
